//! What went wrong, and what its reader can do about it.

use std::error::Error as StdError;
use std::fmt;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It may work when tried again.
    Retry,
    /// The file, its layout or the name asked for.
    FixInput,
    /// The source, its keys, or this machine.
    FixSetup,
    /// Ours.
    Bug,
}

#[derive(Debug, thiserror::Error)]
pub struct Error {
    pub kind: Kind,
    /// What was being done: "open bills/2026-09.csv".
    pub context: String,
    #[source]
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    pub fn new(kind: Kind, context: impl Into<String>) -> Error {
        Error { kind, context: context.into(), source: None }
    }

    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        self.source = Some(source.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.context)
    }
}

/// Names what was being done when a source failed.
pub(crate) trait During<T> {
    fn during(self, kind: Kind, context: impl Into<String>) -> Result<T>;
}

impl<T, E: Into<Box<dyn StdError + Send + Sync>>> During<T> for std::result::Result<T, E> {
    fn during(self, kind: Kind, context: impl Into<String>) -> Result<T> {
        self.map_err(|source| Error::new(kind, context).because(source))
    }
}
