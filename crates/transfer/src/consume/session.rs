//! A session of a worker: the messages of its shards, applied to their tables.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use lake::TableName;
use stream::message::{Body, ControlOperation, Message, Metadata, Operation, TableDefinition, Values};
use stream::{Batch, Delivery, Lag, StartPosition};
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TryRecvError;

use super::ConsumeRequest;
use super::barrier::{self, Barrier};
use super::definitions::Definitions;
use super::quarantine::{Quarantine, QuarantinedMessage};
use super::run::{ConsumeEnd, ReplayRecord, record_name};
use super::shard_record::ShardRecord;
use super::shard_task::ShardTask;
use super::table::{ConsumedTable, MessageChange, keep};
use super::workers::{self, HEARTBEAT, assigned};
use crate::changes::{ShardStatus, StreamObserver, StreamStatus, StreamStore, TableStatus};
use crate::error::{Error, Result};
use crate::lsn::Lsn;
use crate::plan::name_filter;

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

/// What ends a session without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEnd {
    /// It was stopped, or has all messages.
    Stopped,
    /// The workers or the shards have changed.
    Changed,
}

/// What a session needs.
pub struct SessionOptions {
    /// What the worker is asked to do.
    pub request: Arc<ConsumeRequest>,
    /// Receives the state, and decides how long it runs.
    pub observer: Arc<dyn StreamObserver>,
    /// How long it runs.
    pub end: ConsumeEnd,
    /// The replay whose positions count.
    pub replay: ReplayRecord,
    /// The workers.
    pub alive: Vec<String>,
    /// The shards that are read by some worker.
    pub readable: Vec<String>,
    /// Shards of this worker are not released yet.
    pub waits: bool,
    /// The runtime on which the lake is written.
    pub runtime: Handle,
}

/// A shard of a session.
pub struct SessionShard {
    id: String,
    record: ShardRecord,
    task: ShardTask,
    /// The position of the last message that was handled.
    received: u64,
    /// The ends of batches that were handled.
    ends: VecDeque<(u64, String)>,
    held: VecDeque<Delivery>,
    barrier: Option<Barrier>,
    lag: Lag,
    /// All messages of now were received.
    is_caught_up: bool,
    is_end: bool,
}

impl SessionShard {
    /// A shard that begins at a position.
    pub fn new(id: String, record: ShardRecord, task: ShardTask, start: &StartPosition) -> SessionShard {
        let received = match start {
            StartPosition::After { position, .. } => *position,
            StartPosition::From(_) => 0,
        };
        SessionShard {
            id,
            record,
            task,
            received,
            ends: VecDeque::new(),
            held: VecDeque::new(),
            barrier: None,
            lag: Lag::default(),
            is_caught_up: false,
            is_end: false,
        }
    }
}

