//! The ledger of a warehouse: runs, events, the queue, schedules, deployments and the states of tables.
//!
//! Every run, by hand, by cron or by event, is begun here, holds its job's lease while its process
//! lives, and leaves one row. What an event or a slot of a schedule causes is an entry of the queue,
//! which is created once, however many processes look at the event and however often.
//!
//! The ledger is one SQLite file that all processes of a warehouse share. It never holds data of the
//! source. A table's position is committed with its rows in the target; the copy in the ledger is for
//! display. When the file is lost, history is lost, and the next runs still continue correctly.

mod error;

mod rows;

mod instant;
mod lease;
mod schema;

mod ledger;
mod run;

mod follow;
mod logs;
mod prune;
mod queue;
mod schedules;

mod functions;
mod invocations;
mod models;
mod requests;
mod trainings;

#[cfg(test)]
mod tests;

pub use error::{Error, Kind, Result};
pub use functions::{AliasRow, Deployment, FunctionRow, FunctionVersionRow, LayerRow, ResolvedVersion};
pub use invocations::{
    ClaimedInvocation, Delivery, FollowUp, Invocation, InvocationEnd, InvocationLimits, InvocationRow,
    InvocationTotals, PutOutcome,
};
pub use ledger::{Ledger, NamedLease};
pub use logs::LogRow;
pub use models::{ContentKind, EndpointEnd, EndpointRow, EndpointState, NamedContent};
pub use prune::{JobCounts, LedgerCounts, PruneCounts};
pub use queue::{AttemptEnd, CancelOutcome, QueueEntry, QueueRow};
pub use requests::RequestCount;
pub use rows::{EventRow, RunRow, RunTableRow, TransferTableRow, ValidationRow};
pub use run::{Outcome, Run, RunStart, TableOutcome};
pub use schedules::{ScheduleDefinition, ScheduleRow};
pub use trainings::{ModelVersionRow, NewVersion, TrainingEnd, TrainingRow, TrainingState};
