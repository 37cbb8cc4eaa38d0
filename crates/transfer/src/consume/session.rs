//! A session of a worker: the messages of its shards, applied to their tables.

mod barriers;
mod records;
mod refused;
mod resent;
mod shard;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use shard::SessionShard;

use lake::TableName;
use stream::message::{Body, ControlOperation, Message, Metadata, Operation, TableDefinition, Values};
use stream::{Batch, Delivery};
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TryRecvError;

use super::RESENT;
use super::barrier::{self, Barrier};
use super::definitions::{DefinedBy, Definitions};
use super::end::SessionEnd;
use super::quarantine::Quarantine;
use super::table::{ConsumedTable, MessageChange, keep};
use super::worker_part::WorkerPart;
use super::workers::HEARTBEAT;
use crate::changes::{ShardStatus, StreamStatus, StreamStore, TableStatus};
use crate::error::{Error, Kind, Result};
use crate::lsn::Lsn;
use crate::plan::name_filter;
use crate::postgres::catalog_display;

/// How long a loop waits where no shard has a message.
const IDLE_WAIT: Duration = Duration::from_millis(2);
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
const RECORD_INTERVAL: Duration = Duration::from_secs(2);
/// Between two looks at messages that a user has sent again.
const RESENT_INTERVAL: Duration = Duration::from_secs(2);
const BARRIER_POLL: Duration = Duration::from_millis(100);
/// The changes of all tables that wait for a commit.
const WAITING_BYTES: usize = 64 << 20;
/// Where so many messages of a session can't be applied, the stream is most likely another one than was meant.
const QUARANTINED_MAX: u64 = 1000;

/// A session; it blocks.
pub struct Session {
    part: WorkerPart,
    /// On which the lake is written.
    runtime: Handle,
    shards: Vec<SessionShard>,
    /// The shards of other workers, as their records have them.
    others: Vec<ShardStatus>,
    tables: HashMap<String, Option<ConsumedTable>>,
    definitions: Definitions,
    selects: Box<dyn Fn(&str) -> bool + Send>,
    quarantined: u64,
    bytes: u64,
    resent: Vec<String>,
    resent_at: Instant,
    reported_at: Option<Instant>,
    recorded_at: Instant,
    beaten_at: Instant,
    barrier_at: Option<Instant>,
}

impl Session {
    /// A session of these shards.
    pub fn new(part: WorkerPart, shards: Vec<SessionShard>, runtime: Handle) -> Result<Session> {
        let settings = &part.request.settings;
        let definitions = runtime.block_on(Definitions::read(part.store(), &settings.name))?;
        let selects = name_filter(&settings.include, &settings.exclude)?;
        let mut session = Session {
            shards,
            others: Vec::new(),
            tables: HashMap::new(),
            definitions,
            selects: Box::new(selects),
            quarantined: 0,
            bytes: 0,
            resent: Vec::new(),
            resent_at: Instant::now(),
            reported_at: None,
            recorded_at: Instant::now(),
            beaten_at: Instant::now(),
            barrier_at: None,
            part,
            runtime,
        };
        session.open_refused();
        Ok(session)
    }

    /// Applies messages until the session ends.
    ///
    /// # Errors
    /// Where a shard can't be read, or a table not be written.
    pub fn run(mut self) -> Result<SessionEnd> {
        let ended = self.apply();
        let finished = match ended {
            Ok(_) => self.finish(),
            Err(_) => Ok(()),
        };
        self.report(true);
        let end = ended?;
        finished?;
        Ok(end)
    }

    fn apply(&mut self) -> Result<SessionEnd> {
        loop {
            let is_idle = !self.receive()?;
            self.pass_barriers()?;
            self.commit_due(false)?;
            self.record(false)?;
            self.report(false);
            if self.part.observer.should_stop() {
                return Ok(SessionEnd::Stopped);
            }
            if is_idle {
                let is_finished = self.is_finished();
                if (is_finished || self.is_resent_due()) && self.apply_resent()? {
                    self.commit_due(true)?;
                    continue;
                }
                if is_finished {
                    self.commit_due(true)?;
                    return Ok(SessionEnd::Stopped);
                }
                std::thread::sleep(IDLE_WAIT);
            }
            if self.shards.iter().any(|shard| shard.is_end) || self.has_changed()? {
                return Ok(SessionEnd::Changed);
            }
        }
    }

