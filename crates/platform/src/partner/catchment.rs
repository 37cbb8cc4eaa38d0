//! Made-up catchments: rain in wet and dry spells, a temperature with its seasons, and the flow that a soil and two
//! stores make of them. Plausible, so that a forecast of them has the difficulties of a real one; no number comes from a
//! real river.

use chrono::{Datelike, Days, NaiveDate};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Gamma, Normal};

/// A catchment with its gauge.
#[derive(Debug, Clone, PartialEq)]
pub struct Catchment {
    /// The station's code.
    pub code: String,
    /// The river and the place.
    pub name: String,
    /// The catchment's area.
    pub area_km2: f64,
    /// How long its groundwater flows on, in days.
    pub slow_days: f64,
}

/// A day of a catchment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DayRecord {
    /// The day.
    pub day: NaiveDate,
    /// Precipitation, in mm.
    pub rain_mm: f64,
    /// The mean temperature, in degrees Celsius.
    pub temperature_c: f64,
    /// Potential evapotranspiration, in mm.
    pub evaporation_mm: f64,
    /// The mean flow, in l/s.
    pub flow_ls: f64,
}

/// What a catchment holds, in mm.
struct Stores {
    snow: f64,
    soil: f64,
    /// On the way to the river.
    transit: f64,
    fast: f64,
    slow: f64,
}

const SOIL_MAX: f64 = 180.0;

impl Catchment {
    /// The catchments of the demo.
    pub fn demo() -> Vec<Catchment> {
        let one = |code: &str, name: &str, area_km2, slow_days| Catchment {
            code: code.to_owned(),
            name: name.to_owned(),
            area_km2,
            slow_days,
        };
        vec![
            one("V1020010", "La Verte à Montclair", 182.0, 35.0),
            one("W3050020", "Le Gave à Saint-Aubin", 640.0, 90.0),
        ]
    }

    /// Its days from a first one on. The same seed gives the same days; a later end adds days, and changes none.
    pub fn days(&self, first: NaiveDate, count: usize, seed: u64) -> Vec<DayRecord> {
        let salt = self.code.bytes().fold(0_u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte)));
        let mut random = ChaCha8Rng::seed_from_u64(seed ^ salt);
        let mut stores =
            Stores { snow: 0.0, soil: 0.6 * SOIL_MAX, transit: 1.0, fast: 1.0, slow: self.slow_days * 0.7 };
        let (mut is_wet, mut anomaly) = (false, 0.0);
        // Each day takes the same number of random values, whatever they are.
        let days = (0..count).filter_map(|at| first.checked_add_days(Days::new(at as u64)));
        days.map(|day| {
            let year = f64::from(day.ordinal0()) / 365.25 * std::f64::consts::TAU;
            let summer = -(year - 0.35).cos();
            let [spell, amount, warm, noise]: [u64; 4] = random.random();
            let unit = |bits: u64| bits as f64 / u64::MAX as f64;
            is_wet = unit(spell) < if is_wet { 0.62 } else { 0.24 - 0.05 * summer };
            let rain_mm = if is_wet { of(Gamma::new(0.75, 9.0).ok(), amount) } else { 0.0 };
            anomaly = 0.75 * anomaly + of(Normal::new(0.0, 1.8).ok(), warm);
            let temperature_c = 10.5 + 8.5 * summer + anomaly;
            let evaporation_mm = (1.6 + 1.5 * summer + 0.05 * anomaly).max(0.1);
            let runoff_mm = stores.step(rain_mm, temperature_c, evaporation_mm, self.slow_days);
            let measured = runoff_mm * of(Normal::new(1.0, 0.015).ok(), noise);
            let tenth = |value: f64| (value * 10.0).round() / 10.0;
            DayRecord {
                day,
                rain_mm: tenth(rain_mm),
                temperature_c: tenth(temperature_c),
                evaporation_mm: tenth(evaporation_mm),
                flow_ls: (measured.max(0.0) * self.area_km2 * 1e6 / 86_400.0).round(),
            }
        })
        .collect()
    }
}

/// A value of a distribution by bits of its own.
fn of<D: Distribution<f64>>(distribution: Option<D>, bits: u64) -> f64 {
    distribution.map_or(0.0, |distribution| distribution.sample(&mut ChaCha8Rng::seed_from_u64(bits)))
}

impl Stores {
    /// The runoff of a day, in mm.
    fn step(&mut self, rain: f64, temperature: f64, evaporation: f64, slow_days: f64) -> f64 {
        let melt = self.snow.min(3.5 * temperature.max(0.0));
        let (falls, water) = if temperature < 0.5 { (rain, 0.0) } else { (0.0, rain) };
        self.snow += falls - melt;
        let filled = self.soil / SOIL_MAX;
        let excess = (water + melt) * filled.powf(2.2);
        self.soil = (self.soil + water + melt - excess - evaporation * filled.sqrt()).clamp(0.0, SOIL_MAX);
        let arrived = self.transit / 2.0;
        self.transit += excess - arrived;
        self.fast += 0.4 * arrived;
        self.slow += 0.6 * arrived;
        let (fast, slow) = (self.fast / 5.0, self.slow / slow_days);
        self.fast -= fast;
        self.slow -= slow;
        fast + slow
    }
}

#[cfg(test)]
mod tests {
    use super::Catchment;
    use chrono::NaiveDate;

    #[test]
    fn days_are_the_same_whatever_their_number() {
        let first = NaiveDate::from_ymd_opt(2020, 1, 1).expect("a day");
        for catchment in Catchment::demo() {
            let (few, many) = (catchment.days(first, 400, 7), catchment.days(first, 2000, 7));
            assert_eq!(few, many[..400]);
            let flows: Vec<f64> = many.iter().map(|day| day.flow_ls).collect();
            let mean = flows.iter().sum::<f64>() / flows.len() as f64;
            let (least, most) = flows.iter().fold((f64::MAX, 0.0_f64), |(a, b), flow| (a.min(*flow), b.max(*flow)));
            assert!(least > 0.0 && least < mean / 2.0 && most > 2.0 * mean, "{least} {mean} {most}");
            let rain: f64 = many.iter().map(|day| day.rain_mm).sum::<f64>() / 2000.0 * 365.0;
            assert!((500.0..1500.0).contains(&rain), "{rain}");
        }
    }
}
