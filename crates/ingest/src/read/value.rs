//! A cell becomes a value of its column's type, exactly, or a fault that says what was expected.

use std::borrow::Cow;

use chrono::{NaiveDate, NaiveDateTime};

use super::cell::{Cell, shown_digits};
use super::fault::What;
use super::instant::{self, Moment, Placed};
use crate::layout::{Column, Type, Zone};
use crate::nearest::{list, nearest};
use crate::number::{Marks, Number, Unread};

#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    Text(Cow<'a, str>),
    /// An integer, or seconds.
    Whole(i64),
    /// At the column's scale.
    Decimal(i128),
    Double(f64),
    Boolean(bool),
    /// Days since 1970.
    Date(i32),
    /// Microseconds since 1970, UTC.
    Instant(i64),
    /// One of two instants, by the order of the rows.
    InOrder {
        local: NaiveDateTime,
        first: i64,
        second: i64,
    },
}

impl Value<'_> {
    /// In the column's unit.
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

/// Why a cell is no value; where it stands is its reader's to add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    pub what: What,
    pub expected: String,
    pub hint: String,
}

impl Wrong {
    fn new(what: What, expected: impl Into<String>, hint: impl Into<String>) -> Wrong {
        Wrong { what, expected: expected.into(), hint: hint.into() }
    }

    fn form(expected: impl Into<String>) -> Wrong {
        Wrong::new(What::Form, expected, "")
    }
}

/// `None` where the cell stands for no value, and the column allows that.
pub fn value<'a>(column: &Column, cell: &'a Cell<'_>) -> Result<Option<Value<'a>>, Wrong> {
    match cell {
        Cell::Undecodable(_) => {
            let hint = "set `encoding` to the one the file is written in, or have it written as UTF-8";
            return Err(Wrong::new(What::Encoding, "text in the file's encoding", hint));
        }
        Cell::Wrong(_, expected) => return Err(Wrong::form(*expected)),
        _ if stands_for_none(column, cell) && column.required => {
            return Err(Wrong::new(What::Missing, expected(column), "the column is required"));
        }
        _ if stands_for_none(column, cell) => return Ok(None),
        _ => {}
    }
    let value = typed(column, cell)?;
    if let Some(pattern) = &column.pattern
        && !pattern.is_match(&cell.shown())
    {
        return Err(Wrong::new(What::Pattern, format!("a text of the pattern {:?}", pattern.as_str()), ""));
    }
    Ok(Some(value))
}

fn stands_for_none(column: &Column, cell: &Cell<'_>) -> bool {
    let is_word = |text: &str| column.empty.iter().any(|empty| empty == text.trim());
    cell.is_blank() || matches!(cell, Cell::Text(text) | Cell::Plain(text) if is_word(text))
}

fn typed<'a>(column: &Column, cell: &'a Cell<'_>) -> Result<Value<'a>, Wrong> {
    match &column.kind {
        Type::Text => Ok(Value::Text(text(cell))),
        Type::Enum(words) => word(words, cell),
        Type::Integer | Type::Decimal { .. } | Type::Double => number(column, cell),
        Type::Boolean { yes, no } => boolean(yes, no, cell).ok_or_else(|| Wrong::form(expected(column))),
        Type::Date { format } => {
            let date = date(format.as_deref(), cell).ok_or_else(|| Wrong::form(expected(column)))?;
            let days = date.signed_duration_since(NaiveDate::default()).num_days();
            i32::try_from(days).map(Value::Date).map_err(|_| Wrong::form(expected(column)))
        }
        Type::Timestamp { format, zone } => timestamp(column, format.as_deref(), *zone, cell),
        Type::Duration => match cell {
            Cell::Seconds(seconds) => Some(Value::Whole(*seconds)),
            Cell::Text(text) => instant::duration_seconds(text.trim()).map(Value::Whole),
            _ => None,
        }
        .ok_or_else(|| Wrong::form(expected(column))),
    }
}