    fn is_finished(&self) -> bool {
        let has_all = |shard: &SessionShard| shard.is_caught_up && shard.barrier.is_none() && shard.held.is_empty();
        self.shards.iter().all(has_all) && self.part.ends_when_caught_up()
    }

    /// Handles what the shards have. Returns whether there was something.
    fn receive(&mut self) -> Result<bool> {
        let mut received = false;
        for at in 0..self.shards.len() {
            let shard = &mut self.shards[at];
            if shard.barrier.is_some() {
                continue;
            }
            if shard.held.is_empty() {
                match shard.task.batches.try_recv() {
                    Ok(batch) => self.take(at, batch?),
                    Err(TryRecvError::Empty) => continue,
                    Err(TryRecvError::Disconnected) if shard.is_end => continue,
                    Err(TryRecvError::Disconnected) => return Err(Error::retry("read a shard: the task has ended")),
                }
            }
            while let Some(delivery) = self.shards[at].held.pop_front() {
                received = true;
                self.handle(at, &delivery)?;
                if self.shards[at].barrier.is_some() {
                    self.shards[at].held.push_front(delivery);
                    break;
                }
                let shard = &mut self.shards[at];
                shard.received = delivery.position;
                if shard.held.is_empty() {
                    shard.ends.push_back((delivery.position, delivery.sequence));
                }
            }
            self.commit_full()?;
        }
        Ok(received)
    }

    fn take(&mut self, at: usize, batch: Batch) {
        let shard = &mut self.shards[at];
        shard.lag = batch.lag;
        shard.is_end |= batch.is_end;
        shard.is_caught_up = batch.deliveries.is_empty() && (batch.reached.is_some() || batch.is_end);
        if let Some(reached) = batch.reached.filter(|reached| *reached > shard.received) {
            shard.received = reached;
            shard.ends.push_back((reached, reached.to_string()));
        }
        shard.held.extend(batch.deliveries);
    }

    fn handle(&mut self, at: usize, delivery: &Delivery) -> Result<()> {
        self.bytes += delivery.data.len() as u64;
        let shard = self.shards[at].id.clone();
        match Message::parse(&delivery.data) {
            Err(reason) => self.quarantine(&shard, delivery, &reason),
            Ok(message) => {
                let outcome = match &message.body {
                    Body::Data { .. } if self.shards[at].is_removed(&message.metadata, delivery.position) => Ok(()),
                    Body::Data { operation, values, before } => self.change(
                        (&shard, delivery.position, delivery.data.len()),
                        &message.metadata,
                        *operation,
                        values,
                        before.as_ref(),
                    )?,
                    Body::Control { operation, table } => {
                        self.control(at, delivery, &message.metadata, *operation, table.as_ref())?
                    }
                };
                match outcome {
                    Ok(()) => Ok(()),
                    Err(reason) => self.quarantine(&shard, delivery, &reason),
                }
            }
        }
    }

    /// Collects a change of a row. The inner error is what is wrong with the message.
    fn change(
        &mut self,
        (shard, position, bytes): (&str, u64, usize),
        metadata: &Metadata<'_>,
        operation: Operation,
        values: &Values<'_>,
        before: Option<&Values<'_>>,
    ) -> Result<std::result::Result<(), String>> {
        let request = Arc::clone(&self.part.request);
        let left_out = request.settings.left_out;
        let (epochs, runtime) = (self.part.replay.epochs(), self.runtime.clone());
        let Some(table) = self.table(metadata)? else { return Ok(Ok(())) };
        if let Some(error) = &table.error {
            // The stream goes on without it, until it is read again.
            let is_resent = shard.starts_with(RESENT);
            return Ok(if is_resent {
                Err(format!("the table takes no changes: {}", base::chain(error)))
            } else {
                Ok(())
            });
        }
        if position <= table.position(&request.settings.name, epochs, shard)? {
            return Ok(Ok(()));
        }
        if values.0.is_empty() {
            return Ok(Err("its row has no columns".to_owned()));
        }
        let lacks_key = match operation {
            Operation::Update => !table.has_key(),
            // Of a table whose key no message has told, a row can only be found by all its columns.
            Operation::Delete => table.lacks_columns_of_rows(values),
            Operation::Load | Operation::Insert => false,
        };
        if lacks_key {
            let hint =
                format!("the key of {} is not known: give it by [tables.{:?}] key = [...]", table.name, table.name);
            return Ok(Err(hint));
        }
        if let Some(further) = table.with_columns_of(values) {
            // Of a message that can't be applied, no column is added.
            if let Err(reason) = table.try_with(&further, operation, values, before) {
                return Ok(Err(reason));
            }
            if let Some(all) = table.define(&request, epochs, &further, DefinedBy::Row)? {
                keep(&request, &table.name, &all, DefinedBy::Row, &runtime)?;
            }
        }
        let at = metadata.commit_timestamp.unwrap_or(metadata.timestamp);
        let change = MessageChange {
            operation,
            values,
            before,
            unchanged: &metadata.unchanged,
            at_micros: at.timestamp_micros(),
            bytes,
        };
        Ok(table.collect(&change, (shard, position), left_out))
    }

