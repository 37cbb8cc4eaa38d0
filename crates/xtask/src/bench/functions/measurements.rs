//! Measured invocations by case, function and contender.

use serde_json::{Value, json};

/// Milliseconds of invocations.
pub type Times = Vec<f64>;

/// All series of the benchmark.
#[derive(Default)]
pub struct Measurements(Vec<Series>);

/// The invocations of one function by one contender in one case.
pub struct Series {
    /// Such as "warm" or "cold".
    pub case: &'static str,
    pub function: String,
    pub contender: &'static str,
    /// In the order of measurement.
    pub times_ms: Times,
    /// The number of failed invocations.
    pub failed: u32,
}

impl Measurements {
    /// Adds times to a series.
    pub fn add(&mut self, case: &'static str, function: &str, contender: &'static str, times: Times) {
        if !times.is_empty() {
            self.series(case, function, contender).times_ms.extend(times);
        }
    }

    /// Adds failed invocations to a series.
    pub fn fail(&mut self, case: &'static str, function: &str, contender: &'static str, count: u32) {
        self.series(case, function, contender).failed += count;
    }

    /// All series by case, then in the order of their first measurement.
    pub fn all(&self) -> Vec<&Series> {
        let mut all: Vec<&Series> = self.0.iter().collect();
        let place = |case: &str| self.0.iter().position(|series| series.case == case);
        all.sort_by_key(|series| place(series.case));
        all
    }

    fn series(&mut self, case: &'static str, function: &str, contender: &'static str) -> &mut Series {
        let same = |s: &Series| (s.case, s.function.as_str(), s.contender) == (case, function, contender);
        let at = self.0.iter().position(same).unwrap_or_else(|| {
            self.0.push(Series { case, function: function.to_owned(), contender, times_ms: Vec::new(), failed: 0 });
            self.0.len() - 1
        });
        &mut self.0[at]
    }
}

impl Series {
    /// The percentile by the nearest rank; None where nothing was measured.
    pub fn percentile(&self, percent: usize) -> Option<f64> {
        let mut sorted = self.times_ms.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied()
    }

    /// The series with its percentiles and all times, as JSON.
    pub fn json(&self) -> Value {
        let micros: Vec<u64> = self.times_ms.iter().map(|ms| (ms * 1e3).round() as u64).collect();
        json!({
            "case": self.case, "function": self.function, "contender": self.contender, "answered": micros.len(),
            "failed": self.failed, "min_ms": self.percentile(0), "p50_ms": self.percentile(50),
            "p90_ms": self.percentile(90), "p99_ms": self.percentile(99), "times_us": micros,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_series_grows() {
        let mut measured = Measurements::default();
        measured.add("warm", "native", "wattlake", vec![3.0, 1.0]);
        measured.add("cold", "native", "wattlake", vec![9.0]);
        measured.add("warm", "native", "wattlake", vec![2.0]);
        measured.add("warm", "r", "emulator", vec![]);
        measured.fail("warm", "native", "wattlake", 4);
        let all = measured.all();
        assert_eq!(
            all.iter().map(|s| (s.case, s.times_ms.len(), s.failed)).collect::<Vec<_>>(),
            [("warm", 3, 4), ("cold", 1, 0)]
        );
        assert_eq!([0, 50, 99].map(|p| all[0].percentile(p)), [Some(1.0), Some(2.0), Some(3.0)]);
        assert_eq!(Series { times_ms: vec![], ..measured.0.remove(0) }.percentile(50), None);
    }
}
