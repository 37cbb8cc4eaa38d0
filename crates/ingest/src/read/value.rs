//! Converts cells to values of their columns' types: exactly, or to an error that says what was expected.

use std::borrow::Cow;

use base::{nearest, quoted_list};
use chrono::{NaiveDate, NaiveDateTime};

use super::cell::{Cell, shown_digits};
use super::fault::FaultKind;
use super::timestamp::{self, ParsedTime, ResolvedTime};
use crate::layout::{Column, Stamp, Type, Zone};
use crate::number::{Number, NumberError, NumberFormat};

const SECONDS_PER_HOUR: i128 = 3600;

/// A value of a column.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// A text, or a word of an enum.
    Text(Cow<'a, str>),
    /// An integer, or a duration in seconds.
    Whole(i64),
    /// A decimal's digits, at the column's scale.
    Decimal(i128),
    /// A floating-point number.
    Double(f64),
    /// True or false.
    Boolean(bool),
    /// Days since 1970-01-01.
    Date(i32),
    /// Microseconds since 1970-01-01, UTC.
    Instant(i64),
    /// One of two instants; which one depends on the order of the rows.
    InOrder {
        /// The time as it is written.
        local: NaiveDateTime,
        /// The earlier instant, in microseconds.
        first: i64,
        /// The later instant, in microseconds.
        second: i64,
    },
}

impl Value<'_> {
    /// The value as a number in the column's unit; `None` where it is not a number.
    pub fn number(&self, column: &Column) -> Option<Number> {
        match (self, &column.kind) {
            (Value::Whole(whole), _) => Some(Number::whole(i128::from(*whole))),
            (Value::Decimal(mantissa), Type::Decimal { scale, .. }) => {
                Some(Number { mantissa: *mantissa, scale: u32::try_from(*scale).ok()? })
            }
            (Value::Double(double), _) => Number::parse_plain(&double.to_string()).ok(),
            _ => None,
        }
    }
}

/// Why a cell is not a value of its column; the caller adds its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueError {
    /// The kind of fault.
    pub kind: FaultKind,
    /// What was expected, in words.
    pub expected: String,
    /// What to do about it; may be empty.
    pub hint: String,
}

impl ValueError {
    fn new(kind: FaultKind, expected: impl Into<String>, hint: impl Into<String>) -> ValueError {
        ValueError { kind, expected: expected.into(), hint: hint.into() }
    }

    /// A text that is not a value of the column's type.
    fn form(expected: impl Into<String>) -> ValueError {
        ValueError::new(FaultKind::Form, expected, "")
    }
}

/// The value of a cell; `None` where the cell is empty and the column allows that. `power_seconds` is the time over which
/// a column's numbers are an average power.
pub fn value<'a>(
    column: &Column,
    cell: &'a Cell<'_>,
    power_seconds: Option<i64>,
) -> Result<Option<Value<'a>>, ValueError> {
    match cell {
        Cell::Undecodable(_) => {
            let hint = "set `encoding` to the file's encoding, or have the file written in UTF-8";
            return Err(ValueError::new(FaultKind::Encoding, "text in the file's encoding", hint));
        }
        Cell::Invalid(_, expected) => return Err(ValueError::form(*expected)),
        _ if is_empty(column, cell) && column.required => {
            return Err(ValueError::new(FaultKind::Missing, expected(column), "the column is required"));
        }
        _ if is_empty(column, cell) => return Ok(None),
        _ => {}
    }
    let value = typed(column, cell, power_seconds)?;
    if let Some(pattern) = &column.pattern
        && !pattern.is_match(&cell.shown())
    {
        return Err(ValueError::new(FaultKind::Pattern, format!("a text of the pattern {:?}", pattern.as_str()), ""));
    }
    Ok(Some(value))
}

/// Whether a cell has no value, by its text or by a word of the column that means so.
pub fn is_empty(column: &Column, cell: &Cell<'_>) -> bool {
    let is_word = |text: &str| column.empty.iter().any(|empty| empty == text.trim());
    cell.is_blank() || matches!(cell, Cell::Text(text) | Cell::Plain(text) if is_word(text))
}

