//! The 1-second series of some units: the site's output between its 10-minute steps, with the
//! gusts and the swell that only seconds show.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use crate::Scale;
use crate::calendar::STEP_S;
use crate::fleet::{Technology, round_to};
use crate::output::{Output, Plant};
use crate::random::stream;

/// Seconds after which a gust is forgotten.
const MEMORY_S: f64 = 25.0;

/// One unit's seconds over one hour; each hour can be made alone.
pub(crate) struct FastHour<'a> {
    rng: ChaCha8Rng,
    plant: &'a Plant,
    first_step: usize,
    unit_kw: f64,
    resolution_kw: f64,
    gust: f64,
    keep: f64,
}

impl<'a> FastHour<'a> {
    /// `from` is the start of an hour.
    pub fn new(scale: &Scale, output: &Output, plant: &'a Plant, from: i64) -> Self {
        let mut rng = stream(scale.seed, "fast", plant.site.id, (from / 3_600) as u32);
        let unit_kw = plant.site.pmax_kw / f64::from(plant.site.units);
        Self {
            gust: rng.sample(StandardNormal),
            rng,
            plant,
            first_step: output.step_of(from),
            unit_kw,
            resolution_kw: if unit_kw >= 1_500.0 { 1.0 } else { 0.1 },
            keep: (-1.0 / MEMORY_S).exp(),
        }
    }

    /// kW of the unit; `second` counts from the start of the hour, upwards.
    pub fn power_kw(&mut self, second: i64) -> f32 {
        let step = self.first_step + (second / STEP_S) as usize;
        let weight = (second % STEP_S) as f64 / STEP_S as f64;
        let site_kw = self.plant.at(step) * (1.0 - weight) + self.plant.at(step + 1) * weight;
        let mean = site_kw / f64::from(self.plant.site.units);
        let innovation: f64 = self.rng.sample(StandardNormal);
        self.gust = self.keep * self.gust + (1.0 - self.keep * self.keep).sqrt() * innovation;
        // Gusts matter most in the steep middle of the power curve, and nothing moves at rest.
        let share = (mean / self.unit_kw).clamp(0.0, 1.0);
        let spread = match self.plant.site.technology {
            Technology::Wind => 0.28 * share * (1.0 - share),
            Technology::Solar => 0.012 * share,
            Technology::Hydro => 0.004 * share,
        };
        round_to((mean + self.gust * spread * self.unit_kw).clamp(0.0, self.unit_kw), self.resolution_kw) as f32
    }
}
