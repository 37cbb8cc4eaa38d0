//! The output of run-of-river plants: rain fills two reservoirs, a fast and a slow one, which empty exponentially.

use crate::calendar::{STEP_S, STEPS_PER_DAY, season};

const SLOW_DAYS: f64 = 28.0;
const FAST_DAYS: f64 = 1.6;
/// The flow that the turbines can use, in mm of the basin per day.
const DESIGN_MM: f64 = 2.2;
/// The share of the design flow that stays in the river, which is also the least share that turbines need.
const RESERVED_SHARE: f64 = 0.1;

/// The flow at each step in mm of the basin per day, for rain in mm per step from `start` on.
pub(crate) fn flow(rain_mm: &[f32], start: i64) -> Vec<f32> {
    let keep = |days: f64| (-1.0 / (days * STEPS_PER_DAY as f64)).exp();
    let (keep_slow, keep_fast) = (keep(SLOW_DAYS), keep(FAST_DAYS));
    let (mut slow, mut fast) = (SLOW_DAYS * 0.8, FAST_DAYS * 0.2);
    let steps = rain_mm.iter().enumerate().map(|(i, rain)| {
        // In summer most of the rain evaporates.
        let runoff = f64::from(*rain) * (0.5 + 0.32 * season(start + i as i64 * STEP_S, 20.0));
        slow = slow * keep_slow + 0.6 * runoff;
        fast = fast * keep_fast + 0.4 * runoff;
        (slow / SLOW_DAYS + fast / FAST_DAYS) as f32
    });
    steps.collect()
}

/// The output at a flow, as a share of the rated power.
pub(crate) fn power_share(flow_mm: f32) -> f64 {
    let turbined = f64::from(flow_mm) / DESIGN_MM - RESERVED_SHARE;
    if turbined < RESERVED_SHARE { 0.0 } else { turbined.min(1.0) }
}
