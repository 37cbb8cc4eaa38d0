//! How long to wait before another attempt.

use std::time::Duration;

/// Doubles from the first to the longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    pub first: Duration,
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff { first: Duration::from_secs(60), max: Duration::from_secs(3600) }
    }
}

impl Backoff {
    /// After the attempt of this number, which failed; 1 is the first.
    pub fn delay(self, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(30);
        self.first.saturating_mul(1 << doublings).min(self.max)
    }
}
