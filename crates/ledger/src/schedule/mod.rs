//! When something is due, and what an event means to a job: rules without a database or a clock.

mod backoff;
mod cron;
mod pattern;
mod period;

pub use backoff::Backoff;
pub use cron::{Catchup, Cron, ON_TIME, Slot, due_slots};
pub use pattern::{Pattern, glob};
pub use period::Period;

pub use crate::schedules::Kept;

#[cfg(test)]
mod tests;
