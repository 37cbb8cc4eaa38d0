//! One error for the crate; its kind says what the caller can do about it.

use std::fmt;

/// What the caller can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The same call may succeed later: another writer was faster, the store did not answer.
    Retry,
    /// The data or the name asked for must change.
    FixInput,
    /// The lake's address, options or permissions must change.
    FixSetup,
    Bug,
}

type Source = Box<dyn std::error::Error + Send + Sync + 'static>;

/// `context` is what was being done; the source says what went wrong.
#[derive(Debug)]
pub struct Error {
    pub kind: Kind,
    pub context: String,
    source: Option<Source>,
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub fn new(kind: Kind, context: impl Into<String>) -> Self {
        Error { kind, context: context.into(), source: None }
    }

    #[must_use]
    pub fn because(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(source.into());
        self
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

/// Adds what was being done to an error from below.
pub trait Context<T> {
    fn context(self, context: impl Into<String>) -> Result<T>;
}

impl<T> Context<T> for std::result::Result<T, deltalake::DeltaTableError> {
    fn context(self, context: impl Into<String>) -> Result<T> {
        use deltalake::DeltaTableError as Delta;
        self.map_err(|e| {
            let kind = match &e {
                Delta::Transaction { .. } | Delta::VersionAlreadyExists(_) | Delta::ObjectStore { .. } => Kind::Retry,
                Delta::NotATable(_) | Delta::InvalidVersion(_) => Kind::FixInput,
                Delta::InvalidTableLocation(_) => Kind::FixSetup,
                _ => Kind::Bug,
            };
            Error::new(kind, context).because(e)
        })
    }
}

impl<T> Context<T> for std::result::Result<T, object_store::Error> {
    fn context(self, context: impl Into<String>) -> Result<T> {
        use object_store::Error as Store;
        self.map_err(|e| {
            let kind = match &e {
                Store::PermissionDenied { .. }
                | Store::Unauthenticated { .. }
                | Store::UnknownConfigurationKey { .. } => Kind::FixSetup,
                Store::NotFound { .. } => Kind::FixInput,
                _ => Kind::Retry,
            };
            Error::new(kind, context).because(e)
        })
    }
}

impl<T> Context<T> for std::io::Result<T> {
    fn context(self, context: impl Into<String>) -> Result<T> {
        self.map_err(|e| Error::new(Kind::Retry, context).because(e))
    }
}

macro_rules! bugs {
    ($($error:ty),*) => {$(
        impl<T> Context<T> for std::result::Result<T, $error> {
            fn context(self, context: impl Into<String>) -> Result<T> {
                self.map_err(|e| Error::new(Kind::Bug, context).because(e))
            }
        }
    )*};
}

bugs!(
    parquet::errors::ParquetError,
    arrow::error::ArrowError,
    datafusion::error::DataFusionError,
    delta_kernel::Error,
    serde_json::Error
);
