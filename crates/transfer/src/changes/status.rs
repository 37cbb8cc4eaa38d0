//! What a stream reports while it runs, and who decides how long it runs.

use crate::error::Error;
use crate::lsn::Lsn;
use crate::run::TransferReport;

/// What was received of a table, and what was committed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChangeCounts {
    /// The number of inserts in the log.
    pub inserts: u64,
    /// The number of updates in the log.
    pub updates: u64,
    /// The number of deletes in the log.
    pub deletes: u64,
    /// The number of TRUNCATEs in the log.
    pub truncates: u64,
    /// The number of changes of the table's columns.
    pub ddls: u64,
    /// The number of commits.
    pub commits: u64,
    /// The number of rows that were added.
    pub added: u64,
    /// The number of rows that were removed or replaced.
    pub removed: u64,
    /// The size of the files that were written.
    pub bytes: u64,
}

/// The state of one table of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct TableStatus {
    /// `schema.name` at the source.
    pub source: String,
    /// The table's name in the target.
    pub target: String,
    /// What was received and committed since the stream began.
    pub counts: ChangeCounts,
    /// The table has all changes before this position.
    pub durable: Lsn,
    /// The age of the oldest change that was received and is not in the target.
    pub lag_seconds: f64,
    /// Why the table has failed: the message, the state and the hint.
    pub error: Option<(String, Option<&'static str>, Option<String>)>,
}

/// The state of a stream.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StreamStatus {
    /// All changes before this position were received.
    pub received: Lsn,
    /// The position that was confirmed to the source.
    pub confirmed: Lsn,
    /// The number of bytes received since the session began.
    pub bytes: u64,
    /// The tables.
    pub tables: Vec<TableStatus>,
    /// The shards, where the source is a stream.
    pub shards: Vec<ShardStatus>,
}

/// The state of a shard that is read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShardStatus {
    /// Its name.
    pub id: String,
    /// The position before which all messages are applied.
    pub position: u64,
    /// The messages that were not received yet, where that is known.
    pub lag_messages: Option<u64>,
    /// The age of the oldest of them in milliseconds, where that is known.
    pub lag_millis: Option<u64>,
    /// The worker that reads it; empty where nobody does.
    pub worker: String,
}

/// Observes a stream, and decides when it ends. The methods are called from the stream's own thread.
pub trait StreamObserver: Send + Sync {
    /// Tables were read whole before the stream began.
    fn copied(&self, report: &TransferReport);
    /// The state, about once a second and at the end.
    fn report(&self, status: &StreamStatus);
    /// The stream ended by an error, and begins again after a wait.
    fn interrupted(&self, error: &Error, wait: std::time::Duration);
    /// Whether the stream is to end.
    fn should_stop(&self) -> bool;
}
