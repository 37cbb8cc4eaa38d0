//! What PostgreSQL, Arrow and the file system report, as errors that say what the caller can do.

pub use base::{Error, Kind, Result};

/// True where the server cannot be reached: it restarts, or the network is down.
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

/// Adds what was being done to an error.
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

impl<T> Context<T> for Result<T> {
    fn context(self, context: impl Into<String>) -> Result<T> {
        self.map_err(|e| e.within(context))
    }
}
