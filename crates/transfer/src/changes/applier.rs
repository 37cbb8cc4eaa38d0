//! What a session needs of its target: it applies the changes of tables, commits them, and says what is durable.

use super::pgoutput::{Message, Relation, Transaction};
use super::status::TableStatus;
use crate::error::Result;
use crate::lsn::Lsn;

/// What ends a session without an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEnd {
    /// It was stopped, or has reached the position up to which it was asked to run.
    Stopped,
    /// A user asks for tables to be read again.
    Replan,
    /// This table, by its name at the source, has to be read again: the log does not have all of its values.
    Reread(String),
}

/// Up to where the log was received.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Received {
    /// All changes before this position; the end of the last complete transaction.
    pub position: Lsn,
    /// When the last complete transaction was committed at the source, in microseconds since 1970.
    pub committed_at: Option<i64>,
}

/// Applies the changes of a session's tables to their target. Its methods block.
pub trait Applier {
    /// Takes note of the columns of a table, which come before its changes in `transaction`. What was received before
    /// ends at `before`.
    fn describe(&mut self, relation: Relation, transaction: Option<Transaction>, before: Lsn) -> Result<()>;

    /// Takes note of columns that a table may have from its next change on.
    fn describe_later(&mut self, relation: Relation);

    /// Applies a change of a transaction; what was received before that ends at `before`.
    fn collect(&mut self, relation: u32, change: &Message<'_>, transaction: Transaction, before: Lsn) -> Result<()>;

    /// Commits what is due, or all. It is called between transactions only.
    fn commit_due(&mut self, received: Received, all: bool) -> Result<()>;

    /// Takes the results of what ended in the background.
    fn poll(&mut self) -> Result<()>;

    /// Ends what runs in the background and, where `received` is present, commits all.
    fn finish(&mut self, received: Option<Received>) -> Result<()>;

    /// The position before which the target has all changes, where those before `received` were received.
    fn durable(&self, received: Lsn) -> Lsn;

    /// Whether something runs in the background.
    fn is_busy(&self) -> bool;

    /// Records what the target has, at intervals, or `now`. Returns the position that can be confirmed to the source.
    fn confirm(&mut self, received: Received, now: bool) -> Result<Lsn>;

    /// How the session has to end, where a table can't go on without that.
    fn end(&mut self) -> Option<SessionEnd>;

    /// The state of the tables, where everything before `received` was received, at a time in microseconds since 1970.
    fn tables(&self, received: Lsn, now: i64) -> Vec<TableStatus>;
}
