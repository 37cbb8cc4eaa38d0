//! How long a failed run waits for its next attempt.

use std::time::Duration;

/// A delay that doubles with each attempt, from `first` up to `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The delay after the first attempt.
    pub first: Duration,
    /// The longest delay.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff { first: Duration::from_secs(60), max: Duration::from_secs(3600) }
    }
}

impl Backoff {
    /// The delay after the failed attempt of this number; the first attempt is number 1.
    pub fn delay(self, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(30);
        self.first.saturating_mul(1 << doublings).min(self.max)
    }
}