/// As it is written: spaces around a text are part of it.
fn text<'a>(cell: &'a Cell<'_>) -> Cow<'a, str> {
    match cell {
        Cell::Text(text) | Cell::Plain(text) => Cow::Borrowed(text),
        Cell::Shown(number) => Cow::Owned(shown_digits(*number)),
        other => Cow::Owned(other.shown()),
    }
}

fn word<'a>(words: &[String], cell: &'a Cell<'_>) -> Result<Value<'a>, Wrong> {
    let text = match text(cell) {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
        owned => owned,
    };
    if words.iter().any(|word| *word == text) {
        return Ok(Value::Text(text));
    }
    let all = || words.iter().map(String::as_str);
    let hint = nearest(&text, all()).map(|near| format!("nearest: {near:?}")).unwrap_or_default();
    Err(Wrong::new(What::Word, format!("one of {}", list(all())), hint))
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
        // A workbook knows no dates without a time.
        Cell::Local(at) if at.time() == chrono::NaiveTime::MIN => Some(at.date()),
        Cell::Text(text) => instant::date(text.trim(), format),
        _ => None,
    }
}

fn timestamp(
    column: &Column,
    format: Option<&str>,
    zone: Option<Zone>,
    cell: &Cell<'_>,
) -> Result<Value<'static>, Wrong> {
    let moment = match cell {
        Cell::Instant(at) => Some(Moment::Instant(*at)),
        Cell::Local(at) => Some(Moment::Local(*at)),
        Cell::Text(text) => instant::moment(text.trim(), format),
        _ => None,
    };
    let local = match moment.ok_or_else(|| Wrong::form(expected(column)))? {
        Moment::Instant(at) => return Ok(Value::Instant(at)),
        Moment::Local(local) => local,
    };
    let Some(zone) = zone else {
        let hint = "have the offset written, or set the column's `zone`, such as \"Europe/Paris\"";
        return Err(Wrong::new(What::Form, "a time with its offset, such as 2026-09-30T00:00:00+02:00", hint));
    };
    match instant::place(local, zone) {
        Ok(Placed::Instant(at)) => Ok(Value::Instant(at)),
        Ok(Placed::InOrder { local, first, second }) => Ok(Value::InOrder { local, first, second }),
        Err(unplaced) => Err(Wrong { what: unplaced.what, expected: unplaced.expected, hint: unplaced.hint }),
    }
}

