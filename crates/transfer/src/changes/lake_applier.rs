//! Applies changes to tables of the lake. Each table collects its changes in chunks; tasks apply them, a few tables at a
//! time, and commit a table where no transaction is open.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use super::applier::{Applier, Received, SessionEnd};
use super::apply_task::{AppliedChunk, apply};
use super::capture::panicked;
use super::pgoutput::{Message, Relation, Transaction};
use super::projection::Projector;
use super::schema::{self, SchemaChange};
use super::session::SessionOptions;
use super::source;
use super::status::TableStatus;
use super::stream_record::{ReachedTimes, StreamRecord};
use super::table_stream::{TableStream, WriterState};
use crate::error::{Error, Kind, Result};
use crate::lsn::Lsn;

/// The changes of a table that are applied at a time; a transaction may have more.
const CHUNK_BYTES: usize = 32 << 20;
const CHUNK_CHANGES: usize = 262_144;
/// The most bytes of changes of all tables that wait for a task.
const WAITING_BYTES: usize = 96 << 20;
/// The number of tables that changes are applied to at a time.
const TASKS_MAX: usize = 4;
/// Between two looks at what can be committed.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);
/// Between two writes of the record that has the confirmed position.
const RECORD_INTERVAL: Duration = Duration::from_secs(2);
/// States of a table that reading it again corrects.
const REREAD_STATES: [&str; 3] = ["columns-changed", "row-missing", "value-missing"];

/// The result of a task that applied a chunk, and committed it where a position is present.
struct TaskResult {
    table: u32,
    outcome: Result<AppliedChunk>,
}

/// The tables of a session in the lake.
pub struct LakeApplier<'a> {
    options: SessionOptions<'a>,
    tables: HashMap<u32, TableStream>,
    record: StreamRecord,
    projector: Arc<Projector>,
    results: Receiver<TaskResult>,
    sender: Sender<TaskResult>,
    tasks: usize,
    /// The size of the changes that wait for a task.
    waiting_bytes: usize,
    received: Received,
    checked_at: Instant,
    recorded_at: Instant,
    /// A table that has to be read again.
    reread: Option<String>,
}

impl<'a> LakeApplier<'a> {
    /// An applier for these tables, by their OIDs.
    pub fn new(options: SessionOptions<'a>, tables: HashMap<u32, TableStream>, record: StreamRecord) -> Self {
        let (sender, results) = channel();
        let now = Instant::now();
        LakeApplier {
            projector: Arc::new(Projector::new(&options.request.source)),
            received: Received { position: record.confirmed(), committed_at: None },
            options,
            tables,
            record,
            results,
            sender,
            tasks: 0,
            waiting_bytes: 0,
            checked_at: now,
            recorded_at: now,
            reread: None,
        }
    }

    /// Follows the columns of a table.
    fn follow(&mut self, relation: Relation, transaction: Option<Transaction>, before: Lsn) -> Result<()> {
        let oid = relation.id;
        let Some(table) = self.tables.get(&oid) else { return Ok(()) };
        if table.is_failed() || !table.has_changed(&relation) {
            return Ok(());
        }
        // Changes by the earlier description are applied with it, and committed where no part of the transaction is
        // among them.
        let is_part = transaction.is_some_and(|transaction| table.last_commit == transaction.commit);
        self.apply(oid, (!is_part).then_some(before))?;
        self.wait_until_idle(oid)?;
        let Some(table) = self.tables.get_mut(&oid).filter(|table| !table.is_failed()) else { return Ok(()) };
        if let WriterState::Idle(writer) = &mut table.writer {
            // On this thread: it blocks.
            writer.finish_files()?;
        }
        let xid = transaction.map_or(0, |transaction| transaction.xid);
        let change = SchemaChange { request: self.options.request, form: self.options.form, xid };
        match self.options.runtime.block_on(schema::follow(&change, table, relation)) {
            Ok(()) => Ok(()),
            Err(error) => self.fail(oid, error),
        }
    }

