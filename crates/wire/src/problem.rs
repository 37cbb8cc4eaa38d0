//! Errors as PostgreSQL's clients know them: a code that programs tell apart, a message, a hint.

use std::error::Error as _;

use datafusion::arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use pgwire::error::{ErrorInfo, PgWireError};
use sqlparser::parser::ParserError;

use sql::error::{Error, Kind, Refusal};

pub(crate) const READ_ONLY: &str = "25006";
pub(crate) const ABORTED: &str = "25P02";
pub(crate) const CANCELLED: &str = "57014";
pub(crate) const SHUTDOWN: &str = "57P01";
pub(crate) const UNDEFINED_OBJECT: &str = "42704";
pub(crate) const BAD_VALUE: &str = "22023";
pub(crate) const NOT_SUPPORTED: &str = "0A000";

pub(crate) fn error(code: &str, message: impl Into<String>) -> PgWireError {
    PgWireError::UserError(Box::new(ErrorInfo::new("ERROR".to_owned(), code.to_owned(), message.into())))
}

pub(crate) fn fatal(code: &str, message: impl Into<String>) -> PgWireError {
    PgWireError::UserError(Box::new(ErrorInfo::new("FATAL".to_owned(), code.to_owned(), message.into())))
}

/// A panic, whose text is in the server's log.
pub(crate) fn broken_off(what: &str) -> PgWireError {
    error("XX000", format!("{what} ended by a fault of the server, which its log describes"))
}

/// Of the query that held most when the server came to its bound.
pub(crate) fn out_of_memory() -> PgWireError {
    let message = "out of memory: the server came near the memory that it may have, and this query held most of it";
    with_hint("53200", message, "ask for fewer rows at a time, or make shorter texts and arrays")
}

pub(crate) fn with_hint(code: &str, message: impl Into<String>, hint: impl Into<String>) -> PgWireError {
    let mut info = ErrorInfo::new("ERROR".to_owned(), code.to_owned(), message.into());
    info.hint = Some(hint.into());
    PgWireError::UserError(Box::new(info))
}

/// `query` is the text in which a place is to be pointed at.
pub(crate) fn of(error: &Error, query: Option<&str>) -> PgWireError {
    let mut below = error.source();
    while let Some(source) = below {
        if let Some(refusal) = source.downcast_ref::<Refusal>() {
            return of_refusal(refusal);
        }
        if let Some(engine) = source.downcast_ref::<DataFusionError>() {
            return of_engine(engine, error, query);
        }
        below = source.source();
    }
    let code = match error.kind {
        Kind::Retry => "58030",
        Kind::FixSetup => "58000",
        Kind::FixInput => "22023",
        Kind::Bug => "XX000",
    };
    self::error(code, chain(error))
}

pub(crate) fn of_run(error: DataFusionError) -> PgWireError {
    of(&sql::error::of_query(error, "run the query"), None)
}

fn of_refusal(refusal: &Refusal) -> PgWireError {
    let message = refusal.to_string();
    match refusal {
        Refusal::Denied { hint, .. } => with_hint("42501", message, hint),
        Refusal::Unknown { hint, .. } => with_hint("42P01", message, hint),
        Refusal::TooComplex { hint, .. } => with_hint("54001", message, hint),
        Refusal::ReadOnly { .. } => {
            with_hint(READ_ONLY, message, "the lake is written by transfers and marts, never by SQL sessions")
        }
    }
}

fn of_engine(engine: &DataFusionError, whole: &Error, query: Option<&str>) -> PgWireError {
    let root = engine.find_root();
    let mut info = ErrorInfo::new("ERROR".to_owned(), code_of(root).to_owned(), message_of(root, whole));
    match root {
        DataFusionError::SQL(..) => info.position = query.and_then(|query| place_in(&info.message, query)),
        DataFusionError::SchemaError(error, _) => {
            if let SchemaError::FieldNotFound { valid_fields, .. } = error.as_ref()
                && !valid_fields.is_empty()
            {
                let columns: Vec<String> = valid_fields.iter().map(|column| column.name.clone()).collect();
                info.hint = Some(format!("the columns are {}", columns.join(", ")));
            }
            info.position = engine.diagnostic().and_then(|d| d.span).and_then(|span| {
                let query = query?;
                offset(query, span.start.line, span.start.column).map(|at| at.to_string())
            });
        }
        DataFusionError::ResourcesExhausted(_) => {
            info.hint = Some(
                "read less at once (fewer columns, a narrower time range, a smaller LIMIT), \
                 or give queries more in [serve] of wattlake.toml"
                    .to_owned(),
            );
        }
        _ => {}
    }
    PgWireError::UserError(Box::new(info))
}

