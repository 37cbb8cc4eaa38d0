//! One error for the crate; its kind says what the caller can do about it.

use std::fmt;

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;

/// What the caller can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The same query may succeed later: the store did not answer.
    Retry,
    /// The query must change.
    FixInput,
    /// The lake's address, its permissions or the session's memory must change.
    FixSetup,
    Bug,
}

type Source = Box<dyn std::error::Error + Send + Sync + 'static>;

/// Why a session refuses, where a client of PostgreSQL's protocol is to be told apart by a code.
#[derive(Debug, Clone)]
pub enum Refusal {
    Denied { what: String, hint: String },
    Unknown { what: String, hint: String },
    ReadOnly { what: String },
    TooComplex { what: String, hint: String },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Denied { what, .. } => write!(f, "permission denied for table {what}"),
            Refusal::Unknown { what, .. } => write!(f, "relation \"{what}\" does not exist"),
            Refusal::TooComplex { what, .. } => write!(f, "statement too complex: {what}"),
            Refusal::ReadOnly { what } => write!(f, "cannot execute {what} in a read-only transaction"),
        }
    }
}

impl std::error::Error for Refusal {}

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

    /// What went wrong while a query's answer was read.
    pub fn from_query(error: DataFusionError) -> Self {
        of_query(error, "run the query")
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
    fn context(self, context: &str) -> Result<T>;
}

impl<T> Context<T> for std::result::Result<T, DataFusionError> {
    fn context(self, context: &str) -> Result<T> {
        self.map_err(|e| of_query(e, context))
    }
}

impl<T> Context<T> for lake::Result<T> {
    fn context(self, context: &str) -> Result<T> {
        self.map_err(|e| Error::new(of_lake(e.kind), context).because(e))
    }
}

impl<T> Context<T> for std::io::Result<T> {
    fn context(self, context: &str) -> Result<T> {
        self.map_err(|e| Error::new(Kind::FixSetup, context).because(e))
    }
}

impl<T> Context<T> for std::result::Result<T, ArrowError> {
    fn context(self, context: &str) -> Result<T> {
        self.map_err(|e| match e {
            // A pipe that closed, a disk that is full: the caller wants to tell them apart.
            ArrowError::IoError(_, io) => Error::new(Kind::FixSetup, context).because(io),
            other => Error::new(Kind::Bug, context).because(other),
        })
    }
}

fn of_lake(kind: lake::Kind) -> Kind {
    match kind {
        lake::Kind::Retry => Kind::Retry,
        lake::Kind::FixInput => Kind::FixInput,
        lake::Kind::FixSetup => Kind::FixSetup,
        lake::Kind::Bug => Kind::Bug,
    }
}

/// Where the query itself is at fault, the place in it is part of the context. An error of this
/// crate that only passed through DataFusion comes back as it was.
pub fn of_query(error: DataFusionError, context: &str) -> Error {
    let error = match error {
        DataFusionError::External(inner) => match inner.downcast::<Error>() {
            Ok(own) => return *own,
            Err(inner) => DataFusionError::External(inner),
        },
        other => other,
    };
    let error = in_words(error);
    let kind = kind_of(&error);
    let context = match error.diagnostic().and_then(|d| d.span) {
        Some(span) => format!("{context}, at line {}, column {}", span.start.line, span.start.column),
        None => context.to_owned(),
    };
    Error::new(kind, context).because(error)
}

const NO_FUNCTION: &str = "No function matches the given name and argument types '";

/// The engine's structures are no words for users, and its request to report them is not theirs to answer.
fn in_words(error: DataFusionError) -> DataFusionError {
    let text = error.find_root().to_string();
    if text.contains("OuterReferenceColumn") {
        return DataFusionError::NotImplemented(
            "a query in FROM or SELECT can't take columns of the query around it here: LATERAL is not supported, nor a \
             subquery whose rows are chosen by other than equality with them; write it as a join"
                .to_owned(),
        );
    }
    match error.find_root() {
        DataFusionError::Internal(text) => DataFusionError::Execution(text.clone()),
        // It lists each signature that does not fit, and calls that a bug.
        DataFusionError::Plan(text) if text.contains("likely caused by a bug") => match text.split_once(NO_FUNCTION) {
            Some((_, after)) => {
                let call = after.split_once("'.").map_or(after, |(call, _)| call);
                DataFusionError::Plan(format!("{NO_FUNCTION}{call}'; an explicit cast of its arguments may help"))
            }
            None => error,
        },
        _ => error,
    }
}

fn kind_of(error: &DataFusionError) -> Kind {
    match error.find_root() {
        DataFusionError::ObjectStore(_) | DataFusionError::IoError(_) => Kind::Retry,
        DataFusionError::ResourcesExhausted(_) => Kind::FixSetup,
        DataFusionError::Internal(_) | DataFusionError::ExecutionJoin(_) | DataFusionError::Ffi(_) => Kind::Bug,
        DataFusionError::External(inner) => {
            if let Some(own) = inner.downcast_ref::<Error>() {
                own.kind
            } else if let Some(below) = inner.downcast_ref::<lake::Error>() {
                of_lake(below.kind)
            } else {
                Kind::Retry
            }
        }
        _ => Kind::FixInput,
    }
}