fn number(column: &Column, cell: &Cell<'_>) -> Result<Value<'static>, Wrong> {
    // A double stays what it is where nothing is done to it.
    if let (Type::Double, None, Cell::Double(double) | Cell::Shown(double)) = (&column.kind, column.factor, cell) {
        let value = double.is_finite().then_some(Value::Double(*double));
        let value = value.ok_or_else(|| Wrong::form(expected(column)))?;
        let number = Number::parse_plain(&double.to_string()).ok();
        return number.map_or(Ok(()), |number| in_range(column, number)).map(|()| value);
    }
    let written = digits(column, cell).map_err(|unread| unread_number(column, unread))?;
    let number = in_unit(column, written).ok_or_else(|| unread_number(column, Unread::TooLong))?;
    let lost =
        || Wrong::new(What::Digits, expected(column), "nothing is rounded: widen the column's type, or its `factor`");
    let value = match column.kind {
        Type::Double => Value::Double(number.double()),
        Type::Decimal { precision, scale } => {
            let mantissa = u32::try_from(scale).ok().and_then(|scale| number.at_scale(scale)).ok_or_else(lost)?;
            if mantissa.unsigned_abs() >= 10_u128.pow(u32::from(precision)) {
                return Err(lost());
            }
            Value::Decimal(mantissa)
        }
        _ => Value::Whole(number.at_scale(0).and_then(|whole| i64::try_from(whole).ok()).ok_or_else(lost)?),
    };
    in_range(column, number)?;
    Ok(value)
}

/// Also of a total, which is written as the column's values are.
pub fn digits(column: &Column, cell: &Cell<'_>) -> Result<Number, Unread> {
    match cell {
        Cell::Text(text) => written(text.trim(), column),
        Cell::Plain(text) => Number::parse_plain(text),
        Cell::Exact(number) => Ok(*number),
        Cell::Shown(number) => Number::parse_plain(&shown_digits(*number)),
        Cell::Double(number) if number.is_finite() => Number::parse_plain(&number.to_string()),
        _ => Err(Unread::NotANumber),
    }
}

/// With an exponent where the column is one of doubles: that is how they are written.
fn written(text: &str, column: &Column) -> Result<Number, Unread> {
    let Some((mantissa, exponent)) = text.split_once(['e', 'E']).filter(|_| column.kind == Type::Double) else {
        return Number::parse(text, column.marks);
    };
    Number::parse_plain(&format!("{}e{exponent}", Number::parse(mantissa, column.marks)?))
}

/// What a file's number is in its column's unit.
pub fn in_unit(column: &Column, written: Number) -> Option<Number> {
    match column.factor {
        Some(factor) => written.times(factor),
        None => Some(written),
    }
}

fn in_range(column: &Column, number: Number) -> Result<(), Wrong> {
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
    Err(Wrong::new(What::Range, expected, ""))
}

fn unread_number(column: &Column, unread: Unread) -> Wrong {
    let Marks { decimal, thousands } = column.marks;
    let groups = match thousands {
        None => "no mark between its thousands".to_owned(),
        Some(' ') => "spaces between its thousands".to_owned(),
        Some(mark) => format!("{mark:?} between its thousands"),
    };
    let marked = format!("a number with {decimal:?} as decimal mark and {groups}");
    match unread {
        Unread::NotANumber => Wrong::form(expected(column)),
        Unread::TooLong => Wrong::new(What::Digits, expected(column), "no column keeps more than 38 digits"),
        Unread::Groups => Wrong::new(What::DecimalMark, marked, "check `decimal` and `thousands` in the layout"),
        Unread::OtherMark(mark @ ('.' | ',')) => {
            let hint = format!("the file has {mark:?}: if all of it does, set `decimal` or `thousands` in the layout");
            Wrong::new(What::DecimalMark, marked, hint)
        }
        Unread::OtherMark(_) => {
            Wrong::new(What::DecimalMark, marked, "if all of the file is written so, set `thousands` in the layout")
        }
    }
}

/// In words.
pub fn expected(column: &Column) -> String {
    let scaled = match column.factor {
        Some(factor) => format!(", once multiplied by {factor}"),
        None => String::new(),
    };
    match &column.kind {
        Type::Text => "a text".to_owned(),
        Type::Enum(words) => format!("one of {}", list(words.iter().map(String::as_str))),
        Type::Integer => format!("a whole number of 64 bits{scaled}"),
        Type::Decimal { precision, scale } => {
            let before = i16::from(*precision) - i16::from(*scale);
            format!("a number of at most {before} digits before the decimal mark and {scale} after it{scaled}")
        }
        Type::Double => "a number".to_owned(),
        Type::Boolean { yes, no } => format!("one of {}", list(yes.iter().chain(no).map(String::as_str))),
        Type::Date { format: None } => "a date such as 2026-09-30".to_owned(),
        Type::Date { format: Some(format) } => format!("a date as {format:?}"),
        Type::Timestamp { format: Some(format), .. } => format!("a time as {format:?}"),
        Type::Timestamp { zone: None, .. } => "a time such as 2026-09-30T00:00:00+02:00".to_owned(),
        Type::Timestamp { .. } => "a time such as 2026-09-30T00:00:00".to_owned(),
        Type::Duration => "a duration in hours, minutes and seconds, such as PT15M".to_owned(),
    }
}