    /// Starts a task that applies the table's changes, and commits them where `position` is present. Waits for an
    /// earlier task of the table.
    fn apply(&mut self, oid: u32, position: Option<Lsn>) -> Result<()> {
        self.wait_until_idle(oid)?;
        while self.tasks >= TASKS_MAX {
            self.wait_for_task()?;
        }
        let Some(table) = self.tables.get_mut(&oid) else { return Ok(()) };
        if !table.has_changes() {
            return Ok(());
        }
        let (writer, chunk) = match table.begin() {
            Ok(Some(begun)) => begun,
            Ok(None) => return Ok(()),
            Err(error) => return self.fail(oid, error),
        };
        self.waiting_bytes = self.tables.values().map(TableStream::bytes).sum();
        let (projector, sender) = (Arc::clone(&self.projector), self.sender.clone());
        self.tasks += 1;
        self.options.runtime.spawn_blocking(move || {
            let apply = std::panic::AssertUnwindSafe(|| apply(writer, chunk, &projector, position));
            let outcome = std::panic::catch_unwind(apply);
            let outcome = outcome.unwrap_or_else(|_| Err(Error::bug("apply changes: the task panicked")));
            // Where the session has ended, the next one receives the changes again.
            let _ = sender.send(TaskResult { table: oid, outcome });
        });
        Ok(())
    }

    fn wait_until_idle(&mut self, oid: u32) -> Result<()> {
        while self.tables.get(&oid).is_some_and(|table| !table.is_idle() && !table.is_failed()) {
            self.wait_for_task()?;
        }
        Ok(())
    }

    /// Waits for the end of any task.
    fn wait_for_task(&mut self) -> Result<()> {
        let result = self.results.recv().map_err(|_| panicked())?;
        self.end_task(result)
    }

    fn end_task(&mut self, result: TaskResult) -> Result<()> {
        self.tasks -= 1;
        match result.outcome {
            Ok(AppliedChunk { writer, committed }) => {
                if let Some(table) = self.tables.get_mut(&result.table) {
                    table.end(writer, committed);
                }
                Ok(())
            }
            Err(error) => self.fail(result.table, error),
        }
    }

    /// Up to which times the tables have all changes, where the lake has those before `durable`.
    fn reached(&self, durable: Lsn) -> ReachedTimes {
        let marked = self.options.watch.mark_before(durable).and_then(|mark| mark.at_micros);
        // Where changes wait, what was committed at the same time may be among them.
        let committed_at = self.received.committed_at.filter(|_| durable == self.received.position);
        let before = &self.record.reached;
        let of_left = before.of_left.clone();
        let all = before.all.max(committed_at.map(|at| at - source::COMMIT_MARGIN_MICROS)).max(marked);
        ReachedTimes { all, verified: before.verified.max(marked), of_left }
    }

    /// Takes a table out of the stream, where its error will not pass; its refusal is stored with it.
    fn fail(&mut self, oid: u32, error: Error) -> Result<()> {
        if error.kind == Kind::Retry {
            return Err(error);
        }
        let Some(table) = self.tables.get_mut(&oid) else { return Ok(()) };
        // Before anything that it lacks is confirmed, the record says that it does not take part any more.
        if let Some(tables) = &mut self.record.tables {
            tables.remove(&oid);
        }
        let complete = self.received.committed_at.filter(|_| table.needs_from().is_none());
        let reached = self.record.reached.all.max(complete.map(|at| at - source::COMMIT_MARGIN_MICROS));
        self.record.reached.leave(oid, reached);
        if error.state.is_some_and(|state| REREAD_STATES.contains(&state))
            && !self.options.reread.contains(&table.name())
        {
            tracing::warn!(table = table.name(), "the table is read again: {}", base::chain(&error));
            self.reread = Some(table.name());
            table.fail(error);
            self.waiting_bytes = self.tables.values().map(TableStream::bytes).sum();
            return Ok(());
        }
        let error = match &error.hint {
            Some(_) => error,
            None => error.hint(format!("read the table again: {}", table.plan.resync_command)),
        };
        tracing::error!(table = table.name(), "{}", base::chain(&error));
        let request = self.options.request;
        self.options.runtime.block_on(schema::store_refusal(request, &table.plan, &error, reached))?;
        table.fail(error);
        self.waiting_bytes = self.tables.values().map(TableStream::bytes).sum();
        Ok(())
    }
}

