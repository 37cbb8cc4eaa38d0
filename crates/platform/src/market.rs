//! Generates day-ahead prices from the residual load, which is the load less the output of wind and sun, and the signal
//! of tension of the power system from the same residual load.

use rand::Rng;
use rand_distr::StandardNormal;

use crate::Scale;
use crate::calendar::{DAY_S, QUARTER_HOURLY_SINCE, is_weekend, paris, season};
use crate::output::Output;
use crate::random::stream;

/// A bidding zone with its installed power in GW.
pub(crate) struct Zone {
    /// The code of the zone.
    pub code: &'static str,
    id: u32,
    wind_gw: f64,
    solar_gw: f64,
    /// Added to all prices of the zone, in EUR/MWh.
    premium: f64,
}

/// The zones with prices.
pub(crate) const ZONES: [Zone; 4] = [
    Zone { code: "FR", id: 0, wind_gw: 24.0, solar_gw: 27.0, premium: 0.0 },
    Zone { code: "BE", id: 1, wind_gw: 26.0, solar_gw: 27.0, premium: 7.0 },
    Zone { code: "DE-LU", id: 2, wind_gw: 33.0, solar_gw: 31.0, premium: 17.0 },
    Zone { code: "ES", id: 3, wind_gw: 20.0, solar_gw: 33.0, premium: 9.0 },
];

/// A day-ahead price.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Price {
    /// The start of the delivery.
    pub delivery_start: i64,
    /// The length of the delivery, 60 or 15 minutes.
    pub step_min: i32,
    /// The price in hundredths of EUR/MWh.
    pub cents: i64,
}

/// The deviation of the load from the day's mean by local hour, in GW.
const LOAD_SHAPE_GW: [f64; 24] = [
    -4.0, -6.0, -7.0, -7.5, -7.5, -6.0, -2.0, 2.5, 4.5, 4.5, 4.0, 4.0, 4.5, 3.0, 1.5, 0.5, 0.5, 2.0, 5.0, 6.5, 4.5,
    1.5, 0.5, -1.5,
];

/// The residual load, which determines the price: the load less wind, sun and the plants that always run, in GW.
fn residual_gw(output: &Output, zone: &Zone, at: i64) -> f64 {
    let local = paris(at);
    let hour = local.rem_euclid(DAY_S) as f64 / 3_600.0;
    let (before, weight) = (hour as usize % 24, hour.fract());
    let shape = LOAD_SHAPE_GW[before] * (1.0 - weight) + LOAD_SHAPE_GW[(before + 1) % 24] * weight;
    let weekend = if is_weekend(local) { -5.5 } else { 0.0 };
    let load = 52.0 + 12.0 * season(at, 20.0) + shape + weekend;
    let runs_anyway = 30.5 + 6.0 * season(at, 20.0);
    let step = output.step_of(at);
    let renewable =
        zone.wind_gw * f64::from(output.national_wind[step]) + zone.solar_gw * f64::from(output.national_solar[step]);
    load - renewable - runs_anyway
}

fn price(residual_gw: f64) -> f64 {
    let x = residual_gw;
    // Above zero the merit order of thermal plants; below zero plants that pay to continue.
    if x > 0.0 { 17.0 + 3.4 * x + 0.06 * x * x } else { 17.0 + 2.2 * x - 0.03 * x * x }
}

/// The prices of deliveries that begin on this day in UTC: hourly, and by quarters of an hour since 2025-10-01.
pub(crate) fn prices(scale: &Scale, output: &Output, zone: &Zone, day: u32) -> Vec<Price> {
    let mut rng = stream(scale.seed, "prices", zone.id, day);
    let mut noise: f64 = rng.sample::<f64, _>(StandardNormal) * 7.0;
    let start = scale.day_start(day);
    let mut prices = Vec::with_capacity(96);
    for quarter in 0..96 {
        let delivery_start = start + quarter * 900;
        let is_quarterly = delivery_start >= QUARTER_HOURLY_SINCE;
        noise = 0.97 * noise + 1.2 * rng.sample::<f64, _>(StandardNormal);
        if !is_quarterly && quarter % 4 != 0 {
            continue;
        }
        let step_min = if is_quarterly { 15 } else { 60 };
        let middle = delivery_start + i64::from(step_min) * 30;
        let eur = price(residual_gw(output, zone, middle)) + zone.premium + noise;
        // The harmonised limits of the market.
        prices.push(Price { delivery_start, step_min, cents: (eur.clamp(-500.0, 4_000.0) * 100.0).round() as i64 });
    }
    prices
}

/// The level and the message of the signal for the hour of an instant.
pub(crate) fn tension(output: &Output, at: i64) -> (&'static str, &'static str) {
    match residual_gw(output, &ZONES[0], at) {
        x if x > 27.0 => ("red", "Système électrique très tendu : baissons notre consommation"),
        x if x > 23.5 => ("orange", "Système électrique tendu : les écogestes sont les bienvenus"),
        _ => ("green", "Pas de tension : consommation maîtrisée"),
    }
}
