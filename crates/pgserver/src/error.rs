//! What the operating system reports, as errors that say what the caller can do.

use std::io;

pub use base::{Error, Kind, Result};

/// Adds what was being done when the system refused.
pub(crate) trait ErrorContext<T> {
    /// Wraps the error, where there is one.
    fn during(self, context: impl FnOnce() -> String) -> Result<T>;
}

impl<T> ErrorContext<T> for io::Result<T> {
    fn during(self, context: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| {
            let kind = match source.kind() {
                io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock => Kind::Retry,
                _ => Kind::FixSetup,
            };
            Error::new(kind, context()).because(source)
        })
    }
}
