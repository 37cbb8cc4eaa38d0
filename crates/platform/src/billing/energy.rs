//! What each plant of the portfolio gave by the quarter of an hour, what it was ordered, and what
//! those who look at it know of that: the grid operator's meter, SCADA and the forecast.

use rand::Rng;
use rand_distr::StandardNormal;

use super::QUARTER_S;
use super::portfolio::Agreement;
use super::prices::Prices;
use crate::Scale;
use crate::calendar::{DAY_S, STEP_S};
use crate::fleet::Technology;
use crate::output::{Output, Plant};
use crate::random::stream;

pub(crate) struct Energies {
    from: i64,
    /// Wh by quarters from the start of the scale on: as the plant gave it.
    injected_wh: Vec<i64>,
    forecast_wh: Vec<i64>,
    /// Of the auxiliaries, every quarter alike.
    pub withdrawn_wh: i64,
    pub orders: Vec<Order>,
    /// From, to, the share in percent that is available.
    outages: Vec<(i64, i64, i64)>,
    /// Days on which the grid's telemetry failed: the operator estimated, and corrected later.
    estimated_days: Vec<i64>,
    seed: u64,
    site_id: u32,
}

/// To stand still, given by the aggregator where prices are negative.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub from: i64,
    pub to: i64,
    pub is_followed: bool,
}

impl Energies {
    pub fn new(scale: &Scale, output: &Output, agreement: &Agreement, prices: &Prices) -> Energies {
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
        Energies {
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

    pub fn injected_wh(&self, at: i64) -> i64 {
        self.injected_wh.get(self.place(at)).copied().unwrap_or_default()
    }

    pub fn forecast_wh(&self, at: i64) -> i64 {
        self.forecast_wh.get(self.place(at)).copied().unwrap_or_default()
    }

    /// In percent of the plant's power.
    pub fn availability(&self, at: i64) -> i64 {
        let holding = self.outages.iter().filter(|(from, to, _)| (*from..*to).contains(&at));
        holding.map(|(.., share)| *share).min().unwrap_or(100)
    }

    /// Whether it stands still because it was told to.
    pub fn is_stopped(&self, at: i64) -> bool {
        self.orders.iter().any(|order| order.is_followed && (order.from..order.to).contains(&at))
    }

    /// Over several quarters.
    pub fn sum_wh(&self, at: i64, step_s: i64) -> i64 {
        (0..step_s / QUARTER_S).map(|part| self.injected_wh(at + part * QUARTER_S)).sum()
    }

    pub fn is_estimated(&self, at: i64) -> bool {
        self.estimated_days.binary_search(&((at - self.from) / DAY_S)).is_ok()
    }

    /// What the operator put for a day without telemetry: the same quarter of the day before.
    pub fn estimated_wh(&self, at: i64) -> i64 {
        self.injected_wh(at - DAY_S)
    }

    /// What telemetry of an hour shows: as good as its sensors.
    pub fn scada_wh(&self, at: i64) -> i64 {
        let mut rng = stream(self.seed, "scada", self.site_id, (at / 3_600) as u32);
        let error: f64 = rng.sample(StandardNormal);
        (self.sum_wh(at, 3_600) as f64 * (1.0 + 0.008 * error)).round().max(0.0) as i64
    }
}

/// The mean power of 10 minutes as energy of 15: of every three steps the middle one is shared.
fn by_quarters(plant: &Plant, quarters: usize) -> Vec<i64> {
    let wh = |step: usize| (plant.site.rounded(plant.at(step)) * STEP_S as f64 / 3.6).round() as i64;
    let halves = (0..quarters.div_ceil(2)).flat_map(|half| {
        let (first, middle, last) = (wh(half * 3), wh(half * 3 + 1), wh(half * 3 + 2));
        [first + middle / 2, middle - middle / 2 + last]
    });
    halves.take(quarters).collect()
}

/// Half an hour and more of prices below -1 EUR/MWh; now and then nobody at the plant obeys.
fn orders(scale: &Scale, prices: &Prices) -> Vec<Order> {
    const BELOW_CENTS: i64 = -100;
    const DISOBEYED_EVERY: usize = 9;
    let (start, end) = (scale.day_start(0), scale.day_start(scale.days));
    let mut orders: Vec<Order> = Vec::new();
    let mut at = start;
    while at < end {
        if prices.day_ahead(at) < BELOW_CENTS {
            match orders.last_mut() {
                Some(last) if last.to == at => last.to += QUARTER_S,
                _ => orders.push(Order { from: at, to: at + QUARTER_S, is_followed: true }),
            }
        }
        at += QUARTER_S;
    }
    orders.retain(|order| order.to - order.from >= 2 * QUARTER_S);
    for order in orders.iter_mut().skip(DISOBEYED_EVERY / 2).step_by(DISOBEYED_EVERY) {
        order.is_followed = false;
    }
    orders
}

/// Of the day before: right in the mean, wrong for hours.
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
        // Nobody forecasts light at night, nor wind in a calm: the error grows with what there is.
        let scale = (*wh as f64 / full_wh).sqrt().min(1.0);
        (*wh as f64 + error * spread * scale * full_wh).clamp(0.0, full_wh).round() as i64
    });
    values.collect()
}
