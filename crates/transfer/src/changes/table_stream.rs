//! One table in the stream: its changes that wait to be applied, and its columns as the log has them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lake::row_history::HistorySpan;

use super::chunk::{ChunkBuilder, CollectedChunk};
use super::mapping::{KnownColumns, is_described_by, tuple_mapping};
use super::net_effect::Matching;
use super::pgoutput::{Message, Relation, Transaction};
use super::status::{ChangeCounts, TableStatus};
use super::table_writer::{Applied, TableWriter};
use crate::checkpoint::Origin;
use crate::error::{Error, Result};
use crate::lsn::Lsn;
use crate::plan::{Deletes, Settings, TablePlan};

/// The form of the log's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogForm {
    /// Values are in their types' binary format where they have one. Otherwise all are texts.
    pub has_binary: bool,
    /// The database has no encoding: texts may be any bytes.
    pub has_bytes: bool,
}

/// The writer of a table, or where it is.
pub enum WriterState {
    /// Nothing is applied at the moment.
    Idle(Box<TableWriter>),
    /// A task applies changes.
    Busy,
    /// The table does not take part any more: its error is recorded.
    Failed,
}

/// A table in the stream.
pub struct TableStream {
    /// The plan, by which the values are read.
    pub plan: Arc<TablePlan>,
    /// What the lake stores of the columns.
    pub origin: Origin,
    /// The columns by all names that they are known to have had.
    pub known: KnownColumns,
    /// Changes of transactions that were committed before this position are in the lake.
    pub durable: Lsn,
    /// The writer.
    pub writer: WriterState,
    /// The position from which on the table has changes that were not given to a task yet.
    pub collected_from: Option<Lsn>,
    /// The position from which on a task applies changes.
    pub applied_from: Option<Lsn>,
    /// When the oldest of the changes was committed at the source that were not given to a task yet.
    pub oldest_change: Option<i64>,
    /// When the oldest of the changes was committed at the source that a task applies.
    pub oldest_applied: Option<i64>,
    /// The transaction of the last change, by the position of its commit.
    pub last_commit: Lsn,
    /// When the table was last committed.
    pub committed_at: Option<Instant>,
    /// What was received and committed.
    pub counts: ChangeCounts,
    /// Why the table has failed.
    pub error: Option<Error>,
    /// The description before changes that the lake has: it is followed with the first other change.
    pub later: Option<Relation>,
    builder: Option<ChunkBuilder>,
    relation: Option<Relation>,
    /// The number of changes of the transaction `last_commit`.
    sequence: usize,
}

impl TableStream {
    /// A table that has the changes before `durable`.
    pub fn new(plan: TablePlan, origin: Origin, durable: Lsn, writer: TableWriter) -> Self {
        let mut known = KnownColumns::default();
        known.add(&origin);
        TableStream {
            known,
            plan: Arc::new(plan),
            origin,
            durable,
            writer: WriterState::Idle(Box::new(writer)),
            collected_from: None,
            applied_from: None,
            oldest_change: None,
            oldest_applied: None,
            last_commit: Lsn::default(),
            committed_at: None,
            counts: ChangeCounts::default(),
            error: None,
            later: None,
            builder: None,
            relation: None,
            sequence: 0,
        }
    }

    /// `schema.name` at the source.
    pub fn name(&self) -> String {
        self.plan.source.display()
    }

    /// Whether it has failed.
    pub fn is_failed(&self) -> bool {
        matches!(self.writer, WriterState::Failed)
    }

    /// The span of its history that changes are recorded for.
    pub fn history(&self) -> Option<&HistorySpan> {
        self.origin.history.as_ref()?.open()
    }

    /// Whether no task applies changes of it.
    pub fn is_idle(&self) -> bool {
        matches!(self.writer, WriterState::Idle(_))
    }

    /// Whether changes wait for a task or for a commit.
    pub fn has_changes(&self) -> bool {
        self.builder.as_ref().is_some_and(|builder| !builder.is_empty())
            || matches!(&self.writer, WriterState::Idle(writer) if writer.has_uncommitted())
    }

    /// Its state, where the stream has received everything before `received`, at a time in microseconds since 1970.
    pub fn status(&self, received: Lsn, now: i64) -> TableStatus {
        TableStatus {
            source: self.name(),
            target: self.plan.target.to_string(),
            counts: self.counts,
            durable: if self.needs_from().is_some() { self.durable } else { received },
            lag_seconds: self.oldest().map_or(0.0, |at| (now - at).max(0) as f64 / 1e6),
            error: self.error.as_ref().map(|error| (base::chain(error), error.state, error.hint.clone())),
        }
    }

    /// The size of the changes that wait for a task.
    pub fn bytes(&self) -> usize {
        self.builder.as_ref().map_or(0, ChunkBuilder::bytes)
    }

    /// The number of changes that wait for a task.
    pub fn changes(&self) -> usize {
        self.builder.as_ref().map_or(0, ChunkBuilder::len)
    }

    /// The position before which the table needs no change again; `None` where it has all that was received.
    pub fn needs_from(&self) -> Option<Lsn> {
        self.applied_from.or(self.collected_from)
    }

