//! The output of wind farms: a wind speed with a distribution like Weibull's, and a turbine's power curve.

use crate::calendar::season;

/// The wind speed from which a turbine runs.
pub(crate) const CUT_IN_M_S: f64 = 3.0;
/// The wind speed from which a turbine has its rated power.
pub(crate) const RATED_M_S: f64 = 12.0;
/// The wind speed from which a turbine stops.
pub(crate) const CUT_OUT_M_S: f64 = 25.0;

/// The wind speed at the hub in m/s, by a variable of mean 0 and variance 1: a Weibull distribution of shape 2 (the
/// logistic distribution approximates the normal one), with stronger wind in winter.
pub(crate) fn speed(latent: f32, site_mean: f64, at: i64) -> f64 {
    let exceedance_log = (1.702 * f64::from(latent)).exp().ln_1p();
    site_mean / 0.886 * (1.0 + 0.16 * season(at, 15.0)) * exceedance_log.sqrt()
}

/// The output at a wind speed, as a share of the rated power.
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
