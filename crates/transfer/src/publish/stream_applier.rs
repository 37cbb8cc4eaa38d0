//! Applies changes to a stream: each becomes a message, in the order of the log. What the stream has is not sent again:
//! its last message tells up to where that is.

use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use stream::message::{ControlOperation, MessageWriter, Operation, TableDefinition, TransactionDetails};
use stream::{LogPoint, Record};
use tokio::sync::mpsc::{Sender, channel as bounded};
use tokio::task::JoinHandle;

use super::encoder::{ChangePlace, TableEncoder, changed};
use super::record::{PublishedTable, point};
use super::send_batches::{MessageBatch, send_batches};
use super::target::{StreamTarget, position_text};
use crate::changes::applier::{Applier, Received, SessionEnd};
use crate::changes::chunk::new_fields;
use crate::changes::pgoutput::{Field, Message, Relation, Transaction};
use crate::changes::schema::{self, SchemaChange};
use crate::changes::session::SessionOptions;
use crate::changes::status::{ChangeCounts, TableStatus};
use crate::changes::stream_record::StreamRecord;
use crate::checkpoint::Origin;
use crate::error::{Error, Kind, Result};
use crate::lsn::Lsn;
use crate::plan::TablePlan;

/// The messages that are sent together.
const BATCH_MESSAGES: usize = 2000;
const BATCH_BYTES: usize = 1 << 20;
/// The batches that wait to be sent.
const BATCHES_WAITING: usize = 4;
/// How long a message waits for others.
const BATCH_WAIT: Duration = Duration::from_millis(20);
/// Between two writes of the record.
const RECORD_INTERVAL: Duration = Duration::from_secs(2);

/// A table that is published.
pub struct PublishingTable {
    plan: TablePlan,
    origin: Origin,
    encoder: Option<TableEncoder>,
    /// The description that the encoder is of.
    relation: Option<Relation>,
    /// The stream has the changes before this position.
    from: Lsn,
    counts: ChangeCounts,
    error: Option<Error>,
}

