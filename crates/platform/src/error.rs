//! What PostgreSQL reports, as errors that say what the caller can do.

pub use base::{Error, Kind, Result};

/// Adds what was being done when PostgreSQL refused.
pub(crate) trait ErrorContext<T> {
    /// Wraps the error, where there is one; its kind follows from the SQLSTATE.
    fn during(self, context: impl Into<String>) -> Result<T>;
}

impl<T> ErrorContext<T> for Result<T, tokio_postgres::Error> {
    fn during(self, context: impl Into<String>) -> Result<T> {
        self.map_err(|source| Error::new(kind_of(&source), context).because(source))
    }
}

fn kind_of(error: &tokio_postgres::Error) -> Kind {
    let Some(code) = error.code() else {
        // No answer from the server: the connection failed or ended.
        return Kind::Retry;
    };
    match code.code() {
        // Exists already; does not exist; a key taken by an earlier call.
        "42P06" | "42P07" | "42P01" | "3F000" | "23505" => Kind::FixInput,
        "42501" => Kind::FixSetup,
        code => match &code[..2] {
            "08" | "40" | "55" | "57" => Kind::Retry,
            "28" | "3D" | "53" | "58" => Kind::FixSetup,
            _ => Kind::Bug,
        },
    }
}
