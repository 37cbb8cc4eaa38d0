//! Generates the weather: that of the country, and that of a site, which is correlated with it.
//!
//! Each series is generated step by step from the start of the history, so that a longer one begins with the shorter
//! one: a day that is simulated later continues the same weather.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use crate::calendar::{STEP_S, STEPS_PER_DAY, season};
use crate::random::stream;

/// The weather at each step of 10 minutes.
pub(crate) struct Weather {
    /// A variable of mean 0 and variance 1 that is high under clouds.
    pub cloud: Vec<f32>,
    /// A variable of mean 0 and variance 1 that is high in strong wind.
    pub wind: Vec<f32>,
    /// The rain of the step.
    pub rain_mm: Vec<f32>,
}

/// The weather of the country.
pub(crate) fn national(seed: u64, start: i64, steps: usize) -> Weather {
    generate(seed, "national", 0, start, steps, 1.0)
}

/// The weather of a site. The square of its correlation with the country's is 0.75.
pub(crate) fn local(seed: u64, national: &Weather, site_id: u32, start: i64) -> Weather {
    let own = generate(seed, "local", site_id, start, national.cloud.len(), 0.4);
    let mixed = |shared: &[f32], own: &[f32]| shared.iter().zip(own).map(|(s, o)| 0.866 * s + 0.5 * o).collect();
    Weather {
        cloud: mixed(&national.cloud, &own.cloud),
        wind: mixed(&national.wind, &own.wind),
        rain_mm: national.rain_mm.iter().zip(&own.rain_mm).map(|(s, o)| 0.7 * s + o).collect(),
    }
}

fn generate(seed: u64, place: &str, id: u32, start: i64, steps: usize, storms: f64) -> Weather {
    let rng = |part| stream(seed, place, id, part);
    // The country's clouds and winds last many hours; the site's own part changes faster.
    let (cloud_h, wind_h) = if place == "national" { (9.0, 22.0) } else { (1.2, 5.0) };
    Weather {
        cloud: autocorrelated(&mut rng(0), steps, cloud_h),
        wind: autocorrelated(&mut rng(1), steps, wind_h),
        rain_mm: rain(&mut rng(2), start, steps, storms),
    }
}

/// An AR(1) process of mean 0 and variance 1 with a time constant of `memory_h` hours.
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

/// Random storms, about one in three days where `storms` is 1, more in autumn and winter.
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
