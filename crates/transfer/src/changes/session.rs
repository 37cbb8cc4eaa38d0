//! One streaming of the log, from its start to a stop or an error: messages go to their tables, tables are committed
//! when transactions are complete, and the slot is confirmed up to what all tables have.

mod commits;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::apply_task::AppliedChunk;
use super::capture::{CaptureControl, POLL, Packet, capture, panicked};
use super::pgoutput::{Message, Relation, Transaction};
use super::projection::Projector;
use super::schema::{self, SchemaChange};
use super::slot::SourceWatch;
use super::status::{StreamObserver, StreamStatus};
use super::stream_record::{RereadRequest, StreamRecord};
use super::streamed_transactions::StreamedTransactions;
use super::table_stream::{LogForm, TableStream, WriterState};
use crate::error::{Error, Result};
use crate::lsn::Lsn;
use crate::postgres::replication::LogStream;
use crate::request::Request;

/// The changes of a table that are applied at a time; a transaction may have more.
const CHUNK_BYTES: usize = 32 << 20;
const CHUNK_CHANGES: usize = 262_144;
/// The most bytes of changes of all tables that wait for a task.
const WAITING_BYTES: usize = 96 << 20;
/// The size of the messages of a transaction between two looks at whether the session is stopped.
const REPLAY_BYTES: usize = 1 << 20;
/// Between two looks at what a user asks for.
const ASK_INTERVAL: Duration = Duration::from_secs(2);
/// Between two reports to the observer.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

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

/// What a session needs.
pub struct SessionOptions<'a> {
    /// The transfer's settings, source and target.
    pub request: &'a Request,
    /// The form of the log's values.
    pub form: LogForm,
    /// Ends the session when all changes before this position are in the lake.
    pub until: Option<Lsn>,
    /// Is told about the progress, and is asked whether to go on.
    pub observer: &'a dyn StreamObserver,
    /// Tables that were read again by this run: they are not read again another time.
    pub reread: &'a BTreeSet<String>,
    /// What is observed at the source meanwhile.
    pub watch: &'a SourceWatch,
    /// The runtime on which the lake is written.
    pub runtime: Handle,
}

enum Event {
    Packet(Packet),
    Applied(Box<TaskResult>),
    CaptureEnded(Result<()>),
}

/// The result of a task that applied a chunk, and committed it where a position is present.
struct TaskResult {
    table: u32,
    outcome: Result<AppliedChunk>,
}

/// A session; it blocks, so it must run on a thread that does not belong to an asynchronous runtime.
pub struct Session<'a> {
    options: SessionOptions<'a>,
    tables: HashMap<u32, TableStream>,
    record: StreamRecord,
    control: CaptureControl,
    projector: Arc<Projector>,
    events: Receiver<Event>,
    sender: Sender<Event>,
    /// Events that arrived while a task was waited for.
    backlog: VecDeque<Event>,
    tasks: usize,
    /// The size of the changes that wait for a task.
    waiting_bytes: usize,
    /// All changes before this position were received; the end of the last complete transaction.
    position: Lsn,
    transaction: Option<Transaction>,
    checked_at: Instant,
    recorded_at: Instant,
    reported_at: Instant,
    asked_at: Instant,
    /// A table that has to be read again.
    reread: Option<String>,
    /// Transactions that were sent before their commit.
    streamed: StreamedTransactions,
    /// The session was stopped within a transaction.
    is_stopped: bool,
    /// When the last complete transaction was committed at the source, in microseconds since 1970.
    committed_at: Option<i64>,
}

impl<'a> Session<'a> {
    /// A session for these tables, by their OIDs.
    pub fn new(options: SessionOptions<'a>, tables: HashMap<u32, TableStream>, record: StreamRecord) -> Self {
        let (sender, events) = channel();
        let projector = Arc::new(Projector::new(&options.request.source));
        let now = Instant::now();
        let control = CaptureControl::default();
        control.confirm(record.confirmed());
        Session {
            position: record.confirmed(),
            streamed: StreamedTransactions::new(&options.request.scratch),
            is_stopped: false,
            options,
            tables,
            record,
            control,
            projector,
            events,
            sender,
            backlog: VecDeque::new(),
            tasks: 0,
            waiting_bytes: 0,
            transaction: None,
            checked_at: now,
            recorded_at: now,
            reported_at: now - REPORT_INTERVAL,
            asked_at: now,
            reread: None,
            committed_at: None,
        }
    }

