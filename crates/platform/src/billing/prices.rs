//! The day-ahead prices of the market, and the prices derived from them: imbalance prices and the reference price M0.

use rand::Rng;
use rand_distr::StandardNormal;

use super::month::{Month, QUARTER_S};
use crate::Scale;
use crate::fleet::Technology;
use crate::market::{ZONES, prices};
use crate::output::Output;
use crate::random::stream;

/// The prices of all months.
pub(crate) struct Prices {
    from: i64,
    /// In hundredths of EUR/MWh, for each quarter from the first month on.
    day_ahead: Vec<i64>,
    imbalance: Vec<i64>,
    /// The output of the country's plants, as shares of their rated power.
    wind: Vec<f64>,
    solar: Vec<f64>,
}

impl Prices {
    /// Generates the prices of these months.
    pub fn new(scale: &Scale, output: &Output, months: &[Month]) -> Prices {
        let from = months.first().map_or(0, |month| month.from);
        let to = months.last().map_or(0, |month| month.to);
        let all = (0..scale.days).flat_map(|day| prices(scale, output, &ZONES[0], day));
        let day_ahead: Vec<i64> =
            all.filter(|price| (from..to).contains(&price.delivery_start)).map(|price| price.cents).collect();
        let mut rng = stream(scale.seed, "imbalance", 0, 0);
        let mut tendency: f64 = rng.sample(StandardNormal);
        let imbalance = day_ahead.iter().map(|cents| {
            // An imbalance of the system lasts for hours.
            tendency = 0.96 * tendency + 0.28 * rng.sample::<f64, _>(StandardNormal);
            cents + (tendency * 1_800.0).round() as i64
        });
        let imbalance = imbalance.collect();
        let at = |at: usize| output.step_of(from + at as i64 * QUARTER_S);
        let wind = (0..day_ahead.len()).map(|quarter| f64::from(output.national_wind[at(quarter)])).collect();
        let solar = (0..day_ahead.len()).map(|quarter| f64::from(output.national_solar[at(quarter)])).collect();
        Prices { from, day_ahead, imbalance, wind, solar }
    }

    fn place(&self, at: i64) -> usize {
        ((at - self.from) / QUARTER_S).max(0) as usize
    }

    /// The day-ahead price at an instant, in hundredths of EUR/MWh.
    pub fn day_ahead(&self, at: i64) -> i64 {
        self.day_ahead.get(self.place(at)).copied().unwrap_or_default()
    }

    /// The imbalance price at an instant, in hundredths of EUR/MWh.
    pub fn imbalance(&self, at: i64) -> i64 {
        self.imbalance.get(self.place(at)).copied().unwrap_or_default()
    }

    /// The price M0 of a month in hundredths of EUR/MWh: the mean of the prices that are not negative, weighted by the
    /// output of the country's plants of the technology; for hydro by time.
    pub fn reference(&self, month: &Month, technology: Technology) -> i64 {
        let (mut value, mut weight) = (0.0, 0.0);
        for place in month.quarters().map(|at| self.place(at)) {
            let cents = self.day_ahead[place];
            let share = match technology {
                Technology::Wind => self.wind[place],
                Technology::Solar => self.solar[place],
                Technology::Hydro => 1.0,
            };
            if cents >= 0 {
                value += cents as f64 * share;
                weight += share;
            }
        }
        if weight > 0.0 { (value / weight).round() as i64 } else { 0 }
    }
}
