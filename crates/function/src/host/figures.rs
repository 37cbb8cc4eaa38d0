//! What a host has counted of each function since it started.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Answer, Outcome};

/// The counts of a function.
#[derive(Debug, Default)]
pub(super) struct Counts {
    invocations: AtomicU64,
    errors: AtomicU64,
    throttles: AtomicU64,
    cold_starts: AtomicU64,
    micros: AtomicU64,
}

/// What a host has counted of a function since it started.
#[derive(Debug, Clone, PartialEq)]
pub struct FunctionFigures {
    /// The function's name.
    pub function: String,
    /// Events that ran.
    pub invocations: u64,
    /// Those that the function has answered with an error, and those that could not be started.
    pub errors: u64,
    /// Events that were refused because a concurrency limit was reached.
    pub throttles: u64,
    /// Events that had to wait for a new instance.
    pub cold_starts: u64,
    /// How long all events ran, without cold starts.
    pub seconds: f64,
    /// Events that run now.
    pub running: u64,
}

impl Counts {
    /// Counts an event that ran.
    pub fn add_run(&self, outcome: &Outcome) {
        add(&self.invocations, 1);
        add(&self.errors, u64::from(matches!(outcome.answer, Answer::Error(_))));
        add(&self.cold_starts, u64::from(outcome.init.is_some()));
        add(&self.micros, u64::try_from(outcome.duration.as_micros()).unwrap_or(u64::MAX));
    }

    /// Counts an event that could not be started.
    pub fn add_failure(&self) {
        add(&self.invocations, 1);
        add(&self.errors, 1);
    }

    /// Counts an event that was refused because a concurrency limit was reached.
    pub fn add_throttle(&self) {
        add(&self.throttles, 1);
    }

    /// The counts so far.
    pub fn figures(&self, function: &str, running: usize) -> FunctionFigures {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        FunctionFigures {
            function: function.to_owned(),
            invocations: count(&self.invocations),
            errors: count(&self.errors),
            throttles: count(&self.throttles),
            cold_starts: count(&self.cold_starts),
            seconds: count(&self.micros) as f64 / 1e6,
            running: running as u64,
        }
    }
}

fn add(count: &AtomicU64, by: u64) {
    count.fetch_add(by, Ordering::Relaxed);
}
