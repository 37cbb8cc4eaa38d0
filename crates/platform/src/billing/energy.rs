//! Generates the energy of each plant in quarters of an hour, its curtailment orders, and the data of other sources
//! about it: the grid operator's meter, SCADA and the forecast.

use rand::Rng;
use rand_distr::StandardNormal;

use super::month::QUARTER_S;
use super::portfolio::Agreement;
use super::prices::Prices;
use crate::Scale;
use crate::calendar::{DAY_S, STEP_S};
use crate::fleet::Technology;
use crate::output::{Output, Plant};
use crate::random::stream;

/// The energy of one plant.
pub(crate) struct SiteEnergy {
    from: i64,
    /// The injected energy of each quarter from the start of the scale on.
    injected_wh: Vec<i64>,
    forecast_wh: Vec<i64>,
    /// The energy that the auxiliaries withdraw in each quarter.
    pub withdrawn_wh: i64,
    /// The curtailment orders, in the order of time.
    pub orders: Vec<CurtailmentOrder>,
    /// Start, end, and the available share of the power in percent.
    outages: Vec<(i64, i64, i64)>,
    /// Days without telemetry, which the grid operator estimates first and corrects later, counted from `from`.
    estimated_days: Vec<i64>,
    seed: u64,
    site_id: u32,
}

/// An order of the aggregator to stop the plant while prices are negative.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CurtailmentOrder {
    /// Its start.
    pub from: i64,
    /// Its end.
    pub to: i64,
    /// Whether the plant stopped.
    pub is_followed: bool,
}

impl SiteEnergy {
    /// Generates the energy of an agreement's plant.
    pub fn new(scale: &Scale, output: &Output, agreement: &Agreement, prices: &Prices) -> SiteEnergy {
        let from = scale.day_start(0);
        let found = output.plants.iter().find(|plant| plant.site.id == agreement.site.id);
        let quarters = (i64::from(scale.days) * DAY_S / QUARTER_S) as usize;
        let mut injected_wh: Vec<i64> = found.map(|plant| by_quarters(plant, quarters)).unwrap_or_default();
        let orders = if agreement.is_curtailed { orders(scale, prices) } else { Vec::new() };
        for order in orders.iter().filter(|order| order.is_followed) {
            let range = (order.from - from) / QUARTER_S..(order.to - from) / QUARTER_S;
            for wh in &mut injected_wh[range.start as usize..range.end as usize] {
                *wh = 0;
            }
        }
        let mut rng = stream(scale.seed, "telemetry", agreement.site.id, 0);
        let estimated_days = (0..i64::from(scale.days)).filter(|_| rng.random_bool(0.006)).collect();
        let forecast_wh = forecast(scale, agreement, &injected_wh);
        let percent = |available_kw: f64| (available_kw / agreement.site.pmax_kw * 100.0).round() as i64;
        let outages = found.into_iter().flat_map(|plant| &plant.outages);
        let outages = outages.map(|outage| (outage.from, outage.to, percent(outage.available_kw))).collect();
        SiteEnergy {
            from,
            forecast_wh,
            withdrawn_wh: agreement.auxiliaries_wh(scale.seed),
            orders,
            outages,
            estimated_days,
            seed: scale.seed,
            site_id: agreement.site.id,
            injected_wh,
        }
    }

    fn place(&self, at: i64) -> usize {
        ((at - self.from) / QUARTER_S).max(0) as usize
    }

    /// The injected energy of the quarter at an instant.
    pub fn injected_wh(&self, at: i64) -> i64 {
        self.injected_wh.get(self.place(at)).copied().unwrap_or_default()
    }

    /// The forecast energy of the quarter at an instant.
    pub fn forecast_wh(&self, at: i64) -> i64 {
        self.forecast_wh.get(self.place(at)).copied().unwrap_or_default()
    }

    /// The available power at an instant, in percent of the plant's rated power.
    pub fn availability(&self, at: i64) -> i64 {
        let holding = self.outages.iter().filter(|(from, to, _)| (*from..*to).contains(&at));
        holding.map(|(.., share)| *share).min().unwrap_or(100)
    }

