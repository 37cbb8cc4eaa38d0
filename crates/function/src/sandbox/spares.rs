//! Sandboxes made ahead: what is the same for all functions stands already when one is to start,
//! so that a cold start waits for the function's own part alone.
//!
//! A spare holds two small processes and knows of no function. One that has died is no loss: who
//! takes it makes another.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use super::Ahead;
use super::launch::{Maker, Sandbox};

/// The function that has just been given a spare starts first.
const AFTER_A_START: Duration = Duration::from_millis(30);
/// Where none can be made there is no hurry to try again.
const AFTER_A_FAILURE: Duration = Duration::from_secs(10);

/// Ends, with its spares, when it is dropped.
#[derive(Debug)]
pub(super) struct Spares {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    ahead: Ahead,
    most: usize,
    ready: Mutex<Vec<Sandbox>>,
    taken: Condvar,
}

impl Spares {
    pub fn keep(maker: Maker, ahead: Ahead, most: usize) -> Spares {
        let shared = Arc::new(Shared { ahead, most, ready: Mutex::default(), taken: Condvar::new() });
        let weak = Arc::downgrade(&shared);
        thread::spawn(move || fill(&maker, &weak));
        Spares { shared }
    }

    /// One that stands on the same.
    pub fn take(&self, base: Option<&std::path::Path>) -> Option<Sandbox> {
        if self.shared.ahead.base.as_deref() != base {
            return None;
        }
        let mut ready = self.shared.alive();
        let spare = ready.pop();
        self.shared.taken.notify_one();
        spare
    }
}

impl Drop for Spares {
    fn drop(&mut self) {
        self.shared.taken.notify_one();
    }
}

impl Shared {
    fn alive(&self) -> MutexGuard<'_, Vec<Sandbox>> {
        let mut ready = self.lock();
        ready.retain(Sandbox::is_alive);
        ready
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Sandbox>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fill(maker: &Maker, shared: &Weak<Shared>) {
    let mut wait = Duration::ZERO;
    loop {
        thread::sleep(wait);
        let Some(shared) = shared.upgrade() else { return };
        let missing = shared.alive().len() < shared.most;
        wait = match missing.then(|| maker.make(&shared.ahead)) {
            Some(Ok(spare)) => {
                shared.lock().push(spare);
                Duration::ZERO
            }
            Some(Err(error)) => {
                tracing::warn!(error = error.chain(), "make a sandbox ahead");
                AFTER_A_FAILURE
            }
            None => {
                let ready = shared.lock();
                // Looked at now and then, lest the word of the end be missed.
                let full = |ready: &mut Vec<Sandbox>| ready.len() >= shared.most;
                drop(shared.taken.wait_timeout_while(ready, AFTER_A_FAILURE, full));
                AFTER_A_START
            }
        };
    }
}
