//! Spare sandboxes: they are started before they are needed, with the part of the root that is the same for all
//! functions, so that a cold start builds only the function's own part.
//!
//! A spare has two small processes and no function yet. Where a spare has ended, the launcher starts a new
//! sandbox instead.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use super::RootSpec;
use super::host_side::{Maker, Sandbox};

/// A pause after a spare was taken, so that its function starts before the next spare does.
const AFTER_A_START: Duration = Duration::from_millis(30);
/// A pause after a spare could not be started.
const AFTER_A_FAILURE: Duration = Duration::from_secs(10);

/// Keeps a number of spare sandboxes ready, from a thread of its own. The thread and the spares end when it is
/// dropped.
#[derive(Debug)]
pub(super) struct Spares {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    root: RootSpec,
    most: usize,
    ready: Mutex<Vec<Sandbox>>,
    taken: Condvar,
}

impl Spares {
    /// Starts the thread that keeps `most` spares.
    pub fn keep(maker: Maker, root: RootSpec, most: usize) -> Spares {
        let shared = Arc::new(Shared { root, most, ready: Mutex::default(), taken: Condvar::new() });
        let weak = Arc::downgrade(&shared);
        thread::spawn(move || fill(&maker, &weak));
        Spares { shared }
    }

    /// Takes a spare whose root was built from the same `base`, if there is one.
    pub fn take(&self, base: Option<&std::path::Path>) -> Option<Sandbox> {
        if self.shared.root.base.as_deref() != base {
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
    /// The spares, without those that have ended.
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
        wait = match missing.then(|| maker.make(&shared.root)) {
            Some(Ok(spare)) => {
                shared.lock().push(spare);
                Duration::ZERO
            }
            Some(Err(error)) => {
                tracing::warn!(error = error.chain(), "start a spare sandbox");
                AFTER_A_FAILURE
            }
            None => {
                let ready = shared.lock();
                // With a timeout: the notification of the end may have come before this wait.
                let full = |ready: &mut Vec<Sandbox>| ready.len() >= shared.most;
                drop(shared.taken.wait_timeout_while(ready, AFTER_A_FAILURE, full));
                AFTER_A_START
            }
        };
    }
}