    fn control(
        &mut self,
        at: usize,
        delivery: &Delivery,
        metadata: &Metadata<'_>,
        operation: ControlOperation,
        definition: Option<&TableDefinition>,
    ) -> Result<std::result::Result<(), String>> {
        let request = Arc::clone(&self.part.request);
        let (epochs, runtime) = (self.part.replay.epochs(), self.runtime.clone());
        let shard = self.shards[at].id.clone();
        let Some(table) = self.table(metadata)? else { return Ok(Ok(())) };
        let name = table.name.clone();
        match operation {
            ControlOperation::TruncateTable | ControlOperation::DropTable if metadata.is_in_all_shards() => {
                let is_done = delivery.position <= table.position(&request.settings.name, epochs, &shard)?;
                // What a shard has passed before it is replayed alone, the others don't come to again.
                if self.part.replay.was_passed(&shard, delivery) {
                    return Ok(Ok(()));
                }
                let place = (metadata.stream_position.as_deref(), metadata.transaction_record_id);
                let micros = metadata.timestamp.timestamp_micros();
                let id = barrier::id(epochs.keyed, &name, operation.name(), micros, place);
                let at_micros = metadata.timestamp.timestamp_micros();
                let is_drop = operation == ControlOperation::DropTable;
                let barrier = Barrier { id, table: name, at_micros, position: delivery.position, is_drop };
                let store = StreamStore::Lake(&request.lake);
                if is_done {
                    // Its commit was made; the process may have ended before it was noted.
                    runtime.block_on(barrier::pass(store, &request.settings.name, &barrier))?;
                    return Ok(Ok(()));
                }
                if !runtime.block_on(barrier::is_passed(store, &request.settings.name, &barrier))? {
                    self.shards[at].barrier = Some(barrier);
                }
                Ok(Ok(()))
            }
            // The rows stay: the lake remembers what the source has dropped.
            ControlOperation::DropTable | ControlOperation::TruncateTable => Ok(Ok(())),
            _ if table.error.is_some() => Ok(Ok(())),
            _ => {
                // Some messages of DMS have no definition: the rows that follow tell the columns.
                let Some(definition) = definition.filter(|definition| !definition.columns.is_empty()) else {
                    return Ok(Ok(()));
                };
                let followed = table.define(&request, epochs, definition, DefinedBy::Control).and_then(|all| {
                    if let Some(all) = all {
                        keep(&request, &name, &all, DefinedBy::Control, &runtime)?;
                    }
                    match operation {
                        ControlOperation::CreateTable => table.create(&request, epochs),
                        _ => Ok(()),
                    }
                });
                match followed {
                    Ok(()) => Ok(Ok(())),
                    Err(error) if error.kind == Kind::Retry => Err(error),
                    Err(error) => {
                        let target = table.target.clone();
                        let error = self.refuse(&name, &target, error)?;
                        if let Some(Some(table)) = self.tables.get_mut(&name) {
                            table.error = Some(error);
                        }
                        Ok(Ok(()))
                    }
                }
            }
        }
    }

    /// The table of a message, opened; `None` where it is left out.
    fn table(&mut self, metadata: &Metadata<'_>) -> Result<Option<&mut ConsumedTable>> {
        let name = catalog_display(&metadata.schema_name, &metadata.table_name);
        if !self.tables.contains_key(&name) {
            let table = match (self.selects)(&name) {
                false => None,
                true => {
                    let request = &self.part.request;
                    let schema = match (&request.settings.into, metadata.schema_name.as_ref()) {
                        (Some(into), _) => into.clone(),
                        (None, "") => "public".to_owned(),
                        (None, schema) => schema.to_owned(),
                    };
                    let target = TableName { schema, table: metadata.table_name.clone().into_owned() };
                    Some(self.open(&name, target)?)
                }
            };
            self.tables.insert(name.clone(), table);
        }
        Ok(self.tables.get_mut(&name).and_then(Option::as_mut))
    }