/// A message of a change: the row, and the row before.
type Step<'a> = (Operation, &'a [Field<'a>], Option<&'a [Field<'a>]>);

/// What was collected and is not stored yet.
struct Waiting {
    /// The number of the batch.
    number: u64,
    /// All changes before this position are in earlier batches.
    from: Lsn,
    /// When its first change was committed.
    oldest: i64,
}

/// The transaction of the changes that are collected.
#[derive(Default)]
struct CurrentTransaction {
    commit: Lsn,
    timestamp: String,
    position: String,
    changes: u64,
}

/// Publishes the changes of a session's tables.
pub struct StreamApplier<'a> {
    options: SessionOptions<'a>,
    target: StreamTarget,
    tables: HashMap<u32, PublishingTable>,
    record: StreamRecord,
    writer: MessageWriter,
    bytes_max: usize,
    /// The last change that the stream has.
    last: Option<LogPoint>,
    current: CurrentTransaction,
    /// The transaction and the number of the message before.
    previous: (u64, u64),
    /// The position of the message before, and its number.
    newest: Option<(String, u64)>,
    records: Vec<Record>,
    bytes: usize,
    filled_at: Option<Instant>,
    /// Batches that are not stored, the one that is collected included.
    waiting: VecDeque<Waiting>,
    number: u64,
    batches: Option<Sender<MessageBatch>>,
    sending: Option<JoinHandle<()>>,
    stored: Receiver<Result<u64>>,
    recorded_at: Instant,
    /// What ends the session, and the position before the change that it is about: nothing after it is published.
    end: Option<(SessionEnd, Lsn)>,
    /// The stream could not be written, which is no table's fault.
    is_broken: bool,
}

impl<'a> StreamApplier<'a> {
    /// An applier for these tables, which are at their positions. Connects to the stream.
    pub fn new(
        options: SessionOptions<'a>,
        target: &StreamTarget,
        tables: Vec<(TablePlan, Lsn, Origin)>,
        record: StreamRecord,
    ) -> Result<Self> {
        let transfer = &options.request.settings.name;
        let runtime = options.runtime.clone();
        let last = runtime.block_on(target.connect(transfer, &record.id))?.last_of(&record.id);
        let bytes_max = runtime.block_on(target.message_bytes_max());
        let table = |(plan, from, origin): (TablePlan, Lsn, Origin)| {
            let oid = plan.source.oid;
            let (encoder, relation, counts) = (None, None, ChangeCounts::default());
            (oid, PublishingTable { plan, origin, encoder, relation, from, counts, error: None })
        };
        let (batches, to_send) = bounded(BATCHES_WAITING);
        let (sender, stored) = channel();
        let sending = runtime.spawn(send_batches(target.clone(), to_send, sender));
        Ok(StreamApplier {
            writer: MessageWriter { settings: target.messages },
            target: target.clone(),
            tables: tables.into_iter().map(table).collect(),
            record,
            options,
            bytes_max,
            last,
            current: CurrentTransaction::default(),
            previous: (0, 0),
            newest: None,
            records: Vec::new(),
            bytes: 0,
            filled_at: None,
            waiting: VecDeque::new(),
            number: 0,
            batches: Some(batches),
            sending: Some(sending),
            stored,
            recorded_at: Instant::now(),
            end: None,
            is_broken: false,
        })
    }

    /// Adds a message to the batch.
    fn add(&mut self, record: Record, before: Lsn, at: i64) -> Result<()> {
        if self.records.is_empty() {
            self.number += 1;
            self.filled_at = Some(Instant::now());
            self.waiting.push_back(Waiting { number: self.number, from: before, oldest: at });
        }
        self.bytes += record.data.len();
        self.records.push(record);
        if self.records.len() >= BATCH_MESSAGES || self.bytes >= BATCH_BYTES { self.send() } else { Ok(()) }
    }

    /// Sends the batch. Waits where the stream is slower than the log.
    fn send(&mut self) -> Result<()> {
        (self.bytes, self.filled_at) = (0, None);
        let records = std::mem::take(&mut self.records);
        if records.is_empty() {
            return Ok(());
        }
        let batch = MessageBatch { records, number: self.number };
        let sent = self.batches.as_ref().map(|batches| batches.blocking_send(batch));
        match sent {
            Some(Ok(())) => Ok(()),
            // The task has ended by an error, which is among the results.
            _ => self.take_results().and(Err(Error::retry("store messages: the task has ended"))),
        }
    }

    /// Takes note of the batches that are stored.
    fn take_results(&mut self) -> Result<()> {
        loop {
            match self.stored.try_recv() {
                Ok(stored) => self.note_result(stored)?,
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return Ok(()),
            }
        }
    }

    fn note_result(&mut self, stored: Result<u64>) -> Result<()> {
        self.is_broken |= stored.is_err();
        let number = stored?;
        while self.waiting.front().is_some_and(|waiting| waiting.number <= number) {
            self.waiting.pop_front();
        }
        Ok(())
    }

    fn begin(&mut self, transaction: Transaction) {
        if self.current.commit != transaction.commit {
            self.current = CurrentTransaction {
                commit: transaction.commit,
                timestamp: MessageWriter::timestamp(transaction.at_micros),
                position: position_text(transaction.commit, &self.record.id),
                changes: 0,
            };
        }
        self.current.changes += 1;
    }

    /// Publishes the messages of a change, of which there are two where a key has changed.
    fn publish(&mut self, relation: u32, change: &Message<'_>, transaction: Transaction, before: Lsn) -> Result<()> {
        let Some(table) = self.tables.get_mut(&relation) else { return Ok(()) };
        let Some(encoder) = table.encoder.as_mut() else {
            return Err(Error::bug(format!(
                "publish {}: a change before its description",
                table.plan.source.display()
            )));
        };
        let (fields, old): (Vec<Field<'_>>, Option<Vec<Field<'_>>>) = match change {
            Message::Insert { new, .. } => (new.fields().collect(), None),
            Message::Update { old, new, .. } => (new_fields(*new, *old), old.map(|old| old.fields().collect())),
            Message::Delete { old, .. } => (old.fields().collect(), None),
            _ => return Ok(()),
        };
        // An update of the key, and one of a table without a key, is a delete and an insert: they have other keys.
        let moved = old.as_deref().filter(|old| !encoder.is_keyed() || !encoder.has_same_key(old, &fields));
        let steps: Vec<Step<'_>> = match (change, moved) {
            (Message::Insert { .. }, _) => vec![(Operation::Insert, &fields, None)],
            (Message::Delete { .. }, _) => vec![(Operation::Delete, &fields, Some(&fields))],
            (_, Some(old)) => vec![(Operation::Delete, old, Some(old)), (Operation::Insert, &fields, None)],
            (_, None) => vec![(Operation::Update, &fields, old.as_deref())],
        };
        if steps.len() > 1
            && let Some(column) = encoder.unchanged_column(&fields)
        {
            let name = table.plan.source.display();
            let what = format!("publish an update of the key of {name}: the log does not have column {column:?}");
            return Err(Error::input(what).state("value-missing").hint("ALTER TABLE ... REPLICA IDENTITY FULL"));
        }
        match change {
            Message::Insert { .. } => table.counts.inserts += 1,
            Message::Delete { .. } => table.counts.deletes += 1,
            _ => table.counts.updates += 1,
        }
        let mut records = Vec::with_capacity(steps.len());
        for (step, (operation, row, image)) in steps.into_iter().enumerate() {
            let number = self.current.changes * 2 + step as u64;
            if self.last.is_some_and(|last| point(transaction.commit, number) <= last) {
                continue;
            }
            let details = TransactionDetails {
                id: u64::from(transaction.xid),
                record: number,
                previous: self.previous,
                position: &self.current.position,
            };
            let place = ChangePlace { timestamp: &self.current.timestamp, transaction: Some(details) };
            let mut record = encoder.row(&self.writer, operation, row, image, place)?;
            record.point = Some(point(transaction.commit, number));
            records.push(record);
            self.previous = (u64::from(transaction.xid), number);
            self.newest = Some((self.current.position.clone(), number));
            table.counts.added += 1;
        }
        for record in records {
            self.add(record, before, transaction.at_micros)?;
        }
        Ok(())
    }

    /// Publishes that all rows of a table were removed.
    fn truncate(&mut self, relation: u32, transaction: Transaction, before: Lsn) -> Result<()> {
        let number = self.current.changes * 2;
        if self.last.is_some_and(|last| point(transaction.commit, number) <= last) {
            return Ok(());
        }
        let Some(table) = self.tables.get_mut(&relation) else { return Ok(()) };
        table.counts.truncates += 1;
        let Some(encoder) = table.encoder.as_ref() else { return Ok(()) };
        let place = Some((self.current.position.as_str(), number));
        let mut record = encoder.control(&self.writer, ControlOperation::TruncateTable, &self.current.timestamp, place);
        record.point = Some(point(transaction.commit, number));
        self.add(record, before, transaction.at_micros)
    }

    /// Follows the columns of a table, and publishes what has changed.
    fn follow(&mut self, relation: Relation, transaction: Option<Transaction>, before: Lsn) -> Result<()> {
        let Some(table) = self.tables.get_mut(&relation.id).filter(|table| table.error.is_none()) else {
            return Ok(());
        };
        if table.relation.as_ref() == Some(&relation) {
            return Ok(());
        }
        if table.relation.is_some() || !crate::changes::mapping::is_described_by(&table.plan, &relation) {
            let xid = transaction.map_or(0, |transaction| transaction.xid);
            let change = SchemaChange { request: self.options.request, form: self.options.form, xid };
            let planned = schema::plan_again(&change, &table.plan, &table.origin);
            table.plan = self.options.runtime.block_on(planned)?.0;
            super::encoder::check_plan(&table.plan)?;
        }
        let encoder = TableEncoder::of_relation(&table.plan, &relation, self.bytes_max)?;
        let (oid, definition, encoder_name) = (relation.id, encoder.definition.clone(), encoder.name().to_owned());
        (table.encoder, table.relation) = (Some(encoder), Some(relation));
        let transfer = &self.options.request.settings.name;
        let known = self.options.runtime.block_on(self.target.read_record(transfer))?;
        let Some(known) = known.tables.get(&oid) else { return Ok(()) };
        if let Some(what) = needs_reading(known, &encoder_name, &definition) {
            return self.read_again(oid, what, before);
        }
        let Some(operation) = changed(&known.definition, &definition) else { return Ok(()) };
        let Some(table) = self.tables.get_mut(&oid) else { return Ok(()) };
        table.counts.ddls += 1;
        if self.target.messages.include_table_alter_operations
            && let Some(encoder) = &table.encoder
        {
            let at = transaction.map_or_else(|| chrono::Utc::now().timestamp_micros(), |begun| begun.at_micros);
            let record = encoder.control(
                &self.writer,
                operation,
                &MessageWriter::timestamp(at),
                self.newest.as_ref().map(|(position, number)| (position.as_str(), *number)),
            );
            self.add(record, before, at)?;
        }
        // The next session publishes it again, where it is killed before.
        self.flush()?;
        let change = |record: &mut super::record::PublishRecord| {
            if let Some(table) = record.tables.get_mut(&oid) {
                table.definition = definition;
            }
        };
        self.options.runtime.block_on(self.target.update_record(transfer, change)).map(drop)
    }

    /// Ends the session, so that a table is read again whose rows are known by another key or name since.
    fn read_again(&mut self, oid: u32, what: &str, before: Lsn) -> Result<()> {
        let Some(table) = self.tables.get(&oid) else { return Ok(()) };
        let name = table.plan.source.display();
        if !self.target.messages.include_control_details {
            let what =
                format!("publish changes of {name}: {what}, and readers are not told of it without control messages");
            let hint = "set include_control_details = true in [messages], then read the table again";
            return Err(Error::input(what).state("columns-changed").hint(hint));
        }
        // The catalogue and the log may go on to disagree.
        if self.options.reread.contains(&name) {
            let what = format!("publish changes of {name}: {what}, also after it was read again");
            return Err(Error::input(what).state("columns-changed"));
        }
        tracing::warn!(table = name, "the table is read again: {what}");
        self.end = Some((SessionEnd::Reread(name), before));
        Ok(())
    }

    /// Waits until all that was collected is stored.
    fn flush(&mut self) -> Result<()> {
        self.send()?;
        while !self.waiting.is_empty() {
            let stored = self.stored.recv().map_err(|_| Error::retry("store messages: the task has ended"))?;
            self.note_result(stored)?;
        }
        Ok(())
    }

    /// Ends the part of a table where its error will not pass.
    fn fail(&mut self, oid: u32, error: Error, before: Lsn) -> Result<()> {
        let is_of_table = error.kind != Kind::Retry && !self.is_broken;
        let Some(table) = self.tables.get_mut(&oid).filter(|_| is_of_table) else { return Err(error) };
        let name = table.plan.source.display();
        // Without control messages readers would keep the rows that they have.
        let can_reread = self.target.messages.include_control_details;
        if error.state == Some("value-missing") && can_reread && !self.options.reread.contains(&name) {
            tracing::warn!(table = name, "the table is read again: {}", base::chain(&error));
            self.end = Some((SessionEnd::Reread(name), before));
            return Ok(());
        }
        tracing::error!(table = name, "{}", base::chain(&error));
        let hint = format!("correct it, then read the table again: {}", table.plan.resync_command);
        let error = if error.hint.is_some() { error } else { error.hint(hint) };
        let why = base::chain(&error);
        table.error = Some(error);
        // The slot goes on without it: a later session must not continue after what is missing.
        let change = |record: &mut super::record::PublishRecord| {
            if let Some(table) = record.tables.get_mut(&oid) {
                table.refusal = Some(why);
            }
        };
        let transfer = &self.options.request.settings.name;
        self.options.runtime.block_on(self.target.update_record(transfer, change)).map(drop)
    }
}

