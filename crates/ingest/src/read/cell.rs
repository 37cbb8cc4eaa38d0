//! A value of a file before it is converted to the type of its column.

use std::borrow::Cow;

use chrono::{NaiveDate, NaiveDateTime, NaiveTime, TimeDelta};

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
    /// The same cell with a text of its own.
    pub fn to_owned_cell(&self) -> Cell<'static> {
        match self {
            Cell::Empty => Cell::Empty,
            Cell::Text(text) => Cell::Text(text.to_string().into()),
            Cell::Plain(text) => Cell::Plain(text.to_string().into()),
            Cell::Exact(number) => Cell::Exact(*number),
            Cell::Double(number) => Cell::Double(*number),
            Cell::Displayed(number) => Cell::Displayed(*number),
            Cell::Bool(value) => Cell::Bool(*value),
            Cell::Date(date) => Cell::Date(*date),
            Cell::Local(at) => Cell::Local(*at),
            Cell::Instant(at) => Cell::Instant(*at),
            Cell::Seconds(seconds) => Cell::Seconds(*seconds),
            Cell::Undecodable(text) => Cell::Undecodable(text.clone()),
            Cell::Invalid(text, expected) => Cell::Invalid(text.clone(), expected),
        }
    }

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

/// A date and a time of day that are in two fields, as one cell.
pub fn joined<'a>(date: Cell<'a>, time: Cell<'a>) -> Cell<'a> {
    if date.is_blank() && time.is_blank() {
        return Cell::Empty;
    }
    let day = match &date {
        Cell::Date(day) => Some(*day),
        Cell::Local(at) => Some(at.date()),
        _ => None,
    };
    let passed = match &time {
        Cell::Local(at) => Some(*at - time_origin(at)),
        Cell::Seconds(seconds) => TimeDelta::try_seconds(*seconds),
        Cell::Text(text) => ["%H:%M:%S", "%H:%M"]
            .iter()
            .find_map(|format| NaiveTime::parse_from_str(text.trim(), format).ok())
            .map(|time| time - NaiveTime::MIN),
        _ => None,
    };
    if let (Some(day), Some(passed)) = (day, passed) {
        return match NaiveDateTime::new(day, NaiveTime::MIN).checked_add_signed(passed) {
            Some(at) => Cell::Local(at),
            None => Cell::Invalid(date.shown(), "a valid date"),
        };
    }
    let date = day.map_or_else(|| date.shown(), |day| day.to_string());
    let time = match &time {
        Cell::Local(at) => at.format("%H:%M:%S").to_string(),
        other => other.shown(),
    };
    Cell::Text(format!("{} {}", date.trim(), time.trim()).into())
}

/// What a workbook's time of day is counted from: it is a part of day 0, which is 1899-12-31, and 24:00 is day 1.
fn time_origin(at: &NaiveDateTime) -> NaiveDateTime {
    let zero = NaiveDate::from_ymd_opt(1899, 12, 31).unwrap_or_default();
    let is_time = at.date() <= zero + TimeDelta::days(1);
    NaiveDateTime::new(if is_time { zero } else { at.date() }, NaiveTime::MIN)
}

/// A time of a workbook without the error of its binary fraction of a day, which grows where each row adds a step to the
/// one before it: within a hundredth of a second, it is the whole second.
pub fn without_drift(at: NaiveDateTime) -> NaiveDateTime {
    let below = i64::from(at.and_utc().timestamp_subsec_micros());
    let away = if below > 500_000 { 1_000_000 - below } else { -below };
    if away.abs() <= 10_000 { at + TimeDelta::microseconds(away) } else { at }
}
