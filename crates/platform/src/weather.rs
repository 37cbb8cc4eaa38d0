//! The weather behind all curves: what the country shares, and what a site adds.
//!
//! Each series is drawn step after step from the start of the history, so that a longer one begins
//! with the shorter one: a day lived later continues the same weather.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use crate::calendar::{STEP_S, STEPS_PER_DAY, season};
use crate::random::stream;

/// One value for each step of 10 minutes.
pub(crate) struct Weather {
    /// Mean 0, variance 1; high under clouds.
    pub cloud: Vec<f32>,
    /// Mean 0, variance 1; high in wind.
    pub wind: Vec<f32>,
    pub rain_mm: Vec<f32>,
}

pub(crate) fn national(seed: u64, start: i64, steps: usize) -> Weather {
    drawn(seed, "national", 0, start, steps, 1.0)
}

/// Correlated with the country's by 0.75.
pub(crate) fn local(seed: u64, national: &Weather, site_id: u32, start: i64) -> Weather {
    let own = drawn(seed, "local", site_id, start, national.cloud.len(), 0.4);
    let mixed = |shared: &[f32], own: &[f32]| shared.iter().zip(own).map(|(s, o)| 0.866 * s + 0.5 * o).collect();
    Weather {
        cloud: mixed(&national.cloud, &own.cloud),
        wind: mixed(&national.wind, &own.wind),
        rain_mm: national.rain_mm.iter().zip(&own.rain_mm).map(|(s, o)| 0.7 * s + o).collect(),
    }
}

fn drawn(seed: u64, place: &str, id: u32, start: i64, steps: usize, storms: f64) -> Weather {
    let rng = |part| stream(seed, place, id, part);
    // Fronts last half a day, clouds hours; the site's own share changes faster.
    let (cloud_h, wind_h) = if place == "national" { (9.0, 22.0) } else { (1.2, 5.0) };
    Weather {
        cloud: autocorrelated(&mut rng(0), steps, cloud_h),
        wind: autocorrelated(&mut rng(1), steps, wind_h),
        rain_mm: rain(&mut rng(2), start, steps, storms),
    }
}

/// AR(1) of mean 0 and variance 1 that forgets in `memory_h` hours.
fn autocorrelated(rng: &mut ChaCha8Rng, steps: usize, memory_h: f64) -> Vec<f32> {
    let keep = (-(STEP_S as f64) / 3_600.0 / memory_h).exp() as f32;
    let innovation = (1.0 - keep * keep).sqrt();
    let mut value: f32 = rng.sample(StandardNormal);
    let mut values = Vec::with_capacity(steps);
    for _ in 0..steps {
        values.push(value);
        value = keep * value + innovation * rng.sample::<f32, _>(StandardNormal);
    }
    values
}

/// Storms at random, about one in three days at `storms` = 1, more in autumn and winter.
fn rain(rng: &mut ChaCha8Rng, start: i64, steps: usize, storms: f64) -> Vec<f32> {
    let mut rain_mm = vec![0.0; steps];
    for first in 0..steps {
        let at = start + first as i64 * STEP_S;
        let chance = storms * (1.0 + 0.35 * season(at, 330.0)) / (3.0 * STEPS_PER_DAY as f64);
        if rng.random::<f64>() < chance {
            let length: usize = rng.random_range(18..180);
            let depth_mm = -9.0 * (1.0 - rng.random::<f64>()).ln();
            for step in rain_mm.iter_mut().skip(first).take(length) {
                *step += (depth_mm / length as f64) as f32;
            }
        }
    }
    rain_mm
}
