//! Error responses of the protocol: an SQLSTATE code, a message and a hint.

use std::error::Error as _;

use datafusion::arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use pgwire::error::{ErrorInfo, PgWireError};
use sqlparser::parser::ParserError;

use sql::error::{Error, Kind, Refusal, SyntaxError};

/// SQLSTATE `read_only_sql_transaction`.
pub(crate) const READ_ONLY: &str = "25006";
/// SQLSTATE `in_failed_sql_transaction`.
pub(crate) const ABORTED: &str = "25P02";
/// SQLSTATE `query_canceled`.
pub(crate) const CANCELLED: &str = "57014";
/// SQLSTATE `admin_shutdown`.
pub(crate) const SHUTDOWN: &str = "57P01";
/// SQLSTATE `undefined_object`.
pub(crate) const UNDEFINED_OBJECT: &str = "42704";
/// SQLSTATE `invalid_parameter_value`.
pub(crate) const BAD_VALUE: &str = "22023";
/// SQLSTATE `feature_not_supported`.
pub(crate) const NOT_SUPPORTED: &str = "0A000";

/// An error that ends the statement; the connection continues.
pub(crate) fn error(code: &str, message: impl Into<String>) -> PgWireError {
    PgWireError::UserError(Box::new(ErrorInfo::new("ERROR".to_owned(), code.to_owned(), message.into())))
}

/// An error after which the server closes the connection.
pub(crate) fn fatal(code: &str, message: impl Into<String>) -> PgWireError {
    PgWireError::UserError(Box::new(ErrorInfo::new("FATAL".to_owned(), code.to_owned(), message.into())))
}

/// The error for a panic in `what`; the panic's message is only in the server's log.
pub(crate) fn panicked(what: &str) -> PgWireError {
    error("XX000", format!("{what} panicked: the server's log has the details"))
}

/// The error for the query that the watchdog ended.
pub(crate) fn out_of_memory() -> PgWireError {
    let message = "out of memory: the server came near the memory limit of its process, and this query used the most";
    with_hint("53200", message, "read fewer rows at a time, or build shorter texts and arrays")
}

/// Like [`error`], with a hint.
pub(crate) fn with_hint(code: &str, message: impl Into<String>, hint: impl Into<String>) -> PgWireError {
    let mut info = ErrorInfo::new("ERROR".to_owned(), code.to_owned(), message.into());
    info.hint = Some(hint.into());
    PgWireError::UserError(Box::new(info))
}

/// The error response for an error of the `sql` crate. `query` is the statement's text, to point at a position in it.
pub(crate) fn of(error: &Error, query: Option<&str>) -> PgWireError {
    let mut cause = error.source();
    while let Some(source) = cause {
        if let Some(refusal) = source.downcast_ref::<Refusal>() {
            return of_refusal(refusal);
        }
        if let Some(syntax) = source.downcast_ref::<SyntaxError>() {
            return of_engine(&syntax.0, error, query);
        }
        if let Some(engine) = source.downcast_ref::<DataFusionError>() {
            return of_engine(engine, error, query);
        }
        cause = source.source();
    }
    let code = match error.kind {
        Kind::Retry => "58030",
        Kind::FixSetup => "58000",
        Kind::FixInput => "22023",
        Kind::Bug => "XX000",
    };
    self::error(code, base::chain(error))
}

/// The error response for an error of the engine while a query is planned or runs.
pub(crate) fn of_run(error: DataFusionError) -> PgWireError {
    of(&sql::error::query_error(error, "run the query"), None)
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
        DataFusionError::SQL(..) => info.position = query.and_then(|query| position_in(&info.message, query)),
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
                 or raise the limits in [serve] of wattlake.toml"
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
        _ => base::chain(whole),
    }
}

/// The position of a parser error as PostgreSQL counts it, in characters from the start of the query; the parser's
/// message ends with `at Line: 1, Column: 8`.
fn position_in(message: &str, query: &str) -> Option<String> {
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
    use super::position_in;

    #[test]
    fn a_position_is_counted_in_characters() {
        let query = "select é,\n  from t";
        assert_eq!(position_in("Expected: x, found: from at Line: 2, Column: 3", query).as_deref(), Some("13"));
        assert_eq!(position_in("no place", query), None);
    }
}
