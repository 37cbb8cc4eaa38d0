//! The part of a session that applies the changes of tables, commits them, and confirms what the lake has.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::apply_task::{AppliedChunk, apply};
use super::super::capture::panicked;
use super::super::schema;
use super::super::source;
use super::super::stream_record::{ReachedTimes, StreamRecord};
use super::super::table_stream::TableStream;
use super::{Event, Session, TaskResult};
use crate::error::{Error, Kind, Result};
use crate::lsn::Lsn;

/// The number of tables that changes are applied to at a time.
const TASKS_MAX: usize = 4;
/// Between two looks at what can be committed.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);
/// Between two writes of the record that has the confirmed position.
const RECORD_INTERVAL: Duration = Duration::from_secs(2);
/// States of a table that reading it again corrects.
const REREAD_STATES: [&str; 3] = ["columns-changed", "row-missing", "value-missing"];

impl Session<'_> {
    /// Starts a task that applies the table's changes, and commits them where `position` is present. Waits for an
    /// earlier task of the table.
    pub(super) fn apply(&mut self, oid: u32, position: Option<Lsn>) -> Result<()> {
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
            let _ = sender.send(Event::Applied(Box::new(TaskResult { table: oid, outcome })));
        });
        Ok(())
    }

    pub(super) fn wait_until_idle(&mut self, oid: u32) -> Result<()> {
        while self.tables.get(&oid).is_some_and(|table| !table.is_idle() && !table.is_failed()) {
            self.wait_for_task()?;
        }
        Ok(())
    }

    /// Waits for the end of any task. What is received meanwhile is handled after it.
    fn wait_for_task(&mut self) -> Result<()> {
        loop {
            match self.events.recv() {
                Ok(Event::Applied(result)) => return self.end_task(*result),
                Ok(Event::CaptureEnded(Err(error))) => return Err(error),
                Ok(event) => self.backlog.push_back(event),
                Err(_) => return Err(panicked()),
            }
        }
    }

    pub(super) fn end_task(&mut self, result: TaskResult) -> Result<()> {
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

    /// Commits the tables that are due, or all that have changes; only between transactions.
    pub(super) fn commit_due(&mut self, all: bool) -> Result<()> {
        if self.transaction.is_some() || (!all && self.checked_at.elapsed() < CHECK_INTERVAL) {
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
            self.apply(oid, Some(self.position))?;
        }
        Ok(())
    }

    /// The position before which the lake has all changes.
    pub(super) fn durable(&self) -> Lsn {
        let waiting = self.tables.values().filter_map(TableStream::needs_from).min();
        waiting.unwrap_or(self.position).min(self.position)
    }

    /// Up to which times the tables have all changes, where the lake has those before `durable`.
    fn reached(&self, durable: Lsn) -> ReachedTimes {
        let marked = self.options.watch.mark_before(durable).and_then(|mark| mark.at_micros);
        // Where changes wait, what was committed at the same time may be among them.
        let committed_at = self.committed_at.filter(|_| durable == self.position);
        let before = &self.record.reached;
        let of_left = before.of_left.clone();
        let all = before.all.max(committed_at.map(|at| at - source::COMMIT_MARGIN_MICROS)).max(marked);
        ReachedTimes { all, verified: before.verified.max(marked), of_left }
    }

    /// Confirms what the lake has. The record is written first: a slot that is ahead of it was not confirmed by us.
    pub(super) fn confirm(&mut self, now: bool) -> Result<()> {
        let durable = self.durable();
        let is_new = durable > self.record.confirmed();
        if is_new && (now || self.recorded_at.elapsed() >= RECORD_INTERVAL) {
            self.recorded_at = Instant::now();
            let reached = self.reached(durable);
            let record = StreamRecord { confirmed: Some(durable), reached, ..self.record.clone() };
            let lake = self.options.request.lake()?;
            self.options.runtime.block_on(record.write(lake, &self.options.request.settings.name))?;
            self.record = record;
        }
        self.control.confirm(self.record.confirmed());
        Ok(())
    }

    /// Takes a table out of the stream, where its error will not pass; its refusal is stored with it.
    pub(super) fn fail(&mut self, oid: u32, error: Error) -> Result<()> {
        if error.kind == Kind::Retry {
            return Err(error);
        }
        let Some(table) = self.tables.get_mut(&oid) else { return Ok(()) };
        // Before anything that it lacks is confirmed, the record says that it does not take part any more.
        if let Some(tables) = &mut self.record.tables {
            tables.remove(&oid);
        }
        let complete = self.committed_at.filter(|_| table.needs_from().is_none());
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
        self.options.runtime.block_on(schema::store_refusal(request, &table.plan.target, &error, reached))?;
        table.fail(error);
        self.waiting_bytes = self.tables.values().map(TableStream::bytes).sum();
        Ok(())
    }
}
