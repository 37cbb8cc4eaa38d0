//! What Delta Lake and the object store report, as errors that say what the caller can do.

pub use base::{Error, Kind, Result};

/// Adds what was being done to an error of a library.
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
                self.map_err(|e| Error::new(kind_of_cause(&e), context).because(e))
            }
        }
    )*};
}

/// A library's error is a mistake of ours, unless a file or a request caused it.
fn kind_of_cause(error: &(dyn std::error::Error + 'static)) -> Kind {
    let mut cause = Some(error);
    while let Some(error) = cause {
        match error.downcast_ref::<object_store::Error>() {
            Some(object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. }) => {
                return Kind::FixSetup;
            }
            Some(_) => return Kind::Retry,
            None if error.is::<std::io::Error>() => return Kind::Retry,
            None => cause = error.source(),
        }
    }
    Kind::Bug
}

bugs!(
    parquet::errors::ParquetError,
    arrow::error::ArrowError,
    datafusion::error::DataFusionError,
    delta_kernel::Error,
    serde_json::Error
);