fn typed<'a>(column: &Column, cell: &'a Cell<'_>, power_seconds: Option<i64>) -> Result<Value<'a>, ValueError> {
    match &column.kind {
        Type::Text => Ok(Value::Text(text(cell))),
        Type::Enum(words) => word(words, cell),
        Type::Integer | Type::Decimal { .. } | Type::Double => number(column, cell, power_seconds),
        Type::Boolean { yes, no } => boolean(yes, no, cell).ok_or_else(|| ValueError::form(expected(column))),
        Type::Date { format } => {
            let date = date(format.as_deref(), cell).ok_or_else(|| ValueError::form(expected(column)))?;
            let days = date.signed_duration_since(NaiveDate::default()).num_days();
            i32::try_from(days).map(Value::Date).map_err(|_| ValueError::form(expected(column)))
        }
        Type::Timestamp { format, zone } => timestamp_value(column, format.as_deref(), *zone, cell),
        Type::Duration => match cell {
            Cell::Seconds(seconds) => Some(Value::Whole(*seconds)),
            cell => match (column.duration_unit, cell) {
                (Some(unit), cell) => written_number(column, cell)
                    .ok()
                    .and_then(|number| number.times(Number::whole(i128::from(unit)))?.at_scale(0))
                    .and_then(|seconds| i64::try_from(seconds).ok())
                    .map(Value::Whole),
                (None, Cell::Text(text)) => timestamp::duration_seconds(text.trim()).map(Value::Whole),
                (None, _) => None,
            },
        }
        .ok_or_else(|| ValueError::form(expected(column))),
    }
}

/// The cell's text unchanged: spaces around it are part of it.
fn text<'a>(cell: &'a Cell<'_>) -> Cow<'a, str> {
    match cell {
        Cell::Text(text) | Cell::Plain(text) => Cow::Borrowed(text),
        Cell::Displayed(number) => Cow::Owned(shown_digits(*number)),
        other => Cow::Owned(other.shown()),
    }
}

fn word<'a>(words: &[String], cell: &'a Cell<'_>) -> Result<Value<'a>, ValueError> {
    let text = match text(cell) {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
        owned => owned,
    };
    if words.iter().any(|word| *word == text) {
        return Ok(Value::Text(text));
    }
    let all = || words.iter().map(String::as_str);
    let hint = nearest(&text, all()).map(|near| format!("nearest: {near:?}")).unwrap_or_default();
    Err(ValueError::new(FaultKind::Word, format!("one of {}", quoted_list(all())), hint))
}

fn boolean(yes: &[String], no: &[String], cell: &Cell<'_>) -> Option<Value<'static>> {
    let written = match cell {
        Cell::Bool(value) => return Some(Value::Boolean(*value)),
        Cell::Date(_) | Cell::Local(_) | Cell::Instant(_) | Cell::Seconds(_) => return None,
        other => text(other).trim().to_lowercase(),
    };
    if yes.contains(&written) {
        return Some(Value::Boolean(true));
    }
    no.contains(&written).then_some(Value::Boolean(false))
}

fn date(format: Option<&str>, cell: &Cell<'_>) -> Option<NaiveDate> {
    match cell {
        Cell::Date(date) => Some(*date),
        // In a workbook a date is a time at midnight.
        Cell::Local(at) if at.time() == chrono::NaiveTime::MIN => Some(at.date()),
        Cell::Text(text) => timestamp::parse_date(text.trim(), format),
        _ => None,
    }
}

fn timestamp_value(
    column: &Column,
    format: Option<&str>,
    zone: Option<Zone>,
    cell: &Cell<'_>,
) -> Result<Value<'static>, ValueError> {
    let (mut abbreviation, parse) = (
        None,
        match column.stamp {
            Stamp::Start => timestamp::parse_time,
            Stamp::End { .. } => timestamp::parse_end,
        },
    );
    let time = match cell {
        Cell::Instant(at) => Some(ParsedTime::Instant(*at)),
        Cell::Local(at) => Some(ParsedTime::Local(*at)),
        Cell::Text(text) => parse(text.trim(), format).or_else(|| {
            let (time, name) = timestamp::split_abbreviation(text.trim())?;
            abbreviation = Some(name);
            parse(time, format)
        }),
        _ => None,
    };
    let local = match time.ok_or_else(|| ValueError::form(expected(column)))? {
        ParsedTime::Instant(at) => return Ok(Value::Instant(at)),
        ParsedTime::Local(local) => local,
    };
    let Some(zone) = zone else {
        let hint = "write the offset, or set the column's `zone`, such as \"Europe/Paris\"";
        return Err(ValueError::new(
            FaultKind::Form,
            "a time with its offset, such as 2026-09-30T00:00:00+02:00",
            hint,
        ));
    };
    if let Some(name) = abbreviation {
        let instant = timestamp::resolve_named(local, zone.zone, name);
        let hint = "the name in brackets is that of summer or winter time";
        let error = || ValueError::new(FaultKind::Form, format!("a time that {} has", zone.zone), hint);
        return instant.map(Value::Instant).ok_or_else(error);
    }
    match timestamp::resolve(local, zone) {
        Ok(ResolvedTime::Instant(at)) => Ok(Value::Instant(at)),
        Ok(ResolvedTime::InOrder { local, first, second }) => Ok(Value::InOrder { local, first, second }),
        Err(error) => Err(ValueError { kind: error.kind, expected: error.expected, hint: error.hint }),
    }
}

