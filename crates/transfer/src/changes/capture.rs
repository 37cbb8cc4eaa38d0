//! Receives the log on a thread of its own, so that the server gets answers whatever the writer does. What was received
//! and not yet applied is bounded by bytes: beyond, the socket is not read, and the server waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::lsn::Lsn;
use crate::postgres::replication::{LogMessage, LogStream};

/// The most bytes that were received and not applied yet; one larger message may exceed them.
const QUEUE_BYTES: usize = 32 << 20;
/// Messages are passed on together, up to this size.
const PACKET_BYTES: usize = 512 << 10;
/// The longest time between two reports of the confirmed position, well within PostgreSQL's `wal_sender_timeout`.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);
/// The shortest, where the position has changed.
const REPORT_INTERVAL_MIN: Duration = Duration::from_millis(250);
/// How long messages are gathered before they are passed on. The server sends each by itself.
const GATHER: Duration = Duration::from_millis(3);
/// Between two reads of the socket while messages are gathered: a read for each message would cost more than its work.
const GATHER_STEP: Duration = Duration::from_micros(400);
/// How long to wait for the next message, and for room in the queue.
pub const POLL: Duration = Duration::from_millis(10);

/// Messages of the log, in their order.
pub struct Packet {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// All changes before this position were sent before the end of the packet.
    pub sent: Option<Lsn>,
    queued: Arc<AtomicUsize>,
}

impl Packet {
    fn new(queued: &Arc<AtomicUsize>) -> Packet {
        Packet { bytes: Vec::new(), ends: Vec::new(), sent: None, queued: Arc::clone(queued) }
    }

    /// The messages of `pgoutput`.
    pub fn messages(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |end| &self.bytes[std::mem::replace(&mut start, *end)..*end])
    }
}

impl Drop for Packet {
    fn drop(&mut self) {
        self.queued.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

/// What the receiving thread and the applying thread tell each other.
#[derive(Clone, Default)]
pub struct CaptureControl {
    confirmed: Arc<AtomicU64>,
    stopped: Arc<AtomicBool>,
    received: Arc<AtomicU64>,
}

impl CaptureControl {
    /// Sets the position before which all changes are durable.
    pub fn confirm(&self, position: Lsn) {
        self.confirmed.fetch_max(position.0, Ordering::Relaxed);
    }

    /// Makes the thread report the position and end.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// The number of bytes received.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// The position before which all changes are durable.
    pub fn confirmed(&self) -> Lsn {
        Lsn(self.confirmed.load(Ordering::Relaxed))
    }
}

/// Receives the stream until it is stopped, and passes packets to `packets`. At its end, the confirmed position is
/// reported.
///
/// # Errors
/// Where the stream ends.
pub fn capture<T>(
    mut stream: LogStream,
    control: &CaptureControl,
    packets: &Sender<T>,
    make: impl Fn(Packet) -> T,
) -> Result<()> {
    let queued = Arc::new(AtomicUsize::new(0));
    let mut packet = Packet::new(&queued);
    let mut opened_at: Option<Instant> = None;
    let (mut reported, mut reported_at) = (control.confirmed(), Instant::now());
    let send = |packet: &mut Packet| {
        let full = std::mem::replace(packet, Packet::new(&queued));
        queued.fetch_add(full.bytes.len(), Ordering::Relaxed);
        control.received.fetch_add(full.bytes.len() as u64, Ordering::Relaxed);
        // Where nobody receives, the stop follows.
        let _ = packets.send(make(full));
    };
    loop {
        let confirmed = control.confirmed();
        let since = reported_at.elapsed();
        let is_stopped = control.stopped.load(Ordering::Relaxed);
        if since >= REPORT_INTERVAL || (confirmed != reported && (is_stopped || since >= REPORT_INTERVAL_MIN)) {
            stream.confirm(confirmed)?;
            (reported, reported_at) = (confirmed, Instant::now());
        }
        if is_stopped {
            return stream.close();
        }
        if queued.load(Ordering::Relaxed) >= QUEUE_BYTES {
            std::thread::sleep(POLL);
            continue;
        }
        let mut needs_report = false;
        match stream.poll()? {
            Some(LogMessage::Data(message)) => {
                packet.bytes.extend_from_slice(message);
                packet.ends.push(packet.bytes.len());
            }
            Some(LogMessage::Keepalive { sent, needs_reply }) => {
                packet.sent = Some(sent);
                needs_report = needs_reply;
            }
            None => {}
        }
        let is_first = packet.ends.len() == 1 && opened_at.is_none();
        if is_first {
            opened_at = Some(Instant::now());
        }
        let is_full = packet.sent.is_some() || packet.bytes.len() >= PACKET_BYTES;
        if is_full || (opened_at.is_some() && !stream.has_message()) {
            if is_full || opened_at.is_some_and(|at| at.elapsed() >= GATHER) {
                send(&mut packet);
                opened_at = None;
            } else {
                std::thread::sleep(GATHER_STEP);
            }
        }
        if needs_report {
            stream.confirm(control.confirmed())?;
            (reported, reported_at) = (control.confirmed(), Instant::now());
        }
    }
}

/// The error of a receiving thread that panicked.
pub fn panicked() -> Error {
    Error::bug("receive the log: the thread panicked")
}
