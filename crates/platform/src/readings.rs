//! Generates the 10-minute series as the platform receives them: the true output, rounded, with readings that telemetry
//! loses or damages and that are corrected some days later.

use rand::Rng;

use crate::Scale;
use crate::calendar::{STEP_S, STEPS_PER_DAY};
use crate::output::{Output, Plant};
use crate::random::stream;

/// The greatest number of days from a bad reading to its correction.
pub(crate) const CORRECTION_DAYS_MAX: u32 = 5;

/// The quality of a reading, as in the platform's type of this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quality {
    Measured,
    Corrected,
    Estimated,
    Invalid,
    Missing,
    Outage,
}

impl Quality {
    /// The value in the database.
    pub fn label(self) -> &'static str {
        match self {
            Self::Measured => "measured",
            Self::Corrected => "corrected",
            Self::Estimated => "estimated",
            Self::Invalid => "invalid",
            Self::Missing => "missing",
            Self::Outage => "outage",
        }
    }
}

/// A reading of a site's meter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Reading {
    /// The start of its 10 minutes.
    pub at: i64,
    /// The mean power; `None` where it is missing.
    pub power_kw: Option<f64>,
    /// The difference of a meter's index in Wh, so that the sum of a day is exact to the Wh; `None` where it is
    /// missing.
    pub energy_wh: Option<i64>,
    /// Its quality.
    pub quality: Quality,
}

/// The readings of a site on one day, and the later day on which the bad ones are corrected.
pub(crate) struct SiteDay {
    truth: Vec<Reading>,
    received: Vec<Reading>,
    corrected_on: u32,
}

impl SiteDay {
    /// Generates the readings of a day, counted from the start of the history.
    pub fn new(scale: &Scale, output: &Output, plant: &Plant, day: u32) -> Self {
        let mut rng = stream(scale.seed, "readings", plant.site.id, day);
        let truth = truth(scale, output, plant, day);
        let mut received = truth.clone();
        // Every day at least one reading is bad, and on about every fourth day a sequence of them.
        let damaged = rng.random_range(0..STEPS_PER_DAY);
        damage(&mut received, damaged, 1, Quality::Estimated, plant);
        let (first, length) = (rng.random_range(0..STEPS_PER_DAY - 40), rng.random_range(3..40));
        let quality = [Quality::Estimated, Quality::Estimated, Quality::Missing, Quality::Invalid];
        let quality = quality[rng.random_range(0..quality.len())];
        if rng.random_bool(0.25) {
            damage(&mut received, first, length, quality, plant);
        }
        Self { truth, received, corrected_on: day + rng.random_range(1..=CORRECTION_DAYS_MAX) }
    }

    /// The readings in the platform at the start of `today`, and the day of the correction where it is over.
    pub fn readings_on(self, today: u32) -> (Vec<Reading>, Option<u32>) {
        if self.corrected_on >= today {
            return (self.received, None);
        }
        let fixed = self.truth.iter().zip(&self.received).map(|(t, r)| if is_bad(r) { corrected(t) } else { *r });
        (fixed.collect(), Some(self.corrected_on))
    }

    /// The corrections that come during `today`.
    pub fn corrections(&self, today: u32) -> Vec<Reading> {
        if self.corrected_on != today {
            return Vec::new();
        }
        self.truth.iter().zip(&self.received).filter(|(_, r)| is_bad(r)).map(|(t, _)| corrected(t)).collect()
    }
}

fn is_bad(reading: &Reading) -> bool {
    matches!(reading.quality, Quality::Estimated | Quality::Invalid | Quality::Missing)
}

fn corrected(truth: &Reading) -> Reading {
    Reading { quality: Quality::Corrected, ..*truth }
}

fn truth(scale: &Scale, output: &Output, plant: &Plant, day: u32) -> Vec<Reading> {
    let start = scale.day_start(day);
    let first = output.step_of(start);
    // In units of 100 W x 10 min, so that the index is exact.
    let mut index = 0;
    let readings = (0..STEPS_PER_DAY).map(|i| {
        let at = start + i as i64 * STEP_S;
        let power_kw = plant.site.rounded(plant.at(first + i));
        let before_wh = index_wh(index);
        index += (power_kw * 10.0).round() as i64;
        let quality = if plant.is_out(at) { Quality::Outage } else { Quality::Measured };
        Reading { at, power_kw: Some(power_kw), energy_wh: Some(index_wh(index) - before_wh), quality }
    });
    readings.collect()
}

/// The index in Wh: 100 W for 10 minutes are 50/3 Wh.
fn index_wh(index: i64) -> i64 {
    (index * 50 + 1) / 3
}

fn damage(readings: &mut [Reading], first: usize, length: usize, quality: Quality, plant: &Plant) {
    // Estimated by the last value before.
    let last_valid = readings[first.saturating_sub(1)];
    for reading in readings.iter_mut().skip(first).take(length) {
        reading.quality = quality;
        (reading.power_kw, reading.energy_wh) = match quality {
            Quality::Missing => (None, None),
            // An invalid value of telemetry: more than the plant's rated power.
            Quality::Invalid => (Some(plant.site.rounded(plant.site.pmax_kw * 1.31)), None),
            _ => (last_valid.power_kw, last_valid.energy_wh),
        };
    }
}
