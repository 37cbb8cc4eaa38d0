//! A stream of DMS's messages as the source of a transfer: each message becomes a change of a table.
//!
//! Reading order: [`run`] is a worker, whose part of the shards is decided by [`workers`]; each shard is read by
//! [`shard_task`], which parses its messages, and all go to one [`session`]. [`table`] collects the changes of a table as
//! Arrow arrays, by [`cell`], and commits them with the positions of all shards that they come from. What can't be
//! applied is kept by [`quarantine`].
//!
//! A change is applied once: the position of each shard is in the commit of the rows, and a worker that has lost a shard
//! to another finds another position in the table than its own.

mod barrier;
mod cell;
mod cell_text;
mod definitions;
mod end;
mod handler;
mod handler_session;
mod postgres_table;
mod quarantine;
mod removals;
mod replay;
mod rows;
mod run;
mod session;
mod shard_record;
mod shard_states;
mod shard_task;
mod table;
mod worker_part;
mod workers;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use lake::Lake;
use stream::{Address, CredentialsProvider, Start};

use crate::settings::Deletes;

pub use definitions::{owner, tables_without_key};
pub use end::ConsumeEnd;
pub use handler::{BatchHandler, BatchOutcome, HandlerSettings};
pub use postgres_table::PostgresTarget;
pub use quarantine::{Quarantine, QuarantinedMessage};
pub use replay::ReplayRecord;
pub use run::{check_target, run};
pub use shard_record::{ShardRecord, forget_positions};

/// The shard of a message that a user has sent again begins with it.
const RESENT: &str = "resent.";

/// What a worker is asked to do.
#[derive(Clone)]
pub struct ConsumeRequest {
    /// The stream.
    pub address: Address,
    /// Keys for it.
    pub credentials: CredentialsProvider,
    /// The lake.
    pub lake: Lake,
    /// Where the rows go. Records of shards and workers are in the lake.
    pub target: ConsumeTarget,
    /// What is consumed and how.
    pub settings: ConsumeSettings,
    /// The run's id, which is part of the names of the files in the lake.
    pub run: String,
    /// The worker's name among those of the transfer.
    pub worker: String,
    /// The folder of the locks that workers of this machine share.
    pub scratch: PathBuf,
    /// What is called with the messages, in place of tables that they change.
    pub handler: Option<HandlerSettings>,
}

/// Where the rows of a stream go.
#[derive(Clone)]
pub enum ConsumeTarget {
    /// Into the lake.
    Lake,
    /// Into another PostgreSQL.
    Postgres(Box<PostgresTarget>),
}

/// The settings of a transfer that reads a stream.
#[derive(Debug, Clone)]
pub struct ConsumeSettings {
    /// The transfer's name.
    pub name: String,
    /// The program in the commands of hints.
    pub program: String,
    /// The schema of all tables in the lake, in place of their own.
    pub into: Option<String>,
    /// Patterns of `schema.table`; empty for all tables.
    pub include: Vec<String>,
    /// Patterns of tables that are left out.
    pub exclude: Vec<String>,
    /// What happens to rows that the source deletes.
    pub deletes: Deletes,
    /// How long changes may wait for a commit.
    pub commit_interval: Duration,
    /// Where shards begin of which nothing was read.
    pub start: Start,
    /// What a column means that an update leaves out.
    pub left_out: LeftOut,
    /// The keys of tables, by `schema.table`, in place of those in control messages.
    pub keys: BTreeMap<String, Vec<String>>,
}

/// What a column means that an update leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LeftOut {
    /// It is NULL, as with DMS's `IncludeNullAndEmpty = false`.
    #[default]
    Null,
    /// It was not changed.
    Unchanged,
}
