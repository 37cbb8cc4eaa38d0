//! Ends a base backup or the start of a server from another thread.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use supervisor::Group;

use crate::Result;
use crate::error::{Error, Kind};

/// Cancels a call that takes long, which gets one clone while the thread that may cancel it keeps another. All clones
/// share one state, and a cancellation is final.
#[derive(Clone, Debug, Default)]
pub struct Cancellation(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    is_cancelled: bool,
    /// The group of the program that runs now, where there is one.
    running: Weak<Group>,
}

impl Cancellation {
    /// Kills the program that runs now, with all processes that it has started, and prevents further programs. The call
    /// that waits for the program returns an error of [`Kind::Retry`]. Does not wait for the end.
    pub fn cancel(&self) {
        let mut state = self.state();
        state.is_cancelled = true;
        if let Some(group) = state.running.upgrade() {
            group.kill();
        }
    }

    /// An error where the call is cancelled.
    pub(crate) fn check(&self, doing: &str) -> Result<()> {
        if self.state().is_cancelled {
            return Err(Error::new(Kind::Retry, format!("{doing}: it was cancelled")));
        }
        Ok(())
    }

    /// Sets the program that runs now, after its start. Where the call was cancelled before, the program is killed.
    pub(crate) fn attach(&self, group: &Arc<Group>) {
        let mut state = self.state();
        state.running = Arc::downgrade(group);
        if state.is_cancelled {
            group.kill();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
