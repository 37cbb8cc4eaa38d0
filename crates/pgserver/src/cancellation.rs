//! The way to end a base backup or the start of a server from another thread.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use supervisor::Group;

use crate::Result;
use crate::error::{Error, Kind};

/// Given to what may take long, kept by who may want to end it. All clones are one.
#[derive(Clone, Debug, Default)]
pub struct Cancellation(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    is_cancelled: bool,
    /// Of the program that runs now, if any.
    running: Weak<Group>,
}

impl Cancellation {
    /// The program that runs now is killed with all that it has started, and none is started any
    /// more. Whoever waits for it gets an error of [`Kind::Retry`]. Does not wait itself.
    pub fn cancel(&self) {
        let mut state = self.state();
        state.is_cancelled = true;
        if let Some(group) = state.running.upgrade() {
            group.kill();
        }
    }

    pub(crate) fn check(&self, doing: &str) -> Result<()> {
        if self.state().is_cancelled {
            return Err(Error::new(Kind::Retry, format!("{doing}: it was cancelled")));
        }
        Ok(())
    }

    /// Called once the program has been started: a cancellation that came before kills it too.
    pub(crate) fn reaches(&self, group: &Arc<Group>) {
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