fn number(column: &Column, cell: &Cell<'_>, power_seconds: Option<i64>) -> Result<Value<'static>, ValueError> {
    // A double without a factor is kept as it is, without the detour over decimal digits.
    if let (Type::Double, None, None, Cell::Double(double) | Cell::Displayed(double)) =
        (&column.kind, column.factor, power_seconds, cell)
    {
        let value = double.is_finite().then_some(Value::Double(*double));
        let value = value.ok_or_else(|| ValueError::form(expected(column)))?;
        let number = Number::parse_plain(&double.to_string()).ok();
        return number.map_or(Ok(()), |number| in_range(column, number)).map(|()| value);
    }
    let written = written_number(column, cell).map_err(|error| number_error(column, error))?;
    let too_long = || number_error(column, NumberError::TooLong);
    let number = in_unit(column, written).ok_or_else(too_long)?;
    let number = match power_seconds {
        Some(seconds) => number.times(Number::whole(i128::from(seconds))).ok_or_else(too_long)?,
        None => number,
    };
    // Of power, so many times the value.
    let times = if power_seconds.is_some() { SECONDS_PER_HOUR } else { 1 };
    let lost = || {
        ValueError::new(
            FaultKind::Digits,
            expected(column),
            "numbers are not rounded: use a wider type for the column, another `factor`, or `round = true`",
        )
    };
    let at_scale = |scale: u32| number.divided(times, scale, column.round).ok_or_else(lost);
    let value = match column.kind {
        Type::Double => Value::Double(number.double() / times as f64),
        Type::Decimal { precision, scale } => {
            let mantissa = at_scale(u32::try_from(scale).unwrap_or_default())?;
            if mantissa.unsigned_abs() >= 10_u128.pow(u32::from(precision)) {
                return Err(lost());
            }
            Value::Decimal(mantissa)
        }
        _ => Value::Whole(i64::try_from(at_scale(0)?).map_err(|_| lost())?),
    };
    match value.number(column) {
        Some(read) if times != 1 => in_range(column, read)?,
        _ => in_range(column, number)?,
    }
    Ok(value)
}

/// Reads a number of a column, or of a total of it, which is written in the same way; the factor is not applied.
pub fn written_number(column: &Column, cell: &Cell<'_>) -> Result<Number, NumberError> {
    match cell {
        Cell::Text(text) => written(text.trim(), column),
        Cell::Plain(text) => Number::parse_plain(text),
        Cell::Exact(number) => Ok(*number),
        Cell::Displayed(number) => Number::parse_plain(&shown_digits(*number)),
        Cell::Double(number) if number.is_finite() => Number::parse_plain(&number.to_string()),
        _ => Err(NumberError::NotANumber),
    }
}

/// Reads a number from a text; in a column of doubles it may have an exponent.
fn written(text: &str, column: &Column) -> Result<Number, NumberError> {
    let Some((mantissa, exponent)) = text.split_once(['e', 'E']).filter(|_| column.kind == Type::Double) else {
        return Number::parse(text, column.number_format);
    };
    Number::parse_plain(&format!("{}e{exponent}", Number::parse(mantissa, column.number_format)?))
}

/// The number multiplied by the column's factor; `None` where it has too many digits.
pub fn in_unit(column: &Column, written: Number) -> Option<Number> {
    match column.factor {
        Some(factor) => written.times(factor),
        None => Some(written),
    }
}

fn in_range(column: &Column, number: Number) -> Result<(), ValueError> {
    let (least, most) = (&column.least, &column.most);
    if least.as_ref().is_none_or(|least| number >= *least) && most.as_ref().is_none_or(|most| number <= *most) {
        return Ok(());
    }
    let unit = if column.factor.is_some() { " in the column's unit" } else { "" };
    let expected = match (least, most) {
        (Some(least), Some(most)) => format!("{least} to {most}{unit}"),
        (Some(least), None) => format!("at least {least}{unit}"),
        (_, most) => format!("at most {}{unit}", most.map(|most| most.to_string()).unwrap_or_default()),
    };
    Err(ValueError::new(FaultKind::Range, expected, ""))
}

fn number_error(column: &Column, error: NumberError) -> ValueError {
    let NumberFormat { decimal, thousands } = column.number_format;
    let groups = match thousands {
        None => "no thousands separator".to_owned(),
        Some(' ') => "spaces between thousands".to_owned(),
        Some(mark) => format!("{mark:?} between thousands"),
    };
    let marked = format!("a number with {decimal:?} as its decimal mark and {groups}");
    match error {
        NumberError::NotANumber => ValueError::form(expected(column)),
        NumberError::TooLong => ValueError::new(FaultKind::Digits, expected(column), "a column has at most 38 digits"),
        NumberError::Groups => {
            ValueError::new(FaultKind::DecimalMark, marked, "check `decimal` and `thousands` in the layout")
        }
        NumberError::OtherMark(mark @ ('.' | ',')) => {
            let hint =
                format!("found {mark:?}; if the whole file is written so, set `decimal` or `thousands` in the layout");
            ValueError::new(FaultKind::DecimalMark, marked, hint)
        }
        NumberError::OtherMark(_) => ValueError::new(
            FaultKind::DecimalMark,
            marked,
            "if the whole file is written so, set `thousands` in the layout",
        ),
    }
}

/// What is expected in a column, in words.
pub fn expected(column: &Column) -> String {
    let mut scaled = match column.factor {
        Some(factor) => format!(" after multiplication by {factor}"),
        None => String::new(),
    };
    if column.power_over.is_some() {
        scaled.push_str(" as the energy of a step");
    }
    match &column.kind {
        Type::Text => "a text".to_owned(),
        Type::Enum(words) => format!("one of {}", quoted_list(words.iter().map(String::as_str))),
        Type::Integer => format!("a whole number of 64 bits{scaled}"),
        Type::Decimal { precision, scale } => {
            let before = i16::from(*precision) - i16::from(*scale);
            format!("a number of at most {before} digits before the decimal mark and {scale} after it{scaled}")
        }
        Type::Double => "a number".to_owned(),
        Type::Boolean { yes, no } => format!("one of {}", quoted_list(yes.iter().chain(no).map(String::as_str))),
        Type::Date { format: None } => "a date such as 2026-09-30".to_owned(),
        Type::Date { format: Some(format) } => format!("a date as {format:?}"),
        Type::Timestamp { format: Some(format), .. } => format!("a time as {format:?}"),
        Type::Timestamp { zone: None, .. } => "a time such as 2026-09-30T00:00:00+02:00".to_owned(),
        Type::Timestamp { .. } => "a time such as 2026-09-30T00:00:00".to_owned(),
        Type::Duration => match column.duration_unit {
            Some(_) => "a number that is a whole number of seconds".to_owned(),
            None => "a duration in hours, minutes and seconds, such as PT15M".to_owned(),
        },
    }
}
