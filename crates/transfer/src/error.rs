//! One error for the crate; its kind says what the caller can do about it.

use std::fmt;

/// What the caller can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The same call may succeed later: a connection was cut, a lock was held.
    Retry,
    /// A value or a definition at the source must change, or be carried another way.
    FixInput,
    /// Configuration, permissions or the server's settings must change.
    FixSetup,
    /// Neither the user nor time will correct it.
    Bug,
}

type Source = Box<dyn std::error::Error + Send + Sync + 'static>;

/// `context` is what was being done; the source says what went wrong.
#[derive(Debug)]
pub struct Error {
    pub kind: Kind,
    pub context: String,
    /// The hint, where it is known: a statement to run, a key to set.
    pub hint: Option<String>,
    /// What a table is in, where a transfer can't go on with it: `recreated`, `key-changed`. Named in docs/transfer.md.
    pub state: Option<&'static str>,
    source: Option<Source>,
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub fn new(kind: Kind, context: impl Into<String>) -> Self {
        Error { kind, context: context.into(), hint: None, state: None, source: None }
    }

    pub fn retry(context: impl Into<String>) -> Self {
        Self::new(Kind::Retry, context)
    }

    pub fn input(context: impl Into<String>) -> Self {
        Self::new(Kind::FixInput, context)
    }

    pub fn setup(context: impl Into<String>) -> Self {
        Self::new(Kind::FixSetup, context)
    }

    pub fn bug(context: impl Into<String>) -> Self {
        Self::new(Kind::Bug, context)
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub fn state(mut self, state: &'static str) -> Self {
        self.state = Some(state);
        self
    }

    #[must_use]
    pub fn because(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Puts what was being done around an error that already says what went wrong.
    #[must_use]
    pub fn within(self, context: impl Into<String>) -> Self {
        let (kind, hint, state) = (self.kind, self.hint.clone(), self.state);
        Error { kind, context: context.into(), hint, state, source: Some(Box::new(self)) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.context)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}

/// Nobody listens, or nobody answers: a server that restarts, a network that is down.
fn is_away(error: &tokio_postgres::Error) -> bool {
    use std::io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, NetworkDown, NetworkUnreachable,
        TimedOut,
    };
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    source.is_some_and(|error| {
        matches!(
            error.kind(),
            ConnectionAborted
                | ConnectionRefused
                | ConnectionReset
                | HostUnreachable
                | NetworkDown
                | NetworkUnreachable
                | TimedOut
        )
    })
}

/// PostgreSQL's own error code decides what can be done about it.
fn kind_of(error: &tokio_postgres::Error) -> Kind {
    let Some(code) = error.code() else {
        return if error.is_closed() || is_away(error) { Kind::Retry } else { Kind::FixSetup };
    };
    match &code.code()[..2] {
        "08" | "40" | "53" | "55" | "57" => Kind::Retry,
        "22" | "23" => Kind::FixInput,
        _ => Kind::FixSetup,
    }
}

/// Adds what was being done to an error from below.
pub trait Context<T> {
    fn context(self, context: impl Into<String>) -> Result<T>;
}

impl<T> Context<T> for std::result::Result<T, tokio_postgres::Error> {
    fn context(self, context: impl Into<String>) -> Result<T> {
        self.map_err(|e| Error::new(kind_of(&e), context).because(e))
    }
}

impl<T> Context<T> for std::result::Result<T, std::io::Error> {
    fn context(self, context: impl Into<String>) -> Result<T> {
        self.map_err(|e| {
            let kind = match e.kind() {
                std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied => Kind::FixSetup,
                _ => Kind::Retry,
            };
            Error::new(kind, context).because(e)
        })
    }
}

impl<T> Context<T> for std::result::Result<T, arrow::error::ArrowError> {
    fn context(self, context: impl Into<String>) -> Result<T> {
        self.map_err(|e| Error::bug(context).because(e))
    }
}

impl<T> Context<T> for std::result::Result<T, lake::Error> {
    fn context(self, context: impl Into<String>) -> Result<T> {
        self.map_err(|e| {
            let kind = match e.kind {
                lake::Kind::Retry => Kind::Retry,
                lake::Kind::FixInput => Kind::FixInput,
                lake::Kind::FixSetup => Kind::FixSetup,
                lake::Kind::Bug => Kind::Bug,
            };
            Error::new(kind, context).because(e)
        })
    }
}

impl<T> Context<T> for Result<T> {
    fn context(self, context: impl Into<String>) -> Result<T> {
        self.map_err(|e| e.within(context))
    }
}
