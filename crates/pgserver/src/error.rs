//! What can go wrong, sorted by what the caller can do about it.

use std::io;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Try again later: nothing is wrong with what was asked.
    Retry,
    /// Ask for something else: an argument or a setting is wrong.
    FixInput,
    /// Correct the machine or the source server, then ask again.
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

    pub(crate) fn setup(context: impl Into<String>) -> Self {
        Self::new(Kind::FixSetup, context)
    }

    pub(crate) fn input(context: impl Into<String>) -> Self {
        Self::new(Kind::FixInput, context)
    }
}

/// Says what was being done when the system refused.
pub(crate) trait During<T> {
    fn during(self, context: impl FnOnce() -> String) -> Result<T>;
}

impl<T> During<T> for io::Result<T> {
    fn during(self, context: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error {
            kind: match source.kind() {
                io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock => Kind::Retry,
                _ => Kind::FixSetup,
            },
            context: context(),
            source: Some(Box::new(source)),
        })
    }
}