fn code_of(root: &DataFusionError) -> &'static str {
    match root {
        DataFusionError::SQL(error, _) if matches!(**error, ParserError::RecursionLimitExceeded) => "54001",
        DataFusionError::SQL(..) => "42601",
        DataFusionError::SchemaError(error, _) => match error.as_ref() {
            SchemaError::FieldNotFound { .. } => "42703",
            _ => "42702",
        },
        DataFusionError::ResourcesExhausted(_) => "53200",
        DataFusionError::NotImplemented(_) => NOT_SUPPORTED,
        DataFusionError::Plan(message) if message.contains("Invalid function") => "42883",
        DataFusionError::Plan(message) if message.contains("No function matches") => "42883",
        DataFusionError::Plan(message) if message.contains("not found") => "42P01",
        DataFusionError::Plan(_) => "42804",
        DataFusionError::ArrowError(error, _) => match error.as_ref() {
            ArrowError::DivideByZero => "22012",
            ArrowError::ArithmeticOverflow(_) => "22003",
            ArrowError::CastError(_) | ArrowError::ParseError(_) => "22P02",
            _ => "22000",
        },
        DataFusionError::Execution(text) if text.starts_with("more than one row returned") => "21000",
        DataFusionError::Execution(_) => "22000",
        DataFusionError::IoError(_) | DataFusionError::ObjectStore(_) => "58030",
        _ => "XX000",
    }
}

fn message_of(root: &DataFusionError, whole: &Error) -> String {
    match root {
        DataFusionError::SQL(error, _) => match error.as_ref() {
            ParserError::TokenizerError(text) | ParserError::ParserError(text) => format!("syntax error: {text}"),
            ParserError::RecursionLimitExceeded => "the query is nested too deeply".to_owned(),
        },
        DataFusionError::SchemaError(error, _) => match error.as_ref() {
            SchemaError::FieldNotFound { field, .. } => format!("column \"{}\" does not exist", field.flat_name()),
            other => other.to_string(),
        },
        DataFusionError::Plan(text)
        | DataFusionError::Execution(text)
        | DataFusionError::NotImplemented(text)
        | DataFusionError::Internal(text) => text.clone(),
        DataFusionError::ResourcesExhausted(text) => format!("out of memory: {text}"),
        DataFusionError::ArrowError(error, _) => match error.as_ref() {
            ArrowError::DivideByZero => "division by zero".to_owned(),
            ArrowError::ArithmeticOverflow(text) => text.clone(),
            other => other.to_string(),
        },
        _ => chain(whole),
    }
}

fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(source) = below {
        let said = source.to_string();
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        below = source.source();
    }
    text
}

/// The parser says `at Line: 1, Column: 8`; PostgreSQL counts characters from the start.
fn place_in(message: &str, query: &str) -> Option<String> {
    let (_, place) = message.rsplit_once("Line: ")?;
    let (line, column) = place.split_once(", Column: ")?;
    let digits: String = column.chars().take_while(char::is_ascii_digit).collect();
    offset(query, line.parse().ok()?, digits.parse().ok()?).map(|at| at.to_string())
}

fn offset(query: &str, line: u64, column: u64) -> Option<usize> {
    let before = usize::try_from(line.checked_sub(1)?).ok()?;
    let start: usize = query.split_inclusive('\n').take(before).map(|line| line.chars().count()).sum();
    Some(start + usize::try_from(column).ok()?)
}

#[cfg(test)]
mod tests {
    use super::place_in;

    #[test]
    fn a_place_is_counted_in_characters() {
        let query = "select é,\n  from t";
        assert_eq!(place_in("Expected: x, found: from at Line: 2, Column: 3", query).as_deref(), Some("13"));
        assert_eq!(place_in("no place", query), None);
    }
}