/// Why readers can't go on with the rows of a table that they have; `None` where they can.
fn needs_reading(known: &PublishedTable, name: &str, now: &TableDefinition) -> Option<&'static str> {
    match known {
        PublishedTable { name: Some(before), .. } if before != name => Some("it has another name"),
        PublishedTable { definition, .. } if definition.primary_key != now.primary_key => Some("it has another key"),
        _ => None,
    }
}

impl Applier for StreamApplier<'_> {
    fn describe(&mut self, relation: Relation, transaction: Option<Transaction>, before: Lsn) -> Result<()> {
        let oid = relation.id;
        self.follow(relation, transaction, before).or_else(|error| self.fail(oid, error, before))
    }

    fn describe_later(&mut self, relation: Relation) {
        // The next description comes before the next change.
        if let Some(table) = self.tables.get_mut(&relation.id) {
            table.relation = None;
        }
    }

    fn collect(&mut self, relation: u32, change: &Message<'_>, transaction: Transaction, before: Lsn) -> Result<()> {
        self.begin(transaction);
        let is_wanted = |table: &&PublishingTable| table.error.is_none() && transaction.commit >= table.from;
        if self.end.is_some() || self.tables.get(&relation).filter(is_wanted).is_none() {
            return Ok(());
        }
        let published = match change {
            Message::Truncate(_) => self.truncate(relation, transaction, before),
            _ => self.publish(relation, change, transaction, before),
        };
        published.or_else(|error| self.fail(relation, error, before))
    }

    fn commit_due(&mut self, _: Received, all: bool) -> Result<()> {
        let is_due = self.filled_at.is_some_and(|at| at.elapsed() >= BATCH_WAIT);
        if all || is_due { self.send() } else { Ok(()) }
    }

    fn poll(&mut self) -> Result<()> {
        self.take_results()?;
        let is_due = self.filled_at.is_some_and(|at| at.elapsed() >= BATCH_WAIT);
        if is_due { self.send() } else { Ok(()) }
    }

    fn finish(&mut self, received: Option<Received>) -> Result<()> {
        let flushed = match received {
            Some(_) => self.flush(),
            None => Ok(()),
        };
        self.batches = None;
        if let Some(sending) = self.sending.take() {
            if received.is_none() || flushed.is_err() {
                sending.abort();
            }
            // Nothing of this session may be stored when the next one looks at what the stream has. An aborted task
            // ends with an error.
            let _ = self.options.runtime.block_on(sending);
        }
        flushed
    }

    fn durable(&self, received: Lsn) -> Lsn {
        let end = self.end.as_ref().map_or(received, |(_, before)| received.min(*before));
        self.waiting.front().map_or(end, |waiting| waiting.from.min(end))
    }

    fn is_busy(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn confirm(&mut self, received: Received, now: bool) -> Result<Lsn> {
        let durable = self.durable(received.position);
        if durable > self.record.confirmed() && (now || self.recorded_at.elapsed() >= RECORD_INTERVAL) {
            self.recorded_at = Instant::now();
            let record = StreamRecord { confirmed: Some(durable), ..self.record.clone() };
            self.options.runtime.block_on(record.write(self.options.request))?;
            self.record = record;
            self.options.runtime.block_on(self.target.note_shards(&self.options.request.settings.name))?;
        }
        Ok(self.record.confirmed())
    }

    fn end(&mut self) -> Option<SessionEnd> {
        self.end.as_ref().map(|(end, _)| end.clone())
    }

    fn tables(&self, received: Lsn, now: i64) -> Vec<TableStatus> {
        let durable = self.durable(received);
        let oldest = self.waiting.front().map(|waiting| waiting.oldest);
        let lag_seconds = oldest.map_or(0.0, |at| (now - at).max(0) as f64 / 1e6);
        let status = |table: &PublishingTable| TableStatus {
            source: table.plan.source.display(),
            target: self.target.address.display(),
            counts: table.counts,
            durable,
            lag_seconds,
            error: table.error.as_ref().map(|error| (base::chain(error), error.state, error.hint.clone())),
        };
        self.tables.values().map(status).collect()
    }
}
