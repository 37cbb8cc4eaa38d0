//! What went wrong, and what its reader can do about it.

use std::error::Error as StdError;
use std::fmt;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It may work when tried again.
    Retry,
    /// The function, its zip or its event.
    FixInput,
    /// This machine.
    FixSetup,
    /// Ours.
    Bug,
}

#[derive(Debug, thiserror::Error)]
pub struct Error {
    pub kind: Kind,
    /// What was being done: "unpack layer r-base.zip".
    pub context: String,
    #[source]
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    pub fn new(kind: Kind, context: impl Into<String>) -> Error {
        Error { kind, context: context.into(), source: None }
    }

    /// With all that caused it, for those who have no other place to look at.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = StdError::source(self);
        while let Some(cause) = source {
            text.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        text
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

impl From<ledger::Error> for Error {
    fn from(error: ledger::Error) -> Error {
        let kind = match error.kind {
            ledger::Kind::Retry => Kind::Retry,
            ledger::Kind::FixInput => Kind::FixInput,
            ledger::Kind::FixSetup => Kind::FixSetup,
            ledger::Kind::Bug => Kind::Bug,
        };
        // One link of the chain, not two that say the same.
        Error { kind, context: error.context, source: error.source }
    }
}