impl Applier for LakeApplier<'_> {
    fn describe(&mut self, relation: Relation, transaction: Option<Transaction>, before: Lsn) -> Result<()> {
        let Some(table) = self.tables.get_mut(&relation.id) else { return Ok(()) };
        if transaction.is_none_or(|transaction| transaction.commit < table.durable) {
            // The columns from before the table was read: only those of the first change that is applied count.
            table.later = Some(relation);
            return Ok(());
        }
        table.later = None;
        self.follow(relation, transaction, before)
    }

    fn describe_later(&mut self, relation: Relation) {
        if let Some(table) = self.tables.get_mut(&relation.id) {
            table.later = Some(relation);
        }
    }

    fn collect(&mut self, relation: u32, change: &Message<'_>, transaction: Transaction, before: Lsn) -> Result<()> {
        let Some(table) = self.tables.get_mut(&relation) else { return Ok(()) };
        if table.is_failed() || transaction.commit < table.durable {
            return Ok(());
        }
        if let Some(relation) = table.later.take() {
            self.follow(relation, Some(transaction), before)?;
        }
        let marks = self.options.request.settings.marks_deleted();
        let is_apart = |table: &TableStream| (marks || table.history().is_some()) && table.changes() > 0;
        if matches!(change, Message::Truncate(_)) && self.tables.get(&relation).is_some_and(is_apart) {
            // The changes before it need all of their values, which are looked up among the rows.
            self.apply(relation, None)?;
        }
        let Some(table) = self.tables.get_mut(&relation).filter(|table| !table.is_failed()) else { return Ok(()) };
        let waiting = table.bytes();
        if let Err(error) = table.collect(change, before, transaction) {
            return self.fail(relation, error);
        }
        let (bytes, changes) = (table.bytes(), table.changes());
        self.waiting_bytes += bytes - waiting;
        if bytes >= CHUNK_BYTES || changes >= CHUNK_CHANGES {
            self.apply(relation, None)?;
        } else if self.waiting_bytes >= WAITING_BYTES {
            let largest = self.tables.iter().max_by_key(|(_, table)| table.bytes()).map(|(oid, _)| *oid);
            self.apply(largest.unwrap_or(relation), None)?;
        }
        Ok(())
    }

    fn commit_due(&mut self, received: Received, all: bool) -> Result<()> {
        self.received = received;
        if !all && self.checked_at.elapsed() < CHECK_INTERVAL {
            return Ok(());
        }
        let now = Instant::now();
        self.checked_at = now;
        let interval = self.options.request.settings.changes.commit_interval;
        let is_due = |table: &TableStream| {
            if all { table.is_idle() && table.has_changes() } else { table.is_due(now, interval) }
        };
        let due = self.tables.iter().filter(|(_, table)| is_due(table));
        let mut due: Vec<(Option<Lsn>, u32)> = due.map(|(oid, table)| (table.needs_from(), *oid)).collect();
        // The one that is furthest behind first: with many tables, none waits forever.
        due.sort_unstable();
        for (_, oid) in due {
            if self.tasks >= TASKS_MAX && !all {
                break;
            }
            self.apply(oid, Some(received.position))?;
        }
        Ok(())
    }

    fn poll(&mut self) -> Result<()> {
        while let Ok(result) = self.results.try_recv() {
            self.end_task(result)?;
        }
        Ok(())
    }

    fn finish(&mut self, received: Option<Received>) -> Result<()> {
        if let Some(received) = received {
            self.commit_due(received, true)?;
        }
        while self.tasks > 0 {
            self.wait_for_task()?;
            if let Some(received) = received {
                self.commit_due(received, true)?;
            }
        }
        Ok(())
    }

    fn durable(&self, received: Lsn) -> Lsn {
        let waiting = self.tables.values().filter_map(TableStream::needs_from).min();
        waiting.unwrap_or(received).min(received)
    }

    fn is_busy(&self) -> bool {
        self.tasks > 0
    }

    /// The record is written before the position is confirmed: a slot that is ahead of it was not confirmed by us.
    fn confirm(&mut self, received: Received, now: bool) -> Result<Lsn> {
        let durable = self.durable(received.position);
        let is_new = durable > self.record.confirmed();
        if is_new && (now || self.recorded_at.elapsed() >= RECORD_INTERVAL) {
            self.recorded_at = Instant::now();
            let reached = self.reached(durable);
            let record = StreamRecord { confirmed: Some(durable), reached, ..self.record.clone() };
            self.options.runtime.block_on(record.write(self.options.request))?;
            self.record = record;
        }
        Ok(self.record.confirmed())
    }

    fn end(&mut self) -> Option<SessionEnd> {
        self.reread.take().map(SessionEnd::Reread)
    }

    fn tables(&self, received: Lsn, now: i64) -> Vec<TableStatus> {
        self.tables.values().map(|table| table.status(received, now)).collect()
    }
}
