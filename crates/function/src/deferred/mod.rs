//! Asynchronous events: answered with 202 once they are in the ledger, run later, tried again,
//! recorded at their destination, kept as dead letters.
//!
//! An event that was accepted is on the disk. It runs at least once, as on AWS Lambda: twice where
//! the host was killed while it ran, or after it had run and before its end was noted. What its
//! end causes (another function's event, an event of the ledger, a file) is noted together with the
//! end, and so happens once. One process at a time takes events; any may put them.

mod deliver;
mod dispatch;
mod record;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use ledger::{Bounds, Invocation, Ledger, Put};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::error::{During, Error, Kind, Result};
use crate::host::Fleet;

/// AWS Lambda's own.
pub const EVENT_BYTES_MAX: usize = 1 << 20;
/// Events that wait to be written; who comes then waits himself.
const WRITING_MAX: usize = 1024;
/// Events in one transaction.
const BATCH_MAX: usize = 64;

#[derive(Debug, Clone, Copy)]
pub struct Rules {
    pub bounds: Bounds,
    /// Events that run at a time, of all functions; one function has at most half of them.
    pub running_max: usize,
    /// How often the ledger is looked at for what others have put.
    pub look_period: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        let bounds = Bounds { kept_max: 1_000_000, bytes_max: 4 << 30 };
        Rules { bounds, running_max: 64, look_period: Duration::from_secs(1) }
    }
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Deferred {
    inner: Arc<Inner>,
}

struct Inner {
    fleet: Fleet,
    rules: Rules,
    writing: mpsc::Sender<Writing>,
    /// Something was put, or has ended.
    news: Notify,
    /// A file is to be delivered.
    files: AtomicBool,
}

struct Writing {
    invocation: Invocation,
    written: oneshot::Sender<Result<Put>>,
}

impl Deferred {
    pub fn new(fleet: Fleet, rules: Rules) -> Deferred {
        let (writing, written) = mpsc::channel(WRITING_MAX);
        let ledger = fleet.registry().ledger().clone();
        std::thread::spawn(move || write(&ledger, rules.bounds, written));
        Deferred { inner: Arc::new(Inner { fleet, rules, writing, news: Notify::new(), files: AtomicBool::default() }) }
    }

    /// Returns when the event is on the disk. The same request id twice is one event.
    pub async fn put(&self, invocation: Invocation) -> Result<Put> {
        const PUT: &str = "queue an event";
        let (tell, written) = oneshot::channel();
        let sent = self.inner.writing.send(Writing { invocation, written: tell }).await;
        sent.map_err(|_| Error::new(Kind::Bug, PUT))?;
        let put = written.await.during(Kind::Bug, PUT)??;
        self.inner.news.notify_one();
        Ok(put)
    }

    /// Puts a dead letter into the queue again; returns the new event's id. None where it is no dead letter.
    pub fn resend(&self, request_id: &str) -> Result<Option<String>> {
        let new = uuid::Uuid::now_v7().to_string();
        let sent = self.ledger().resend_invocation(request_id, &new)?;
        self.inner.news.notify_one();
        Ok(sent.then_some(new))
    }

    /// Takes events and runs them until `stop`, then waits for those under way. While another
    /// process does, this one waits for its end.
    ///
    /// # Errors
    /// A ledger that can't be read or written.
    pub async fn run(&self, stop: impl Future<Output = ()>) -> Result<()> {
        dispatch::run(self, stop).await
    }

    fn ledger(&self) -> &Ledger {
        self.inner.fleet.registry().ledger()
    }
}

/// Many events are one transaction when many come at once: each waits for one sync of the disk.
fn write(ledger: &Ledger, bounds: Bounds, mut from: mpsc::Receiver<Writing>) {
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
                let error = Error::from(error);
                for waiting in waiting {
                    let says = Error::new(error.kind, error.context.clone()).because(error.to_string());
                    let _ = waiting.send(Err(says));
                }
            }
        }
    }
}
