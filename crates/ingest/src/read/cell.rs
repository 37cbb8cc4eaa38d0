//! One value of a file, before anything is known of what it should be.

use std::borrow::Cow;

use chrono::{NaiveDate, NaiveDateTime};

use crate::number::Number;

#[derive(Debug, Clone)]
pub enum Cell<'a> {
    Empty,
    Text(Cow<'a, str>),
    /// A number as programs write it.
    Plain(Cow<'a, str>),
    Exact(Number),
    Double(f64),
    /// A number of a workbook, which counts with 15 digits, as it is shown.
    Shown(f64),
    Bool(bool),
    Date(NaiveDate),
    /// Without an offset.
    Local(NaiveDateTime),
    /// Microseconds since 1970, UTC.
    Instant(i64),
    Seconds(i64),
    /// Bytes that are no text, as far as they can be shown.
    Undecodable(String),
    /// What can't be a value at all: what is written, what was expected of it.
    Wrong(String, &'static str),
}

impl Cell<'_> {
    pub fn is_blank(&self) -> bool {
        match self {
            Cell::Empty => true,
            Cell::Text(text) => text.trim().is_empty(),
            _ => false,
        }
    }

    /// For messages, and to tell one series from another.
    pub fn shown(&self) -> String {
        match self {
            Cell::Empty => String::new(),
            Cell::Text(text) | Cell::Plain(text) => text.to_string(),
            Cell::Exact(number) => number.to_string(),
            Cell::Double(number) | Cell::Shown(number) => number.to_string(),
            Cell::Bool(value) => value.to_string(),
            Cell::Date(date) => date.to_string(),
            Cell::Local(at) => at.to_string(),
            Cell::Instant(at) => chrono::DateTime::from_timestamp_micros(*at).unwrap_or_default().to_rfc3339(),
            Cell::Seconds(seconds) => format!("PT{seconds}S"),
            Cell::Undecodable(text) | Cell::Wrong(text, _) => text.clone(),
        }
    }
}

/// The digits that a workbook shows of a number, and no more: 0.1 + 0.2 is 0.3 there. All of a whole number's.
pub fn shown_digits(number: f64) -> String {
    if number.fract() == 0.0 {
        return number.to_string();
    }
    let rounded = format!("{number:.14e}");
    rounded.parse::<f64>().map_or(rounded, |number| number.to_string())
}