    /// Commits tables that have collected much.
    fn commit_full(&mut self) -> Result<()> {
        let waiting: usize = self.tables.values().flatten().map(ConsumedTable::bytes).sum();
        self.commit_where(|table| table.is_full() || (waiting > WAITING_BYTES && table.bytes() > 0))
    }

    /// Commits tables. One that can't be is refused, and the others go on.
    fn commit_where(&mut self, selects: impl Fn(&ConsumedTable) -> bool) -> Result<()> {
        let (request, epochs) = (Arc::clone(&self.part.request), self.part.replay.epochs());
        let mut failed = Vec::new();
        for table in self.tables.values_mut().flatten().filter(|table| selects(table)) {
            fail::fail_point!("consume-commit");
            match table.commit(&request, epochs) {
                Err(error) if error.kind != Kind::Retry => {
                    failed.push((table.name.clone(), table.target.clone(), error))
                }
                committed => drop(committed?),
            }
        }
        for (name, target, error) in failed {
            let error = self.refuse(&name, &target, error)?;
            if let Some(Some(table)) = self.tables.get_mut(&name) {
                table.refuse(error);
            }
        }
        Ok(())
    }

    /// Commits the tables whose turn it is, or all.
    fn commit_due(&mut self, all: bool) -> Result<()> {
        let request = Arc::clone(&self.part.request);
        let interval = request.settings.commit_interval;
        self.commit_where(|table| table.is_due(interval) || (all && table.has_changes()))?;
        if !self.resent.is_empty() && self.tables.values().flatten().all(|table| !table.has_changes()) {
            let quarantine = Quarantine::new(StreamStore::Lake(&request.lake), &request.settings.name);
            for id in std::mem::take(&mut self.resent) {
                self.runtime.block_on(quarantine.finish(&id))?;
            }
        }
        Ok(())
    }

    /// Commits everything, and releases the shards.
    fn finish(&mut self) -> Result<()> {
        self.commit_due(true)?;
        self.write_records(true)
    }

    /// Whether the workers, the shards or the replay are others than at the beginning.
    fn has_changed(&mut self) -> Result<bool> {
        if self.beaten_at.elapsed() < HEARTBEAT {
            return Ok(false);
        }
        self.beaten_at = Instant::now();
        let own: Vec<String> = self.shards.iter().map(|shard| shard.id.clone()).collect();
        self.others = self.runtime.block_on(self.part.other_shards(&own))?;
        self.runtime.block_on(self.part.has_changed(&own))
    }

    fn shard_status(&self, shard: &SessionShard) -> ShardStatus {
        ShardStatus {
            id: shard.id.clone(),
            position: self.durable(shard),
            lag_messages: shard.lag.messages,
            lag_millis: shard.lag.millis,
            worker: self.part.request.worker.clone(),
        }
    }

    fn report(&mut self, now: bool) {
        if !now && self.reported_at.is_some_and(|at| at.elapsed() < REPORT_INTERVAL) {
            return;
        }
        self.reported_at = Some(Instant::now());
        let at = chrono::Utc::now().timestamp_micros();
        let position = self.shards.iter().map(|shard| shard.received).max().unwrap_or_default();
        let confirmed = self.shards.iter().map(|shard| self.durable(shard)).min().unwrap_or_default();
        let status = |table: &ConsumedTable| TableStatus {
            source: table.name.clone(),
            target: table.target.to_string(),
            counts: table.counts,
            durable: Lsn::from_i64(confirmed.cast_signed()),
            lag_seconds: table.oldest.map_or(0.0, |oldest| (at - oldest).max(0) as f64 / 1e6),
            error: table.error.as_ref().map(|error| (base::chain(error), error.state, error.hint.clone())),
        };
        self.part.observer.report(&StreamStatus {
            received: Lsn::from_i64(position.cast_signed()),
            confirmed: Lsn::from_i64(confirmed.cast_signed()),
            bytes: self.bytes,
            tables: self.tables.values().flatten().map(status).collect(),
            shards: self.shards.iter().map(|shard| self.shard_status(shard)).chain(self.others.clone()).collect(),
        });
    }
}
