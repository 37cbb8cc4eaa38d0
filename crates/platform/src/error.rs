//! What can go wrong, sorted by what the caller can do about it.

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Try again later: the server was not reachable, or went away.
    Retry,
    /// Ask for something else: the schema exists already, or does not yet; that day was lived.
    FixInput,
    /// Correct the server: its disk, its rights.
    FixSetup,
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

/// Says what was being done when PostgreSQL refused.
pub(crate) trait During<T> {
    fn during(self, context: impl Into<String>) -> Result<T>;
}

impl<T> During<T> for Result<T, tokio_postgres::Error> {
    fn during(self, context: impl Into<String>) -> Result<T> {
        self.map_err(|source| Error { kind: kind_of(&source), context: context.into(), source: Some(Box::new(source)) })
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
