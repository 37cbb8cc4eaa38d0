//! Wind output: a speed with a Weibull-like distribution, through a turbine's power curve.

use crate::calendar::season;

pub(crate) const CUT_IN_M_S: f64 = 3.0;
pub(crate) const RATED_M_S: f64 = 12.0;
pub(crate) const CUT_OUT_M_S: f64 = 25.0;

/// Metres per second at the hub, from a latent of mean 0 and variance 1: Weibull of shape 2 (the
/// logistic stands for the normal distribution), stronger in winter.
pub(crate) fn speed(latent: f32, site_mean: f64, at: i64) -> f64 {
    let exceedance_log = (1.702 * f64::from(latent)).exp().ln_1p();
    site_mean / 0.886 * (1.0 + 0.16 * season(at, 15.0)) * exceedance_log.sqrt()
}

/// The share of the rated power at this speed.
pub(crate) fn power_share(speed: f64) -> f64 {
    let cube = |v: f64| v * v * v;
    if !(CUT_IN_M_S..CUT_OUT_M_S).contains(&speed) {
        0.0
    } else if speed >= RATED_M_S {
        1.0
    } else {
        (cube(speed) - cube(CUT_IN_M_S)) / (cube(RATED_M_S) - cube(CUT_IN_M_S))
    }
}