    /// Whether the plant is stopped by a curtailment order.
    pub fn is_stopped(&self, at: i64) -> bool {
        self.orders.iter().any(|order| order.is_followed && (order.from..order.to).contains(&at))
    }

    /// The injected energy of several quarters.
    pub fn sum_wh(&self, at: i64, step_s: i64) -> i64 {
        (0..step_s / QUARTER_S).map(|part| self.injected_wh(at + part * QUARTER_S)).sum()
    }

    /// Whether the day has no telemetry.
    pub fn is_estimated(&self, at: i64) -> bool {
        self.estimated_days.binary_search(&((at - self.from) / DAY_S)).is_ok()
    }

    /// The operator's estimate for a day without telemetry: the same quarter of the day before.
    pub fn estimated_wh(&self, at: i64) -> i64 {
        self.injected_wh(at - DAY_S)
    }

    /// The energy of an hour by SCADA, with the error of its sensors.
    pub fn scada_wh(&self, at: i64) -> i64 {
        let mut rng = stream(self.seed, "scada", self.site_id, (at / 3_600) as u32);
        let error: f64 = rng.sample(StandardNormal);
        (self.sum_wh(at, 3_600) as f64 * (1.0 + 0.008 * error)).round().max(0.0) as i64
    }
}

/// The energy of quarters by the power of 10-minute steps: the middle one of three steps is divided between two
/// quarters.
fn by_quarters(plant: &Plant, quarters: usize) -> Vec<i64> {
    let wh = |step: usize| (plant.site.rounded(plant.at(step)) * STEP_S as f64 / 3.6).round() as i64;
    let halves = (0..quarters.div_ceil(2)).flat_map(|half| {
        let (first, middle, last) = (wh(half * 3), wh(half * 3 + 1), wh(half * 3 + 2));
        [first + middle / 2, middle - middle / 2 + last]
    });
    halves.take(quarters).collect()
}

/// Orders for times of at least half an hour with prices below -1 EUR/MWh. Some of them are not followed.
fn orders(scale: &Scale, prices: &Prices) -> Vec<CurtailmentOrder> {
    const BELOW_CENTS: i64 = -100;
    const NOT_FOLLOWED_EVERY: usize = 9;
    let (start, end) = (scale.day_start(0), scale.day_start(scale.days));
    let mut orders: Vec<CurtailmentOrder> = Vec::new();
    let mut at = start;
    while at < end {
        if prices.day_ahead(at) < BELOW_CENTS {
            match orders.last_mut() {
                Some(last) if last.to == at => last.to += QUARTER_S,
                _ => orders.push(CurtailmentOrder { from: at, to: at + QUARTER_S, is_followed: true }),
            }
        }
        at += QUARTER_S;
    }
    orders.retain(|order| order.to - order.from >= 2 * QUARTER_S);
    for order in orders.iter_mut().skip(NOT_FOLLOWED_EVERY / 2).step_by(NOT_FOLLOWED_EVERY) {
        order.is_followed = false;
    }
    orders
}

/// The forecast of the day before, whose error has the mean 0 and lasts for hours.
fn forecast(scale: &Scale, agreement: &Agreement, injected_wh: &[i64]) -> Vec<i64> {
    let mut rng = stream(scale.seed, "day-ahead", agreement.site.id, 0);
    let mut error: f64 = rng.sample(StandardNormal);
    let full_wh = agreement.site.pmax_kw * 250.0;
    let spread = match agreement.site.technology {
        Technology::Wind => 0.11,
        Technology::Solar => 0.08,
        Technology::Hydro => 0.05,
    };
    let values = injected_wh.iter().map(|wh| {
        error = 0.985 * error + 0.1725 * rng.sample::<f64, _>(StandardNormal);
        // Without sun or wind the forecast is exact: the error grows with the output.
        let scale = (*wh as f64 / full_wh).sqrt().min(1.0);
        (*wh as f64 + error * spread * scale * full_wh).clamp(0.0, full_wh).round() as i64
    });
    values.collect()
}
