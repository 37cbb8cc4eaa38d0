//! One streaming of the log, from its start to a stop or an error: the messages of transactions go to an [`Applier`], and
//! the slot is confirmed up to what the target has.

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::applier::{Applier, Received, SessionEnd};
use super::capture::{CaptureControl, POLL, Packet, capture, panicked};
use super::pgoutput::{Message, Transaction};
use super::slot::SourceWatch;
use super::status::{StreamObserver, StreamStatus};
use super::stream_record::RereadRequest;
use super::streamed_transactions::StreamedTransactions;
use super::table_stream::LogForm;
use crate::error::{Error, Result};
use crate::lsn::Lsn;
use crate::postgres::replication::LogStream;
use crate::request::Request;

/// The size of the messages of a transaction between two looks at whether the session is stopped.
const REPLAY_BYTES: usize = 1 << 20;
/// Between two looks at what a user asks for.
const ASK_INTERVAL: Duration = Duration::from_secs(2);
/// Between two reports to the observer.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// What a session needs.
#[derive(Clone)]
pub struct SessionOptions<'a> {
    /// The transfer's settings, source and target.
    pub request: &'a Request,
    /// The form of the log's values.
    pub form: LogForm,
    /// Ends the session when all changes before this position are in the lake.
    pub until: Option<Lsn>,
    /// Is told about the progress, and is asked whether to go on.
    pub observer: &'a dyn StreamObserver,
    /// Tables that were read again so often that they are not read again another time.
    pub reread: &'a BTreeSet<String>,
    /// What is observed at the source meanwhile.
    pub watch: &'a SourceWatch,
    /// The runtime on which the target is written.
    pub runtime: Handle,
}

enum Event {
    Packet(Packet),
    CaptureEnded(Result<()>),
}

/// A session; it blocks, so it must run on a thread that does not belong to an asynchronous runtime.
pub struct Session<'a, A> {
    options: SessionOptions<'a>,
    applier: A,
    control: CaptureControl,
    events: Receiver<Event>,
    sender: Sender<Event>,
    received: Received,
    transaction: Option<Transaction>,
    reported_at: Instant,
    asked_at: Instant,
    /// Transactions that were sent before their commit.
    streamed: StreamedTransactions,
    /// The session was stopped within a transaction.
    is_stopped: bool,
}

impl<'a, A: Applier> Session<'a, A> {
    /// A session that goes on from a position.
    pub fn new(options: SessionOptions<'a>, applier: A, position: Lsn) -> Self {
        let (sender, events) = channel();
        let now = Instant::now();
        let control = CaptureControl::default();
        control.confirm(position);
        Session {
            streamed: StreamedTransactions::new(&options.request.scratch),
            options,
            applier,
            control,
            events,
            sender,
            received: Received { position, committed_at: None },
            transaction: None,
            reported_at: now - REPORT_INTERVAL,
            asked_at: now,
            is_stopped: false,
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
            match self.events.recv_timeout(POLL) {
                Ok(Event::Packet(packet)) => self.receive(&packet)?,
                Ok(Event::CaptureEnded(ended)) => {
                    ended?;
                    return Err(panicked());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(panicked()),
            }
            self.applier.poll()?;
            if self.transaction.is_none() {
                // At the end there is nothing to wait for.
                let is_last = self.options.until.is_some_and(|until| self.received.position >= until);
                self.applier.commit_due(self.received, is_last)?;
            }
            self.confirm(false)?;
            self.report();
            if let Some(end) = self.applier.end() {
                return Ok(end);
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
        let durable = self.applier.durable(self.received.position);
        let is_there = self.options.until.is_some_and(|until| durable >= until);
        is_there && self.transaction.is_none() && !self.applier.is_busy()
    }

    /// Waits for what runs in the background and, after a session without an error, commits the complete transactions.
    fn finish(&mut self, is_ok: bool) -> Result<()> {
        let received = (is_ok && self.transaction.is_none()).then_some(self.received);
        self.applier.finish(received)?;
        let confirmed = self.confirm(true);
        self.reported_at -= REPORT_INTERVAL;
        self.report();
        confirmed
    }

    fn confirm(&mut self, now: bool) -> Result<()> {
        let confirmed = self.applier.confirm(self.received, now)?;
        self.control.confirm(confirmed);
        Ok(())
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
            self.received.position = self.received.position.max(sent);
        }
        Ok(())
    }

    fn handle(&mut self, message: Message<'_>) -> Result<()> {
        match message {
            Message::Begin(transaction) => self.transaction = Some(transaction),
            Message::Commit(end) => self.end_transaction(end)?,
            Message::Relation(relation) => {
                self.applier.describe(relation, self.transaction, self.received.position)?;
            }
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

    fn collect(&mut self, relation: u32, change: &Message<'_>) -> Result<()> {
        let transaction = self.transaction;
        let transaction = transaction.ok_or_else(|| Error::bug("read the log: a change outside of a transaction"))?;
        self.applier.collect(relation, change, transaction, self.received.position)
    }

    fn end_transaction(&mut self, end: Lsn) -> Result<()> {
        let committed_at = self.transaction.take().map(|transaction| transaction.at_micros);
        self.received = Received { position: end, committed_at };
        self.applier.commit_due(self.received, false)
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
            if let Message::Relation(relation) = Message::parse(&description)? {
                self.applier.describe_later(relation);
            }
        }
        self.end_transaction(end)
    }

    fn report(&mut self) {
        if self.reported_at.elapsed() < REPORT_INTERVAL {
            return;
        }
        self.reported_at = Instant::now();
        let now = chrono::Utc::now().timestamp_micros();
        let received = self.received.position;
        let tables = self.applier.tables(received, now);
        let (confirmed, bytes) = (self.control.confirmed(), self.control.received());
        self.options.observer.report(&StreamStatus { received, confirmed, tables, bytes, shards: Vec::new() });
    }
}
