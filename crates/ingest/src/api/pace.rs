//! The pace of requests: the least time between the beginnings of two.

use std::time::Duration;

use tokio::time::Instant;

/// How many requests a time: `60/min`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pace {
    interval: Duration,
}

impl Pace {
    /// Parses `10/s`, `60/min`, `1000/h` or `5000/d`.
    pub fn parse(text: &str) -> Option<Pace> {
        let (count, unit) = text.split_once('/')?;
        let count: u32 = count.trim().parse().ok().filter(|count| *count > 0)?;
        let time = base::parse_duration(&format!("1{}", unit.trim()))?;
        Some(Pace { interval: time / count })
    }

    /// Waits until the next request may be sent.
    pub(super) async fn wait(&self, last: &mut Option<Instant>) {
        if let Some(last) = last {
            tokio::time::sleep_until(*last + self.interval).await;
        }
        *last = Some(Instant::now());
    }
}
