//! What can go wrong, sorted by what the caller can do about it.

use std::io;

use rusqlite::ErrorCode;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Try again later: the job is running, or the file is busy.
    Retry,
    /// Ask for something else.
    FixInput,
    /// Correct the machine: the file, its folder, the disk, the program's version.
    FixSetup,
    /// A defect of this crate.
    Bug,
}

/// Its Display is the context alone; the source tells the rest of the chain.
#[derive(Debug, thiserror::Error)]
#[error("{context}")]
pub struct Error {
    pub kind: Kind,
    /// A verb phrase, with what is wrong and the hint where they are known.
    pub context: String,
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub(crate) fn new(kind: Kind, context: impl Into<String>) -> Self {
        Self { kind, context: context.into(), source: None }
    }
}

/// Says what was being done when SQLite or the system refused.
pub(crate) trait During<T> {
    fn during(self, context: impl Into<String>) -> Result<T>;
}

impl<T> During<T> for rusqlite::Result<T> {
    fn during(self, context: impl Into<String>) -> Result<T> {
        self.map_err(|source| Error { kind: kind_of(&source), context: context.into(), source: Some(Box::new(source)) })
    }
}

impl<T> During<T> for io::Result<T> {
    fn during(self, context: impl Into<String>) -> Result<T> {
        self.map_err(|source| Error { kind: Kind::FixSetup, context: context.into(), source: Some(Box::new(source)) })
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
