//! Generates forecasts: the future output, plus an error that grows with the horizon and changes slowly along it.

use rand::Rng;
use rand_distr::StandardNormal;

use crate::Scale;
use crate::calendar::{DAY_S, STEP_S};
use crate::fleet::Technology;
use crate::output::{Output, Plant};
use crate::random::stream;
use crate::sun;

/// The step of forecasts, in seconds.
pub(crate) const STEP_FORECAST_S: i64 = 1_800;
/// The number of steps of a forecast: 48 hours.
pub(crate) const HORIZON_STEPS: i64 = 96;
/// Forecasts are issued at 00, 06, 12 and 18 h UTC.
pub(crate) const ISSUES_PER_DAY: i64 = 4;
/// The 90% quantile of a normal distribution.
const Z90: f64 = 1.2816;

/// The forecast of one half hour.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Forecast {
    /// The start of the half hour.
    pub valid_at: i64,
    /// The expected mean power.
    pub power_kw: f64,
    /// The 10% quantile of the power.
    pub p10_kw: f64,
    /// The 90% quantile of the power.
    pub p90_kw: f64,
}

/// The instants of a day at which forecasts are issued.
pub(crate) fn issue_times(scale: &Scale, day: u32) -> impl Iterator<Item = i64> {
    let start = scale.day_start(day);
    (0..ISSUES_PER_DAY).map(move |i| start + i * DAY_S / ISSUES_PER_DAY)
}

/// The forecasts of a plant for the 48 hours after the instant of their issue.
pub(crate) fn forecasts_of(scale: &Scale, output: &Output, plant: &Plant, issue_at: i64) -> Vec<Forecast> {
    let site = &plant.site;
    let mut rng = stream(scale.seed, "forecast", site.id, (issue_at / 3_600) as u32);
    let mut error: f64 = rng.sample(StandardNormal);
    let forecasts = (1..=HORIZON_STEPS).map(|k| {
        let valid_at = issue_at + k * STEP_FORECAST_S;
        let innovation: f64 = rng.sample(StandardNormal);
        error = 0.93 * error + 0.3676 * innovation;
        let step = output.step_of(valid_at);
        let truth = (0..3).map(|i| plant.at(step + i)).sum::<f64>() / 3.0;
        let spread = spread(plant, truth, valid_at, k) * site.pmax_kw;
        let value = (truth + error * spread).clamp(0.0, site.pmax_kw);
        let bounded = |v: f64| site.rounded(v.clamp(0.0, site.pmax_kw));
        Forecast {
            valid_at,
            power_kw: bounded(value),
            p10_kw: bounded(value - Z90 * spread),
            p90_kw: bounded(value + Z90 * spread),
        }
    });
    forecasts.collect()
}

/// The standard deviation of the error, as a share of the site's power.
fn spread(plant: &Plant, truth_kw: f64, valid_at: i64, k: i64) -> f64 {
    let site = &plant.site;
    let growth = (k as f64 / HORIZON_STEPS as f64).sqrt();
    match site.technology {
        Technology::Wind => 0.02 + 0.13 * growth,
        // At night the error is zero, and at dawn it is bounded by the output under a clear sky.
        Technology::Solar => {
            let middle = valid_at + STEP_S;
            let sky = sun::clear_sky(sun::sine_of_elevation(middle, site.latitude, site.longitude)) / 1_000.0;
            sky.min(1.0) * (0.03 + 0.12 * growth)
        }
        Technology::Hydro => (truth_kw / site.pmax_kw).max(0.02) * (0.01 + 0.12 * growth),
    }
}
