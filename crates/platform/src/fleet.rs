//! Generates the sites: their producers, locations and sizes. `registry` writes them as rows.

use chrono::NaiveDate;
use rand::Rng;

use crate::Scale;
use crate::random::stream;

/// How a site generates power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Technology {
    Wind,
    Solar,
    Hydro,
}

impl Technology {
    /// The value in the database.
    pub fn label(self) -> &'static str {
        match self {
            Self::Wind => "wind",
            Self::Solar => "solar",
            Self::Hydro => "hydro",
        }
    }
}

/// A power plant of one or several units.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    /// The identifier, from 1 on.
    pub id: u32,
    /// The identifier of its producer.
    pub producer_id: u32,
    /// Its name, in French.
    pub name: String,
    /// How it generates power.
    pub technology: Technology,
    /// In degrees north.
    pub latitude: f64,
    /// In degrees east.
    pub longitude: f64,
    /// The day of its commissioning.
    pub commissioned: NaiveDate,
    /// The rated power of all units together.
    pub pmax_kw: f64,
    /// The number of its units.
    pub units: u32,
    /// The mean wind speed at the hub.
    pub wind_m_s: f64,
}

impl Site {
    /// The resolution of the site's meter: 1 kW for a large plant, 100 W for a small one.
    pub fn resolution_kw(&self) -> f64 {
        if self.pmax_kw >= 10_000.0 { 1.0 } else { 0.1 }
    }

    /// A power, rounded to the meter's resolution.
    pub fn rounded(&self, power_kw: f64) -> f64 {
        round_to(power_kw, self.resolution_kw())
    }
}

/// The value, rounded to a multiple of a decimal resolution, such as 1 or 0.1.
pub(crate) fn round_to(value: f64, resolution: f64) -> f64 {
    let per_unit = (1.0 / resolution).round();
    (value * per_unit).round() / per_unit
}

/// All sites of a scale.
pub(crate) fn sites(scale: &Scale) -> Vec<Site> {
    (1..=scale.sites).map(|id| site(scale, id)).collect()
}

/// The number of producers: each has up to three sites.
pub(crate) fn producers(scale: &Scale) -> u32 {
    scale.sites.div_ceil(3)
}

fn site(scale: &Scale, id: u32) -> Site {
    use Technology::{Hydro, Solar, Wind};
    const MIX: [Technology; 10] = [Wind, Solar, Hydro, Wind, Solar, Wind, Solar, Solar, Wind, Hydro];
    let mut rng = stream(scale.seed, "site", id, 0);
    let technology = MIX[(id - 1) as usize % MIX.len()];
    let (prefix, places): (_, &[Place]) = match technology {
        Wind => ("Parc éolien", &WIND_PLACES),
        Solar => ("Centrale solaire", &SOLAR_PLACES),
        Hydro => ("Centrale hydroélectrique", &HYDRO_PLACES),
    };
    let rank = id as usize - 1;
    let (place, latitude, longitude) = places[rank % places.len()];
    let suffix = if rank / places.len() == 0 { String::new() } else { format!(" {}", rank / places.len() + 1) };
    let (units, unit_kw) = match technology {
        Wind => (rng.random_range(3..=8), [2_000.0, 2_200.0, 3_000.0, 3_600.0][rng.random_range(0..4)]),
        Solar => (rng.random_range(1..=6), f64::from(rng.random_range(4..=20_u32)) * 250.0),
        Hydro => (rng.random_range(1..=3), f64::from(rng.random_range(6..=60_u32)) * 50.0),
    };
    Site {
        id,
        producer_id: id.div_ceil(3),
        name: format!("{prefix} {place}{suffix}"),
        technology,
        latitude: round_to(latitude + rng.random_range(-0.15..0.15), 0.0001),
        longitude: round_to(longitude + rng.random_range(-0.2..0.2), 0.0001),
        commissioned: NaiveDate::from_ymd_opt(
            rng.random_range(2006..2024),
            rng.random_range(1..=12),
            rng.random_range(1..=28),
        )
        .unwrap_or_default(),
        pmax_kw: f64::from(units) * unit_kw,
        units,
        wind_m_s: rng.random_range(6.0..7.6),
    }
}

/// Name with its article, latitude, longitude.
type Place = (&'static str, f64, f64);

const WIND_PLACES: [Place; 9] = [
    ("du Plateau de Langres", 47.86, 5.33),
    ("des Côtes de Champagne", 48.95, 4.35),
    ("de l'Épine-aux-Bois", 48.87, 3.47),
    ("du Lauragais", 43.43, 1.82),
    ("des Monts d'Arrée", 48.41, -3.88),
    ("de la Thiérache", 49.85, 3.91),
    ("du Santerre", 49.81, 2.72),
    ("de la Haute Lande", 44.30, -0.73),
    ("des Hautes-Vallées de l'Aude", 42.88, 2.18),
];
const SOLAR_PLACES: [Place; 9] = [
    ("de Cestas-Forêt", 44.74, -0.68),
    ("des Mées", 44.03, 5.98),
    ("de la Crau", 43.58, 4.83),
    ("du Gâtinais", 48.01, 2.71),
    ("de Châteaudun-Nord", 48.07, 1.34),
    ("de l'Ariège", 43.11, 1.61),
    ("du Val d'Allier", 46.57, 3.33),
    ("de Saint-Éloi", 46.97, 3.22),
    ("du Périgord vert", 45.40, 0.77),
];
const HYDRO_PLACES: [Place; 7] = [
    ("de la Vallée d'Aure", 42.90, 0.36),
    ("du Vénéon", 45.02, 6.05),
    ("de la Haute Dordogne", 45.58, 2.49),
    ("des Gorges de l'Hérault", 43.73, 3.55),
    ("du Guil", 44.68, 6.68),
    ("de la Moselle à Épinal", 48.18, 6.45),
    ("de l'Arve", 46.02, 6.68),
];
