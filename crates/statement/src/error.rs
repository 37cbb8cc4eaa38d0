//! What can go wrong, sorted by what the caller can do about it.

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Correct what was given: the template, the labels, a line.
    FixInput,
    /// A defect of this crate.
    Bug,
}

/// Its Display is the context alone; the source tells the rest of the chain.
#[derive(Debug, thiserror::Error)]
#[error("{context}")]
pub struct Error {
    pub kind: Kind,
    /// A verb phrase.
    pub context: String,
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub(crate) fn new(kind: Kind, context: impl Into<String>) -> Error {
        Error { kind, context: context.into(), source: None }
    }
}

/// Says what was being done.
pub(crate) trait During<T> {
    fn during(self, kind: Kind, context: impl Into<String>) -> Result<T>;
}

impl<T, E: std::error::Error + Send + Sync + 'static> During<T> for Result<T, E> {
    fn during(self, kind: Kind, context: impl Into<String>) -> Result<T> {
        self.map_err(|source| Error { kind, context: context.into(), source: Some(Box::new(source)) })
    }
}
