//! A value of a file before it is converted to the type of its column.

use std::borrow::Cow;

use chrono::{NaiveDate, NaiveDateTime};

use crate::number::Number;

/// A value of a file, in the type that the file gives it.
#[derive(Debug, Clone)]
pub enum Cell<'a> {
    /// No value.
    Empty,
    /// A text, which may be a value of any type.
    Text(Cow<'a, str>),
    /// A number as programs write it.
    Plain(Cow<'a, str>),
    /// An exact number.
    Exact(Number),
    /// A floating-point number.
    Double(f64),
    /// A number of a workbook, which displays at most 15 digits of it.
    Displayed(f64),
    /// True or false.
    Bool(bool),
    /// A date.
    Date(NaiveDate),
    /// A time without an offset.
    Local(NaiveDateTime),
    /// Microseconds since 1970-01-01, UTC.
    Instant(i64),
    /// A duration.
    Seconds(i64),
    /// Bytes that are not a text in the file's encoding, with replacement characters.
    Undecodable(String),
    /// Never a valid value: its text, and what was expected.
    Invalid(String, &'static str),
}

impl Cell<'_> {
    /// Whether the cell is empty or has only spaces.
    pub fn is_blank(&self) -> bool {
        match self {
            Cell::Empty => true,
            Cell::Text(text) => text.trim().is_empty(),
            _ => false,
        }
    }

    /// The cell as a text, for messages.
    pub fn shown(&self) -> String {
        match self {
            Cell::Empty => String::new(),
            Cell::Text(text) | Cell::Plain(text) => text.to_string(),
            Cell::Exact(number) => number.to_string(),
            Cell::Double(number) | Cell::Displayed(number) => number.to_string(),
            Cell::Bool(value) => value.to_string(),
            Cell::Date(date) => date.to_string(),
            Cell::Local(at) => at.to_string(),
            Cell::Instant(at) => chrono::DateTime::from_timestamp_micros(*at).unwrap_or_default().to_rfc3339(),
            Cell::Seconds(seconds) => format!("PT{seconds}S"),
            Cell::Undecodable(text) | Cell::Invalid(text, _) => text.clone(),
        }
    }
}

/// The digits that a workbook displays of a number: at most 15, so that 0.1 + 0.2 is 0.3, and all of a whole number.
pub fn shown_digits(number: f64) -> String {
    if number.fract() == 0.0 {
        return number.to_string();
    }
    let rounded = format!("{number:.14e}");
    rounded.parse::<f64>().map_or(rounded, |number| number.to_string())
}
