//! The output of solar plants: the position of the sun, the irradiance under a clear sky, and the effect of clouds.

use std::f64::consts::TAU;

use crate::calendar::{DAY_S, season};

/// The sine of the sun's elevation, negative below the horizon; the elevation is exact to about half a degree. Latitude
/// and longitude are in degrees.
pub(crate) fn sine_of_elevation(at: i64, latitude: f64, longitude: f64) -> f64 {
    let day_of_year = (at as f64 / DAY_S as f64).rem_euclid(365.2422);
    // The ellipse of the orbit moves the equinoxes by two days against a plain cosine.
    let ellipse = 1.914_f64.to_radians() * ((day_of_year - 2.0) * TAU / 365.2422).sin();
    let declination = (0.39795 * ((day_of_year - 172.0) * TAU / 365.2422 + ellipse).cos()).asin();
    let b = TAU * (day_of_year - 81.0) / 364.0;
    let equation_of_time_min = 9.87 * (2.0 * b).sin() - 7.53 * b.cos() - 1.5 * b.sin();
    let solar_hour = (at.rem_euclid(DAY_S)) as f64 / 3_600.0 + longitude / 15.0 + equation_of_time_min / 60.0;
    let hour_angle = (solar_hour - 12.0) * 15.0_f64.to_radians();
    let latitude = latitude.to_radians();
    latitude.sin() * declination.sin() + latitude.cos() * declination.cos() * hour_angle.cos()
}

/// The irradiance under a clear sky in W/m2 (Haurwitz), 0 at night.
pub(crate) fn clear_sky(sine: f64) -> f64 {
    if sine <= 0.0 { 0.0 } else { 1_098.0 * sine * (-0.057 / sine).exp() }
}

/// The share of the clear sky's irradiance that passes the clouds (Kasten and Czeplak), by a variable for the clouds of
/// mean 0 and variance 1.
pub(crate) fn transmission(cloud: f32, at: i64) -> f64 {
    let cover = 1.0 / (1.0 + (-1.7 * f64::from(cloud) - 0.5 * season(at, 0.0)).exp());
    1.0 - 0.75 * cover.powf(3.4)
}

/// The output as a share of the inverters' power. The panels are oversized by a fifth, and inverters limit their power.
pub(crate) fn power_share(at: i64, latitude: f64, longitude: f64, cloud: f32) -> f64 {
    let irradiance = clear_sky(sine_of_elevation(at, latitude, longitude)) * transmission(cloud, at);
    (irradiance / 1_000.0 * 1.2 * 0.84).clamp(0.0, 1.0)
}
