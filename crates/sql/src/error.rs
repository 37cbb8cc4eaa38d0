//! What the engine reports, as errors that say what the caller can do.

use std::fmt;

use arrow::error::ArrowError;
pub use base::{Error, Kind, Result};
use datafusion::error::DataFusionError;
use sqlparser::parser::ParserError;

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

/// Adds what was being done to an error.
pub trait Context<T> {
    fn context(self, context: &str) -> Result<T>;
}

impl<T> Context<T> for std::result::Result<T, DataFusionError> {
    fn context(self, context: &str) -> Result<T> {
        self.map_err(|e| query_error(e, context))
    }
}

impl<T> Context<T> for Result<T> {
    fn context(self, context: &str) -> Result<T> {
        self.map_err(|e| e.within(context))
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

/// An error of the engine with the context of a query. Where the query itself is at fault, its line and column are
/// part of the context. An [`Error`] that only passed through DataFusion is returned unchanged.
pub fn query_error(error: DataFusionError, context: &str) -> Error {
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
    match error.find_root() {
        DataFusionError::SQL(..) => Error::new(kind, context).because(SyntaxError(error)),
        _ => Error::new(kind, context).because(error),
    }
}

/// An error of the parser, in its own words alone: the engine repeats them in its structure's form.
#[derive(Debug)]
pub struct SyntaxError(pub DataFusionError);

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.find_root() {
            DataFusionError::SQL(error, _) => match error.as_ref() {
                ParserError::ParserError(text) | ParserError::TokenizerError(text) => f.write_str(text),
                other => other.fmt(f),
            },
            other => other.fmt(f),
        }
    }
}

impl std::error::Error for SyntaxError {}

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
        DataFusionError::External(inner) => inner.downcast_ref::<Error>().map_or(Kind::Retry, |own| own.kind),
        _ => Kind::FixInput,
    }
}