/// A session; it blocks.
pub struct Session {
    options: SessionOptions,
    shards: Vec<SessionShard>,
    tables: HashMap<String, Option<ConsumedTable>>,
    definitions: Definitions,
    selects: Box<dyn Fn(&str) -> bool + Send>,
    quarantined: u64,
    started_at: Instant,
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
    pub fn new(options: SessionOptions, shards: Vec<SessionShard>) -> Result<Session> {
        let settings = &options.request.settings;
        let store = StreamStore::Lake(&options.request.lake);
        let definitions = options.runtime.block_on(Definitions::read(store, &settings.name))?;
        let selects = name_filter(&settings.include, &settings.exclude)?;
        Ok(Session {
            shards,
            tables: HashMap::new(),
            definitions,
            selects: Box::new(selects),
            quarantined: 0,
            started_at: Instant::now(),
            bytes: 0,
            resent: Vec::new(),
            resent_at: Instant::now(),
            reported_at: None,
            recorded_at: Instant::now(),
            beaten_at: Instant::now(),
            barrier_at: None,
            options,
        })
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
            if self.options.observer.should_stop() {
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
        let is_last = self.options.end == ConsumeEnd::CaughtUp && !self.options.waits;
        is_last && self.shards.iter().all(has_all) && self.knows_workers()
    }

    /// Whether the other workers, if any, are known to be alive: the shards of one that was killed are taken over first.
    fn knows_workers(&self) -> bool {
        self.options.alive.len() <= 1 || self.started_at.elapsed() > workers::GONE_AFTER + HEARTBEAT
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
                self.shards[at].received = delivery.position;
                if self.shards[at].held.is_empty() {
                    self.shards[at].ends.push_back((delivery.position, delivery.sequence));
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
        let request = Arc::clone(&self.options.request);
        let (epoch, left_out) = (self.options.replay.epoch, request.settings.left_out);
        let runtime = self.options.runtime.clone();
        let Some(table) = self.table(metadata)? else { return Ok(Ok(())) };
        if position <= table.position(&request.settings.name, epoch, shard)? {
            return Ok(Ok(()));
        }
        if let Some(error) = &table.error {
            return Ok(Err(format!("the table takes no changes: {}", base::chain(error))));
        }
        if let Some(wider) = table.with_columns_of(values)
            && let Some(all) = table.define(&request, &wider)?
        {
            keep(&request, &table.name, &all, &runtime)?;
        }
        if operation == Operation::Update && !table.has_key() {
            let hint =
                format!("the key of {} is not known: give it by [tables.{:?}] key = [...]", table.name, table.name);
            return Ok(Err(hint));
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
        let request = Arc::clone(&self.options.request);
        let (epoch, runtime) = (self.options.replay.epoch, self.options.runtime.clone());
        let shard = self.shards[at].id.clone();
        let Some(table) = self.table(metadata)? else { return Ok(Ok(())) };
        let name = table.name.clone();
        match operation {
            ControlOperation::TruncateTable | ControlOperation::DropTable if metadata.is_in_all_shards() => {
                let is_done = delivery.position <= table.position(&request.settings.name, epoch, &shard)?;
                if is_done || !table.is_defined() {
                    return Ok(Ok(()));
                }
                let id = format!("{epoch}/{name}/{}/{}", operation.name(), metadata.timestamp.timestamp_micros());
                let at_micros = metadata.timestamp.timestamp_micros();
                let barrier = Barrier { id, table: name, at_micros, position: delivery.position };
                let store = StreamStore::Lake(&request.lake);
                if !runtime.block_on(barrier::is_passed(store, &request.settings.name, &barrier))? {
                    self.shards[at].barrier = Some(barrier);
                }
                Ok(Ok(()))
            }
            // The rows stay: the lake remembers what the source has dropped.
            ControlOperation::DropTable | ControlOperation::TruncateTable => Ok(Ok(())),
            _ => {
                let Some(definition) = definition else { return Ok(Err("it defines no table".to_owned())) };
                match table.define(&request, definition) {
                    Ok(Some(all)) => keep(&request, &name, &all, &runtime).map(Ok),
                    Ok(None) => Ok(Ok(())),
                    Err(error) if error.kind == crate::error::Kind::Retry => Err(error),
                    Err(error) => {
                        tracing::error!(table = name, "{}", base::chain(&error));
                        let what = base::chain(&error);
                        table.error = Some(error);
                        Ok(Err(what))
                    }
                }
            }
        }
    }

    /// The table of a message, opened; `None` where it is left out.
    fn table(&mut self, metadata: &Metadata<'_>) -> Result<Option<&mut ConsumedTable>> {
        let name = crate::postgres::catalog_display(&metadata.schema_name, &metadata.table_name);
        if !self.tables.contains_key(&name) {
            let table = match (self.selects)(&name) {
                false => None,
                true => {
                    let request = &self.options.request;
                    let schema = match (&request.settings.into, metadata.schema_name.as_ref()) {
                        (Some(into), _) => into.clone(),
                        (None, "") => "public".to_owned(),
                        (None, schema) => schema.to_owned(),
                    };
                    let target = TableName { schema, table: metadata.table_name.clone().into_owned() };
                    let known = self.definitions.0.get(&name).cloned();
                    Some(ConsumedTable::open(request, &name, target, known, &self.options.runtime)?)
                }
            };
            self.tables.insert(name.clone(), table);
        }
        Ok(self.tables.get_mut(&name).and_then(Option::as_mut))
    }

    fn quarantine(&mut self, shard: &str, delivery: &Delivery, reason: &str) -> Result<()> {
        self.quarantined += 1;
        let request = &self.options.request;
        tracing::warn!(shard, position = delivery.position, "a message is quarantined: {reason}");
        if self.quarantined > QUARANTINED_MAX {
            let what =
                format!("read {}: {QUARANTINED_MAX} messages can't be applied: {reason}", request.address.display());
            return Err(Error::input(what).state("quarantined").hint("is it the stream that was meant?"));
        }
        let message = QuarantinedMessage::new(shard, delivery, reason);
        let quarantine = Quarantine::new(StreamStore::Lake(&request.lake), &request.settings.name);
        self.options.runtime.block_on(quarantine.add(&message))
    }

    /// Lets shards go on that wait at a barrier which all have reached.
    fn pass_barriers(&mut self) -> Result<()> {
        let Some(barrier) = self.shards.iter().find_map(|shard| shard.barrier.clone()) else { return Ok(()) };
        if self.barrier_at.is_some_and(|at| at.elapsed() < BARRIER_POLL) {
            return Ok(());
        }
        let request = Arc::clone(&self.options.request);
        let (store, transfer) = (StreamStore::Lake(&request.lake), request.settings.name.as_str());
        let runtime = self.options.runtime.clone();
        let own: BTreeMap<String, Option<Barrier>> =
            self.shards.iter().map(|shard| (shard.id.clone(), shard.barrier.clone())).collect();
        let is_alone = self.options.readable.iter().all(|shard| own.contains_key(shard));
        if !is_alone {
            // The others see by the records that these shards wait.
            self.barrier_at = Some(Instant::now());
            self.record(true)?;
        }
        if runtime.block_on(barrier::is_passed(store, transfer, &barrier))? {
            self.commit_due(true)?;
            return self.go_on(&barrier);
        }
        let epoch = self.options.replay.epoch;
        let names: Vec<String> = self.options.readable.iter().map(|shard| record_name(epoch, shard)).collect();
        let own_names: BTreeMap<String, Option<Barrier>> =
            own.iter().map(|(shard, barrier)| (record_name(epoch, shard), barrier.clone())).collect();
        let is_first = self.options.readable.first().is_some_and(|shard| own.contains_key(shard));
        if !is_first || !runtime.block_on(barrier::is_reached(store, transfer, &barrier, &names, &own_names))? {
            return Ok(());
        }
        self.commit_due(true)?;
        let positions: Vec<(String, u64)> =
            own.iter().filter_map(|(shard, at)| Some((shard.clone(), at.as_ref()?.position))).collect();
        if let Some(Some(table)) = self.tables.get_mut(&barrier.table) {
            table.truncate(&positions, barrier.at_micros);
            table.commit(&request, epoch)?;
        }
        runtime.block_on(barrier::pass(store, transfer, &barrier))?;
        self.go_on(&barrier)
    }

    fn go_on(&mut self, barrier: &Barrier) -> Result<()> {
        for shard in &mut self.shards {
            if let Some(at) = shard.barrier.take_if(|at| at.id == barrier.id) {
                // The message is the first of those that are held.
                if let Some(delivery) = shard.held.pop_front() {
                    shard.received = at.position;
                    if shard.held.is_empty() {
                        shard.ends.push_back((delivery.position, delivery.sequence));
                    }
                }
            }
        }
        self.barrier_at = None;
        Ok(())
    }

    /// Commits tables that have collected much.
    fn commit_full(&mut self) -> Result<()> {
        let request = Arc::clone(&self.options.request);
        let epoch = self.options.replay.epoch;
        let waiting: usize = self.tables.values().flatten().map(ConsumedTable::bytes).sum();
        for table in self.tables.values_mut().flatten() {
            if table.is_full() || (waiting > WAITING_BYTES && table.bytes() > 0) {
                table.commit(&request, epoch)?;
            }
        }
        Ok(())
    }

    /// Commits the tables whose turn it is, or all.
    fn commit_due(&mut self, all: bool) -> Result<()> {
        let request = Arc::clone(&self.options.request);
        let epoch = self.options.replay.epoch;
        for table in self.tables.values_mut().flatten() {
            if table.is_due(request.settings.commit_interval) || (all && table.has_changes()) {
                fail::fail_point!("consume-commit");
                table.commit(&request, epoch)?;
            }
        }
        if !self.resent.is_empty() && self.tables.values().flatten().all(|table| !table.has_changes()) {
            let quarantine = Quarantine::new(StreamStore::Lake(&request.lake), &request.settings.name);
            for id in std::mem::take(&mut self.resent) {
                self.options.runtime.block_on(quarantine.finish(&id))?;
            }
        }
        Ok(())
    }

    /// Whether to look for messages that a user has sent again.
    fn is_resent_due(&mut self) -> bool {
        let has_all = self.shards.iter().all(|shard| shard.is_caught_up && shard.held.is_empty());
        let is_due = has_all && self.resent_at.elapsed() >= RESENT_INTERVAL;
        if is_due {
            self.resent_at = Instant::now();
        }
        is_due
    }

    /// Applies messages that a user has sent again. Returns whether there were any.
    fn apply_resent(&mut self) -> Result<bool> {
        // One worker does it: that of the first shard.
        let is_first = self.options.readable.first() == self.shards.first().map(|shard| &shard.id);
        if !is_first || !self.resent.is_empty() {
            return Ok(false);
        }
        let request = Arc::clone(&self.options.request);
        let quarantine = Quarantine::new(StreamStore::Lake(&request.lake), &request.settings.name);
        let resent = self.options.runtime.block_on(quarantine.resent())?;
        for message in &resent {
            let content = Bytes::from(message.content());
            let shard = format!("resent.{}", message.id());
            let outcome = match Message::parse(&content) {
                Err(reason) => Err(reason),
                Ok(Message { body: Body::Data { operation, values, before }, metadata }) => {
                    self.change((&shard, 1, content.len()), &metadata, operation, &values, before.as_ref())?
                }
                Ok(_) => Err("a control message can't be sent again".to_owned()),
            };
            if let Err(reason) = outcome {
                let again = QuarantinedMessage { reason, ..message.clone() };
                self.options.runtime.block_on(quarantine.add(&again))?;
            }
            self.resent.push(message.id());
        }
        Ok(!resent.is_empty())
    }

    /// The position of a shard before which the tables have all.
    fn durable(&self, shard: &SessionShard) -> u64 {
        let waiting = self.tables.values().flatten().filter_map(|table| table.needs_from(&shard.id)).min();
        waiting.unwrap_or(shard.received).min(shard.received)
    }

    /// Records up to where the shards are applied, at intervals or `now`.
    fn record(&mut self, now: bool) -> Result<()> {
        if !now && self.recorded_at.elapsed() < RECORD_INTERVAL {
            return Ok(());
        }
        self.recorded_at = Instant::now();
        self.write_records(false)
    }

    fn write_records(&mut self, is_release: bool) -> Result<()> {
        let request = Arc::clone(&self.options.request);
        let (store, transfer, epoch) =
            (StreamStore::Lake(&request.lake), &request.settings.name, self.options.replay.epoch);
        let durable: Vec<u64> = self.shards.iter().map(|shard| self.durable(shard)).collect();
        for (shard, durable) in self.shards.iter_mut().zip(durable) {
            let before = shard.record.clone();
            while let Some((position, sequence)) = shard.ends.pop_front_if(|(position, _)| *position <= durable) {
                (shard.record.position, shard.record.sequence) = (position, sequence);
            }
            shard.record.is_finished = shard.is_end && durable == shard.received && shard.held.is_empty();
            shard.record.barrier = shard.barrier.as_ref().map(|barrier| barrier.id.clone());
            (shard.record.lag_messages, shard.record.lag_millis) = (shard.lag.messages, shard.lag.millis);
            shard.record.worker = if is_release { String::new() } else { request.worker.clone() };
            shard.record.at_micros = before.at_micros;
            if shard.record != before || is_release {
                shard.record.at_micros = chrono::Utc::now().timestamp_micros();
                let name = record_name(epoch, &shard.id);
                self.options.runtime.block_on(shard.record.write(store, transfer, &name))?;
                shard.task.acknowledge(shard.record.position);
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
        let request = Arc::clone(&self.options.request);
        let (store, transfer) = (StreamStore::Lake(&request.lake), request.settings.name.as_str());
        let runtime = self.options.runtime.clone();
        let alive = runtime.block_on(workers::heartbeat(store, transfer, &request.worker))?;
        let replay = runtime.block_on(ReplayRecord::read(store, transfer))?;
        let own: Vec<&String> = self.shards.iter().map(|shard| &shard.id).collect();
        let now = assigned(&request.worker, &alive, &self.options.readable);
        let is_other = now.iter().collect::<Vec<_>>() != own;
        Ok(replay != self.options.replay || (is_other && (alive != self.options.alive || self.options.waits)))
    }

    fn shard_status(&self, shard: &SessionShard) -> ShardStatus {
        ShardStatus {
            id: shard.id.clone(),
            position: self.durable(shard),
            lag_messages: shard.lag.messages,
            lag_millis: shard.lag.millis,
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
        self.options.observer.report(&StreamStatus {
            received: Lsn::from_i64(position.cast_signed()),
            confirmed: Lsn::from_i64(confirmed.cast_signed()),
            bytes: self.bytes,
            tables: self.tables.values().flatten().map(status).collect(),
            shards: self.shards.iter().map(|shard| self.shard_status(shard)).collect(),
        });
    }
}