    /// Streams the log. At the end, what was committed is confirmed, and other changes are received again by the next
    /// session.
    ///
    /// # Errors
    /// Where the stream ends, or a table can't be written for a reason that may pass.
    pub fn run(mut self, stream: LogStream) -> Result<SessionEnd> {
        let (control, sender) = (self.control.clone(), self.sender.clone());
        let capturing = std::thread::Builder::new().name("capture".to_owned()).spawn(move || {
            let ended = capture(stream, &control, &sender, Event::Packet);
            // Where the session has ended, nobody receives it.
            let _ = sender.send(Event::CaptureEnded(ended));
        });
        let capturing = capturing.map_err(|e| Error::retry("start the thread that receives the log").because(e))?;
        let outcome = self.stream();
        let finished = self.finish(outcome.is_ok());
        self.control.stop();
        let joined = capturing.join().map_err(|_| panicked());
        let end = outcome?;
        finished?;
        joined?;
        Ok(end)
    }

    fn stream(&mut self) -> Result<SessionEnd> {
        loop {
            let event = match self.backlog.pop_front() {
                Some(event) => Ok(event),
                None => self.events.recv_timeout(POLL),
            };
            match event {
                Ok(Event::Packet(packet)) => self.receive(&packet)?,
                Ok(Event::Applied(result)) => self.end_task(*result)?,
                Ok(Event::CaptureEnded(ended)) => {
                    ended?;
                    return Err(panicked());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(panicked()),
            }
            // At the end there is nothing to wait for.
            let is_last = self.options.until.is_some_and(|until| self.position >= until);
            self.commit_due(is_last)?;
            self.confirm(false)?;
            self.report();
            if let Some(table) = self.reread.take() {
                return Ok(SessionEnd::Reread(table));
            }
            let is_changed = self.options.watch.is_changed() && self.transaction.is_none();
            if is_changed || self.is_asked_to_reread()? {
                return Ok(SessionEnd::Replan);
            }
            if self.options.observer.should_stop() || self.has_reached_end() {
                return Ok(SessionEnd::Stopped);
            }
        }
    }

    fn is_asked_to_reread(&mut self) -> Result<bool> {
        if self.asked_at.elapsed() < ASK_INTERVAL || self.transaction.is_some() {
            return Ok(false);
        }
        self.asked_at = Instant::now();
        let asked = self.options.runtime.block_on(RereadRequest::read(self.options.request))?;
        Ok(!asked.tables.is_empty())
    }

    fn has_reached_end(&self) -> bool {
        let is_there = self.options.until.is_some_and(|until| self.durable() >= until);
        is_there && self.transaction.is_none() && self.tasks == 0
    }

    /// Waits for the running tasks and, after a session without an error, commits the complete transactions.
    fn finish(&mut self, is_ok: bool) -> Result<()> {
        if is_ok && self.transaction.is_none() {
            self.commit_due(true)?;
        }
        while self.tasks > 0 {
            match self.events.recv() {
                Ok(Event::Applied(result)) => {
                    self.end_task(*result)?;
                    if is_ok && self.transaction.is_none() {
                        self.commit_due(true)?;
                    }
                }
                Ok(_) => {}
                Err(_) => return Err(panicked()),
            }
        }
        let confirmed = self.confirm(true);
        self.reported_at -= REPORT_INTERVAL;
        self.report();
        confirmed
    }

    fn receive(&mut self, packet: &Packet) -> Result<()> {
        for message in packet.messages() {
            match self.streamed.is_open() && message.first() != Some(&b'E') {
                true => self.streamed.add(message)?,
                false => self.handle(Message::parse(message)?)?,
            }
            if self.is_stopped {
                return Ok(());
            }
        }
        if let Some(sent) = packet.sent
            && self.transaction.is_none()
        {
            self.position = self.position.max(sent);
        }
        Ok(())
    }

    fn handle(&mut self, message: Message<'_>) -> Result<()> {
        match message {
            Message::Begin(transaction) => self.transaction = Some(transaction),
            Message::Commit(end) => self.end_transaction(end)?,
            Message::Relation(relation) => self.describe(relation)?,
            Message::Truncate(relations) => {
                for relation in relations {
                    self.collect(relation, &Message::Truncate(Vec::new()))?;
                }
            }
            Message::StreamStart { xid } => self.streamed.start(xid)?,
            Message::StreamStop => self.streamed.stop(),
            Message::StreamAbort { xid, subtransaction } => self.streamed.abort(xid, subtransaction),
            Message::StreamCommit { transaction, end } => self.replay(transaction, end)?,
            Message::Other => {}
            ref change @ (Message::Insert { relation, .. }
            | Message::Update { relation, .. }
            | Message::Delete { relation, .. }) => self.collect(relation, change)?,
        }
        Ok(())
    }

    fn end_transaction(&mut self, end: Lsn) -> Result<()> {
        self.committed_at = self.transaction.take().map(|transaction| transaction.at_micros);
        self.position = end;
        self.commit_due(false)
    }

    /// Handles the messages of a transaction that were sent before its commit.
    fn replay(&mut self, transaction: Transaction, end: Lsn) -> Result<()> {
        let mut messages = self.streamed.take(transaction.xid)?;
        self.transaction = Some(transaction);
        let mut bytes = 0;
        while let Some(message) = messages.next()? {
            bytes += message.len();
            self.handle(Message::parse(message)?)?;
            if bytes >= REPLAY_BYTES {
                bytes = 0;
                self.report();
                self.is_stopped = self.options.observer.should_stop();
                if self.is_stopped {
                    return Ok(());
                }
            }
        }
        for description in messages.rest() {
            // Of a subtransaction that was rolled back, perhaps with its changes of the columns.
            if let Message::Relation(relation) = Message::parse(&description)?
                && let Some(table) = self.tables.get_mut(&relation.id)
            {
                table.later = Some(relation);
            }
        }
        self.end_transaction(end)
    }

    fn collect(&mut self, relation: u32, change: &Message<'_>) -> Result<()> {
        let Some(transaction) = self.transaction else {
            return Err(Error::bug("read the log: a change outside of a transaction"));
        };
        let Some(table) = self.tables.get_mut(&relation) else { return Ok(()) };
        if table.is_failed() || transaction.commit < table.durable {
            return Ok(());
        }
        if let Some(relation) = table.later.take() {
            self.follow(relation)?;
        }
        let marks = self.options.request.settings.marks_deleted();
        let is_apart = |table: &TableStream| (marks || table.history().is_some()) && table.changes() > 0;
        if matches!(change, Message::Truncate(_)) && self.tables.get(&relation).is_some_and(is_apart) {
            // The changes before it need all of their values, which are looked up among the rows.
            self.apply(relation, None)?;
        }
        let Some(table) = self.tables.get_mut(&relation).filter(|table| !table.is_failed()) else { return Ok(()) };
        let before = table.bytes();
        if let Err(error) = table.collect(change, self.position, transaction) {
            return self.fail(relation, error);
        }
        let (bytes, changes) = (table.bytes(), table.changes());
        self.waiting_bytes += bytes - before;
        if bytes >= CHUNK_BYTES || changes >= CHUNK_CHANGES {
            self.apply(relation, None)?;
        } else if self.waiting_bytes >= WAITING_BYTES {
            let largest = self.tables.iter().max_by_key(|(_, table)| table.bytes()).map(|(oid, _)| *oid);
            self.apply(largest.unwrap_or(relation), None)?;
        }
        Ok(())
    }

    /// Takes note of the columns of a table.
    fn describe(&mut self, relation: Relation) -> Result<()> {
        let Some(table) = self.tables.get_mut(&relation.id) else { return Ok(()) };
        if self.transaction.is_none_or(|transaction| transaction.commit < table.durable) {
            // The columns from before the table was read: only those of the first change that is applied count.
            table.later = Some(relation);
            return Ok(());
        }
        table.later = None;
        self.follow(relation)
    }

    /// Follows the columns of a table.
    fn follow(&mut self, relation: Relation) -> Result<()> {
        let oid = relation.id;
        let Some(table) = self.tables.get(&oid) else { return Ok(()) };
        if table.is_failed() || !table.has_changed(&relation) {
            return Ok(());
        }
        // Changes by the earlier description are applied with it, and committed where no part of the transaction is
        // among them.
        let is_part = self.transaction.is_some_and(|transaction| table.last_commit == transaction.commit);
        self.apply(oid, (!is_part).then_some(self.position))?;
        self.wait_until_idle(oid)?;
        let Some(table) = self.tables.get_mut(&oid).filter(|table| !table.is_failed()) else { return Ok(()) };
        if let WriterState::Idle(writer) = &mut table.writer {
            // On this thread: it blocks.
            writer.finish_files()?;
        }
        let xid = self.transaction.map_or(0, |transaction| transaction.xid);
        let change = SchemaChange { request: self.options.request, form: self.options.form, xid };
        match self.options.runtime.block_on(schema::follow(&change, table, relation)) {
            Ok(()) => Ok(()),
            Err(error) => self.fail(oid, error),
        }
    }

    fn report(&mut self) {
        if self.reported_at.elapsed() < REPORT_INTERVAL {
            return;
        }
        self.reported_at = Instant::now();
        let now = chrono::Utc::now().timestamp_micros();
        let tables = self.tables.values().map(|table| table.status(self.position, now)).collect();
        let (received, confirmed, bytes) = (self.position, self.record.confirmed(), self.control.received());
        self.options.observer.report(&StreamStatus { received, confirmed, tables, bytes });
    }
}
