//! The true output of each site: computed from the weather, and limited by outages.

use rand::Rng;

use crate::calendar::{DAY_S, STEP_S, STEPS_PER_DAY};
use crate::fleet::{Site, Technology, sites};
use crate::random::stream;
use crate::{Scale, hydro, sun, weather, wind};

/// Days of output after the last day: forecasts need two, and the 1-second series one further step.
const DAYS_BEYOND: u32 = 3;

/// The output of all sites.
pub(crate) struct Output {
    /// The instant of the first step.
    pub start: i64,
    /// The sites with their output.
    pub plants: Vec<Plant>,
    /// The output of the country's wind farms at each step, as a share of their rated power. Prices depend on it.
    pub national_wind: Vec<f32>,
    /// The same for solar plants.
    pub national_solar: Vec<f32>,
}

/// A site with its output.
pub(crate) struct Plant {
    /// The site.
    pub site: Site,
    /// The power at each step of 10 minutes from the start of the history.
    pub power_kw: Vec<f32>,
    /// The outages, in the order of time.
    pub outages: Vec<Outage>,
}

/// A time during which a site's power is limited.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outage {
    /// Its start.
    pub from: i64,
    /// Its end, which is not part of it.
    pub to: i64,
    /// The power that remains available.
    pub available_kw: f64,
    /// Its reason, in French.
    pub reason: &'static str,
}

impl Output {
    /// Computes the output of the history and of `days_after` days that follow it.
    pub fn new(scale: &Scale, days_after: u32) -> Self {
        let start = scale.day_start(0);
        let steps = (scale.days + days_after + DAYS_BEYOND) as usize * STEPS_PER_DAY;
        let national = weather::national(scale.seed, start, steps);
        let at = |i: usize| start + i as i64 * STEP_S;
        let plants = sites(scale).into_iter().map(|site| {
            let local = weather::local(scale.seed, &national, site.id, start);
            let outages = outages(scale, &site, start, at(steps));
            let power_kw = power(&site, &local, &outages, start);
            Plant { site, power_kw, outages }
        });
        // The weather is never the same in all of the country, so its variation is reduced.
        let plants = plants.collect();
        let wind = |i: usize| wind::power_share(wind::speed(0.7 * national.wind[i], 6.6, at(i))) as f32;
        let solar = |i: usize| sun::power_share(at(i), 45.8, 2.2, 0.6 * national.cloud[i]) as f32;
        Self {
            start,
            plants,
            national_wind: (0..steps).map(wind).collect(),
            national_solar: (0..steps).map(solar).collect(),
        }
    }

    /// The step of an instant; the last one for later instants.
    pub fn step_of(&self, at: i64) -> usize {
        (((at - self.start) / STEP_S).max(0) as usize).min(self.national_wind.len() - 1)
    }
}

impl Plant {
    /// The power at a step, in kW.
    pub fn at(&self, step: usize) -> f64 {
        f64::from(self.power_kw[step.min(self.power_kw.len() - 1)])
    }

    /// Whether the site has no power because of an outage.
    pub fn is_out(&self, at: i64) -> bool {
        self.outages.iter().any(|o| o.available_kw == 0.0 && (o.from..o.to).contains(&at))
    }
}

fn power(site: &Site, local: &weather::Weather, outages: &[Outage], start: i64) -> Vec<f32> {
    let steps = local.wind.len();
    let at = |i: usize| start + i as i64 * STEP_S;
    let share: Vec<f64> = match site.technology {
        Technology::Wind => {
            (0..steps).map(|i| wind::power_share(wind::speed(local.wind[i], site.wind_m_s, at(i)))).collect()
        }
        Technology::Solar => {
            let (latitude, longitude) = (site.latitude, site.longitude);
            (0..steps).map(|i| sun::power_share(at(i), latitude, longitude, local.cloud[i])).collect()
        }
        Technology::Hydro => hydro::flow(&local.rain_mm, start).into_iter().map(hydro::power_share).collect(),
    };
    let mut power_kw: Vec<f32> = share.into_iter().map(|s| (s * site.pmax_kw) as f32).collect();
    for outage in outages {
        let first = ((outage.from - start) / STEP_S).max(0) as usize;
        let last = (((outage.to - start) / STEP_S).max(0) as usize).min(steps);
        for value in power_kw.iter_mut().take(last).skip(first) {
            *value = value.min(outage.available_kw as f32);
        }
    }
    power_kw
}

/// The outages of a site: about one per month, total or partial, in whole steps.
fn outages(scale: &Scale, site: &Site, start: i64, end: i64) -> Vec<Outage> {
    let mut rng = stream(scale.seed, "outages", site.id, 0);
    let mut outages = Vec::new();
    let mut at = start;
    loop {
        let gap_days = -28.0 * (1.0 - rng.random::<f64>()).ln();
        let from = (at + (gap_days * DAY_S as f64) as i64) / STEP_S * STEP_S;
        let to = from + rng.random_range(12..=400) * STEP_S;
        let (share, reason) = REASONS[rng.random_range(0..REASONS.len())];
        if from >= end {
            return outages;
        }
        outages.push(Outage { from, to, available_kw: (share * site.pmax_kw).round(), reason });
        at = to;
    }
}

const REASONS: [(f64, &str); 6] = [
    (0.0, "Indisponibilité fortuite du poste de livraison"),
    (0.0, "Travaux programmés sur le réseau"),
    (0.5, "Maintenance préventive"),
    (0.66, "Défaut d'un équipement, pièce commandée"),
    (0.3, "Limitation demandée par le gestionnaire de réseau"),
    (0.75, "Bridage environnemental"),
];
