//! The control state of every job: which runs there were, what happened, how far each table is.
//!
//! Every run, by hand, by cron or by event, begins here, holds its job's lease while it lives, and
//! leaves one row. Flows follow one another by the events kept here: what an event or a cron slot
//! causes is an entry in the queue, once, whoever looks and however often.
//!
//! One SQLite file, shared by all processes of a warehouse. It never holds data of the platform,
//! and is never the truth about a position: that lands with the rows, in the target's own commit;
//! the copy kept here is a cache for people to read. Losing the file loses history, not agreement.

mod error;

mod rows;

mod instant;
mod lease;
mod schema;

mod ledger;
mod run;

pub mod schedule;

mod follow;
mod logs;
mod prune;
mod queue;
mod schedules;

mod functions;
mod invocations;

#[cfg(test)]
mod tests;

pub use error::{Error, Kind, Result};
pub use functions::{AliasRow, Chosen, Deployment, FunctionRow, FunctionVersionRow, LayerRow};
pub use invocations::{Bounds, Delivery, Ended, Follow, Invocation, InvocationRow, Put, Taken, Totals};
pub use ledger::{Held, Ledger};
pub use logs::LogRow;
pub use prune::{Counts, JobCount, Pruned};
pub use queue::{Cancel, Entry, QueueRow, Settled};
pub use rows::{EventRow, RunRow, RunTableRow, TransferTableRow};
pub use run::{Outcome, Run, Start, TableOutcome};
pub use schedules::ScheduleRow;