    /// When the oldest of the changes was committed at the source that the lake does not have.
    pub fn oldest(&self) -> Option<i64> {
        self.oldest_applied.or(self.oldest_change)
    }

    /// Whether the table's changes can be committed: it is idle, and was not committed a moment ago.
    pub fn is_due(&self, now: Instant, interval: Duration) -> bool {
        let waited = self.committed_at.is_none_or(|at| now.duration_since(at) >= interval);
        waited && self.is_idle() && self.has_changes()
    }

    /// Whether the description of the table is another one than before.
    pub fn has_changed(&self, relation: &Relation) -> bool {
        self.relation.as_ref() != Some(relation)
    }

    /// Whether the plan was made of another state of the table than this description.
    pub fn needs_plan(&self, relation: &Relation) -> bool {
        self.relation.is_some() || !is_described_by(&self.plan, relation)
    }

    /// Reads the table's changes by another description from now on, and by another plan where there is one.
    pub fn describe(&mut self, relation: Relation, plan: Option<TablePlan>, form: LogForm) -> Result<()> {
        if let Some(plan) = plan {
            self.plan = Arc::new(plan);
        }
        let mapping = tuple_mapping(&self.plan, &self.known, &relation, form.has_binary)?;
        self.builder = Some(ChunkBuilder::new(&self.name(), mapping, form.has_bytes));
        if self.relation.is_some() {
            self.counts.ddls += 1;
        }
        self.relation = Some(relation);
        Ok(())
    }

    /// Collects a change of a transaction; `before` is the end of the transaction before it.
    pub fn collect(&mut self, message: &Message<'_>, before: Lsn, transaction: Transaction) -> Result<()> {
        let builder = self.builder.as_mut().ok_or_else(|| {
            Error::bug(format!("read the log: a change of {} before its description", self.plan.source.display()))
        })?;
        if self.last_commit != transaction.commit {
            (self.last_commit, self.sequence) = (transaction.commit, 0);
        }
        builder.set_transaction(transaction, self.sequence);
        self.sequence += 1;
        match message {
            Message::Insert { new, .. } => {
                self.counts.inserts += 1;
                builder.insert(*new)?;
            }
            Message::Update { old, new, .. } => {
                self.counts.updates += 1;
                builder.update(*old, *new)?;
            }
            Message::Delete { old, .. } => {
                self.counts.deletes += 1;
                builder.delete(*old)?;
            }
            Message::Truncate(_) => {
                self.counts.truncates += 1;
                builder.truncate();
            }
            _ => return Ok(()),
        }
        self.collected_from.get_or_insert(before);
        self.oldest_change.get_or_insert(transaction.at_micros);
        Ok(())
    }

    /// Takes the collected changes and the writer, for a task that applies them; `None` where the table is not idle.
    pub fn begin(&mut self) -> Result<Option<(Box<TableWriter>, CollectedChunk)>> {
        let (WriterState::Idle(_), Some(builder)) = (&self.writer, &mut self.builder) else { return Ok(None) };
        let chunk = builder.take()?;
        if self.applied_from.is_none() {
            self.applied_from = self.collected_from;
            self.oldest_applied = self.oldest_change;
        }
        (self.collected_from, self.oldest_change) = (None, None);
        match std::mem::replace(&mut self.writer, WriterState::Busy) {
            WriterState::Idle(writer) => Ok(Some((writer, chunk))),
            _ => Ok(None),
        }
    }

    /// Takes back the writer of a task. `committed` is the position up to which it has committed.
    pub fn end(&mut self, writer: Box<TableWriter>, committed: Option<(Lsn, Applied)>) {
        if self.is_failed() {
            // Meanwhile. What the task has committed is there, and the rest is read again.
            return;
        }
        self.writer = WriterState::Idle(writer);
        let Some((position, applied)) = committed else { return };
        self.durable = position;
        (self.applied_from, self.oldest_applied) = (None, None);
        self.committed_at = Some(Instant::now());
        self.counts.commits += 1;
        self.counts.added += applied.added;
        self.counts.removed += applied.removed;
        self.counts.bytes += applied.bytes;
    }

    /// Takes the table out of the stream.
    pub fn fail(&mut self, error: Error) {
        self.writer = WriterState::Failed;
        self.error = Some(error);
        (self.builder, self.relation) = (None, None);
        (self.collected_from, self.applied_from) = (None, None);
        (self.oldest_change, self.oldest_applied) = (None, None);
    }
}

/// How a table's rows are matched, by its plan and the transfer's settings.
pub fn matching(plan: &TablePlan, origin: &Origin, settings: &Settings) -> Matching {
    let deletes = settings.changes.deletes;
    Matching {
        columns: match plan.key.is_empty() {
            true => plan.columns.iter().map(|column| column.name.clone()).collect(),
            false => plan.key.clone(),
        },
        is_unique: !plan.key.is_empty(),
        deletes,
        // The lake may have rows that the source deleted before, or whose deletes were not applied.
        looks_up_inserts: !plan.key.is_empty() && (deletes != Deletes::Apply || !origin.mirrors),
    }
}
