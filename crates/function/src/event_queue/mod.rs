//! The queue of asynchronous events: an event is answered with 202 once it is in the ledger, runs later and is retried
//! after a failure. Its record goes to a destination, and a failed event is kept as a dead letter.
//!
//! An accepted event is on the disk. It runs at least once, as on AWS Lambda: twice where the host was killed while it
//! ran, or before its end was noted. What its end causes (an event for another function, an event of the ledger, a
//! file) is noted in the same transaction as the end, and so happens once. Any process may put events; one process at a
//! time runs them.

mod deliver;
mod dispatch;
mod record;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use ledger::{Invocation, InvocationLimits, Ledger, PutOutcome};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::error::{Error, ErrorContext, Kind, Result};
use crate::host::Fleet;

/// The largest asynchronous event, as on AWS Lambda: 1 MiB.
pub const EVENT_BYTES_MAX: usize = 1 << 20;
/// How many events may wait to be written; further callers wait.
const WRITING_MAX: usize = 1024;
/// Events in one transaction.
const BATCH_MAX: usize = 64;

/// Settings of the queue.
#[derive(Debug, Clone, Copy)]
pub struct QueueSettings {
    /// How many events and bytes the queue may hold.
    pub bounds: InvocationLimits,
    /// How many events of all functions run at a time. One function gets at most half of them.
    pub running_max: usize,
    /// How often the ledger is checked for events that other processes have put.
    pub look_period: Duration,
}

impl Default for QueueSettings {
    fn default() -> Self {
        let bounds = InvocationLimits { kept_max: 1_000_000, bytes_max: 4 << 30 };
        QueueSettings { bounds, running_max: 64, look_period: Duration::from_secs(1) }
    }
}

/// The queue of asynchronous events of a host. Cheap to clone.
#[derive(Clone)]
pub struct EventQueue {
    inner: Arc<Inner>,
}

struct Inner {
    fleet: Fleet,
    settings: QueueSettings,
    writing: mpsc::Sender<PendingWrite>,
    /// Notified when an event was put or has ended.
    changed: Notify,
    /// Whether a record has to be written to a folder.
    files: AtomicBool,
}

/// An event that is about to be written.
struct PendingWrite {
    invocation: Invocation,
    written: oneshot::Sender<Result<PutOutcome>>,
}

impl EventQueue {
    /// A queue for the functions of `fleet`. It runs no events until [`EventQueue::run`].
    pub fn new(fleet: Fleet, settings: QueueSettings) -> EventQueue {
        let (writing, written) = mpsc::channel(WRITING_MAX);
        let ledger = fleet.registry().ledger().clone();
        std::thread::spawn(move || write(&ledger, settings.bounds, written));
        EventQueue {
            inner: Arc::new(Inner { fleet, settings, writing, changed: Notify::new(), files: AtomicBool::default() }),
        }
    }

    /// Puts an event into the queue, and returns when it is on the disk. Two with the same request id are one event.
    pub async fn put(&self, invocation: Invocation) -> Result<PutOutcome> {
        const PUT: &str = "queue an event";
        let (tell, written) = oneshot::channel();
        let sent = self.inner.writing.send(PendingWrite { invocation, written: tell }).await;
        sent.map_err(|_| Error::new(Kind::Bug, PUT))?;
        let put = written.await.during(Kind::Bug, PUT)??;
        self.inner.changed.notify_one();
        Ok(put)
    }

    /// Puts a dead letter into the queue again and gives the new event's request id. `None` where `request_id` is not a
    /// dead letter.
    pub fn resend(&self, request_id: &str) -> Result<Option<String>> {
        let new = uuid::Uuid::now_v7().to_string();
        let sent = self.ledger().resend_invocation(request_id, &new)?;
        self.inner.changed.notify_one();
        Ok(sent.then_some(new))
    }

    /// Runs events until `stop`, then waits for those that are running. While another process runs them, this one waits
    /// until that process ends.
    ///
    /// # Errors
    /// The ledger can't be read or written.
    pub async fn run(&self, stop: impl Future<Output = ()>) -> Result<()> {
        dispatch::run(self, stop).await
    }

    fn ledger(&self) -> &Ledger {
        self.inner.fleet.registry().ledger()
    }
}

/// Writes events to the ledger. Those that arrive together are one transaction, with one sync of the disk.
fn write(ledger: &Ledger, bounds: InvocationLimits, mut from: mpsc::Receiver<PendingWrite>) {
    while let Some(first) = from.blocking_recv() {
        let (mut invocations, mut waiting) = (vec![first.invocation], vec![first.written]);
        while invocations.len() < BATCH_MAX
            && let Ok(next) = from.try_recv()
        {
            invocations.push(next.invocation);
            waiting.push(next.written);
        }
        match ledger.put_invocations(&invocations, bounds) {
            Ok(put) => waiting.into_iter().zip(put).for_each(|(waiting, put)| drop(waiting.send(Ok(put)))),
            Err(error) => {
                for waiting in waiting {
                    let says = Error::new(error.kind, error.context.clone()).because(error.to_string());
                    let _ = waiting.send(Err(says));
                }
            }
        }
    }
}
