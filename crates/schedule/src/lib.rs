//! When jobs run: cron patterns, periods, what an event causes, and what becomes of an attempt that ended.
//!
//! Pure rules. The clock is an argument, rows of the ledger come in and rows for it go out; nothing here reads or
//! writes the ledger, starts a process or sleeps.

mod period;

mod cron;

mod event_pattern;

mod backoff;

mod rules;

mod planner;

mod attempt;

pub use attempt::{ProcessEnd, end_by_process, end_by_run, end_of_hook};
pub use backoff::Backoff;
pub use cron::{Catchup, Cron, ON_TIME, Slot, due_slots};
pub use event_pattern::{EventPattern, glob};
pub use period::Period;
pub use planner::{DueSlots, FollowUps, HookRules, Planner, UpcomingSlots, hook_of};
pub use rules::{AfterTrigger, CronTrigger, JobRules, RelativePeriod, Trigger};

#[cfg(test)]
mod tests;
