//! What SQLite and the file system report, as errors that say what the caller can do.

use std::io;

pub use base::{Error, Kind, Result};
use rusqlite::ErrorCode;

/// Adds what was being done when SQLite or the system refused.
pub(crate) trait ErrorContext<T> {
    /// Wraps the error, where there is one; its kind follows from SQLite's code.
    fn during(self, context: impl Into<String>) -> Result<T>;
}

impl<T> ErrorContext<T> for rusqlite::Result<T> {
    fn during(self, context: impl Into<String>) -> Result<T> {
        self.map_err(|source| Error::new(kind_of(&source), context).because(source))
    }
}

impl<T> ErrorContext<T> for io::Result<T> {
    fn during(self, context: impl Into<String>) -> Result<T> {
        self.map_err(|source| Error::setup(context).because(source))
    }
}

fn kind_of(error: &rusqlite::Error) -> Kind {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Kind::Retry,
        Some(
            ErrorCode::CannotOpen
            | ErrorCode::DatabaseCorrupt
            | ErrorCode::DiskFull
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::NotADatabase
            | ErrorCode::PermissionDenied
            | ErrorCode::ReadOnly
            | ErrorCode::SystemIoFailure,
        ) => Kind::FixSetup,
        _ => Kind::Bug,
    }
}
