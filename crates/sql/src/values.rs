//! The texts of values, in PostgreSQL's output formats.

use std::fmt::Write as _;

use chrono::{DateTime, NaiveDateTime, Offset, TimeZone, Timelike};
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, Decimal128Array, Decimal256Array, Float32Array, Float64Array,
    Int16Array, Int32Array, Int64Array, IntervalMonthDayNanoArray, LargeBinaryArray, LargeListArray, LargeStringArray,
    StringBuilder, Time64MicrosecondArray, TimestampMicrosecondArray,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, IntervalMonthDayNano, TimeUnit};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::semantics::intervals::of_array;

/// The type of numeric quotients and averages.
const QUOTIENT: DataType = DataType::Decimal128(38, 20);

/// A column, converted to one of the types that values are written from.
pub enum Column {
    /// `boolean`, as `t` and `f`.
    Bool(BooleanArray),
    Int16(Int16Array),
    Int32(Int32Array),
    Int64(Int64Array),
    Float32(Float32Array),
    Float64(Float64Array),
    Decimal(Decimal128Array),
    /// `numeric` of more than 38 digits.
    BigDecimal(Decimal256Array),
    Date(Date32Array),
    Time(Time64MicrosecondArray),
    /// A timestamp, and the zone in which it is written; without time zone if there is none.
    Instant(TimestampMicrosecondArray, Option<Tz>),
    Interval(IntervalMonthDayNanoArray),
    /// `bytea`, in hex.
    Bytes(LargeBinaryArray),
    /// Texts, and values of types that PostgreSQL does not have, as Arrow formats them.
    Text(LargeStringArray),
    /// Arrays, with the elements of all of them in one column, and the elements' type.
    List {
        lists: LargeListArray,
        elements: Box<Column>,
        element: DataType,
    },
}

impl Column {
    /// The column of `array`. Timestamps with time zone are written in `zone`.
    ///
    /// # Errors
    /// Where `zone` is not known, or a value can't be converted.
    pub fn new(array: &ArrayRef, zone: &str) -> Result<Column, ArrowError> {
        let to = |data_type: &DataType| cast(array, data_type);
        Ok(match array.data_type() {
            DataType::Boolean => Column::Bool(array.as_boolean().clone()),
            DataType::Int8 | DataType::Int16 | DataType::UInt8 => {
                Column::Int16(to(&DataType::Int16)?.as_primitive().clone())
            }
            DataType::Int32 | DataType::UInt16 => Column::Int32(to(&DataType::Int32)?.as_primitive().clone()),
            DataType::Int64 | DataType::UInt32 | DataType::UInt64 => {
                Column::Int64(to(&DataType::Int64)?.as_primitive().clone())
            }
            DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
                Column::Decimal(to(&DataType::Decimal128(*precision, *scale))?.as_primitive().clone())
            }
            DataType::Decimal128(..) => Column::Decimal(array.as_primitive().clone()),
            DataType::Decimal256(..) => Column::BigDecimal(array.as_primitive().clone()),
            DataType::Float16 | DataType::Float32 => Column::Float32(to(&DataType::Float32)?.as_primitive().clone()),
            DataType::Float64 => Column::Float64(array.as_primitive().clone()),
            DataType::Date32 | DataType::Date64 => Column::Date(to(&DataType::Date32)?.as_primitive().clone()),
            DataType::Time32(_) | DataType::Time64(_) => {
                Column::Time(to(&DataType::Time64(TimeUnit::Microsecond))?.as_primitive().clone())
            }
            DataType::Timestamp(_, own) => {
                let micros = to(&DataType::Timestamp(TimeUnit::Microsecond, own.clone()))?;
                // A timestamp is written in the session's zone, whatever zone the column's type has.
                let zone = own.as_ref().map(|_| zone.parse()).transpose()?;
                Column::Instant(micros.as_primitive().clone(), zone)
            }
            DataType::Interval(_) | DataType::Duration(_) => Column::Interval(of_array(array)?),
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
                Column::Bytes(to(&DataType::LargeBinary)?.as_binary().clone())
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => {
                Column::Text(to(&DataType::LargeUtf8)?.as_string().clone())
            }
            DataType::Dictionary(_, values) => return Column::new(&to(values)?, zone),
            DataType::List(element) | DataType::LargeList(element) | DataType::FixedSizeList(element, _) => {
                let lists = to(&DataType::LargeList(element.clone()))?.as_list().clone();
                let elements = Box::new(Column::new(LargeListArray::values(&lists), zone)?);
                Column::List { elements, element: element.data_type().clone(), lists }
            }
            _ => Column::Text(formatted_by_arrow(array)?),
        })
    }

    /// Whether the value of a row is NULL.
    pub fn is_null(&self, row: usize) -> bool {
        match self {
            Column::Bool(array) => array.is_null(row),
            Column::Int16(array) => array.is_null(row),
            Column::Int32(array) => array.is_null(row),
            Column::Int64(array) => array.is_null(row),
            Column::Float32(array) => array.is_null(row),
            Column::Float64(array) => array.is_null(row),
            Column::Decimal(array) => array.is_null(row),
            Column::BigDecimal(array) => array.is_null(row),
            Column::Date(array) => array.is_null(row),
            Column::Time(array) => array.is_null(row),
            Column::Instant(array, _) => array.is_null(row),
            Column::Interval(array) => array.is_null(row),
            Column::Bytes(array) => array.is_null(row),
            Column::Text(array) => array.is_null(row),
            Column::List { lists, .. } => lists.is_null(row),
        }
    }

    /// Appends the text of a row's value, which must not be NULL, to `out`.
    ///
    /// # Errors
    /// Where a date or timestamp is out of range.
    pub fn text(&self, row: usize, out: &mut String) -> Result<(), ArrowError> {
        // Writing to a String can't fail.
        let _ = match self {
            Column::Bool(array) => {
                out.push(if array.value(row) { 't' } else { 'f' });
                Ok(())
            }
            Column::Int16(array) => write!(out, "{}", array.value(row)),
            Column::Int32(array) => write!(out, "{}", array.value(row)),
            Column::Int64(array) => write!(out, "{}", array.value(row)),
            Column::Float32(array) => {
                let value = array.value(row);
                float(f64::from(value), &format!("{value:e}"), 6, out);
                Ok(())
            }
            Column::Float64(array) => {
                float(array.value(row), &format!("{:e}", array.value(row)), 15, out);
                Ok(())
            }
            Column::Decimal(array) => write!(out, "{}", numeric(array, row)),
            Column::BigDecimal(array) => write!(out, "{}", array.value_as_string(row)),
            Column::Date(array) => match array.value_as_date(row) {
                Some(date) => write!(out, "{}", date.format("%Y-%m-%d")),
                None => return Err(ArrowError::CastError(format!("date {} is out of range", array.value(row)))),
            },
            Column::Time(array) => {
                time(array.value(row), out);
                Ok(())
            }
            Column::Instant(array, zone) => {
                return write_instant(array.value(row), TimeUnit::Microsecond, zone.as_ref(), out);
            }
            Column::Interval(array) => {
                interval(array.value(row), out);
                Ok(())
            }
            Column::Bytes(array) => {
                write_bytes(array.value(row), out);
                Ok(())
            }
            Column::Text(array) => {
                out.push_str(array.value(row));
                Ok(())
            }
            Column::List { lists, elements, .. } => return list(lists, elements, row, out),
        };
        Ok(())
    }
}

/// Values of types that PostgreSQL does not have, as Arrow formats them.
fn formatted_by_arrow(array: &ArrayRef) -> Result<LargeStringArray, ArrowError> {
    let options = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(array.as_ref(), &options)?;
    let mut texts = StringBuilder::new();
    for row in 0..array.len() {
        texts.append_option((!array.is_null(row)).then(|| formatter.value(row).to_string()));
    }
    let texts: ArrayRef = std::sync::Arc::new(texts.finish());
    Ok(cast(&texts, &DataType::LargeUtf8)?.as_string().clone())
}

/// The shortest text that parses to the same float, given as `shortest` with an exponent. The text has an exponent from
/// 10^`digits` on and below 0.0001.
fn float(value: f64, shortest: &str, digits: i32, out: &mut String) {
    if value.is_nan() {
        return out.push_str("NaN");
    }
    if value.is_infinite() {
        return out.push_str(if value > 0.0 { "Infinity" } else { "-Infinity" });
    }
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((shortest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..digits).contains(&exponent) {
        let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
        let all = mantissa.replace('.', "");
        out.push_str(sign);
        match usize::try_from(exponent) {
            Err(_) => {
                let zeros = usize::try_from(-exponent - 1).unwrap_or(0);
                let _ = write!(out, "0.{}{all}", "0".repeat(zeros));
            }
            Ok(whole) if all.len() > whole + 1 => {
                let _ = write!(out, "{}.{}", &all[..=whole], &all[whole + 1..]);
            }
            Ok(whole) => {
                let _ = write!(out, "{all}{}", "0".repeat(whole + 1 - all.len()));
            }
        }
        return;
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    let _ = write!(out, "{mantissa}e{sign}{:02}", exponent.abs());
}

/// The text of a numeric, as PostgreSQL writes it. A column of quotients has 20 decimals; zeros after a quotient's 16
/// significant digits are omitted.
pub fn numeric(array: &Decimal128Array, row: usize) -> String {
    let mut text = array.value_as_string(row);
    if *array.data_type() == QUOTIENT
        && let Some((whole, decimals)) = text.split_once('.')
    {
        let digits = whole.trim_start_matches('-').trim_start_matches('0').len();
        let is_fraction = digits == 0;
        let shown = if is_fraction { decimals.len() } else { 16 - 4 * ((digits - 1) / 4).min(4) };
        let all = decimals.trim_end_matches('0').len().max(shown);
        let cut = whole.len() + if all == 0 { 0 } else { 1 + all };
        text.truncate(cut);
    }
    text
}

/// Appends a timestamp, `value` in `unit` since 1970 in UTC, to `text` as `2026-01-31 12:00:00.5+01`. Without a `zone`
/// no offset is written.
///
/// # Errors
/// Where the timestamp is out of chrono's range.
pub fn write_instant(value: i64, unit: TimeUnit, zone: Option<&Tz>, text: &mut String) -> Result<(), ArrowError> {
    let per_second = match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    };
    let nanos = value.rem_euclid(per_second) * (1_000_000_000 / per_second);
    let utc = u32::try_from(nanos).ok().and_then(|nanos| DateTime::from_timestamp(value.div_euclid(per_second), nanos));
    let utc = utc.ok_or_else(|| ArrowError::CastError(format!("timestamp {value} {unit:?} is out of range")))?;
    match zone {
        None => write_local(utc.naive_utc(), text),
        Some(zone) => {
            let seconds = zone.offset_from_utc_datetime(&utc.naive_utc()).fix().local_minus_utc();
            write_local(utc.naive_utc() + chrono::TimeDelta::seconds(seconds.into()), text);
            write_offset(seconds, text);
        }
    }
    Ok(())
}

fn write_local(local: NaiveDateTime, text: &mut String) {
    // Writing to a String can't fail.
    let _ = write!(text, "{}", local.format("%Y-%m-%d %H:%M:%S"));
    if local.nanosecond() != 0 {
        let fraction = format!("{:09}", local.nanosecond());
        let _ = write!(text, ".{}", fraction.trim_end_matches('0'));
    }
}

fn write_offset(seconds: i32, text: &mut String) {
    let sign = if seconds < 0 { '-' } else { '+' };
    let minutes = seconds.abs() / 60;
    let _ = write!(text, "{sign}{:02}", minutes / 60);
    if minutes % 60 != 0 {
        let _ = write!(text, ":{:02}", minutes % 60);
    }
}

/// Appends `bytes` to `text` in PostgreSQL's hex format: `\x` and two lower-case digits a byte.
pub fn write_bytes(bytes: &[u8], text: &mut String) {
    text.push_str("\\x");
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
}

fn time(micros: i64, out: &mut String) {
    let seconds = micros / 1_000_000;
    let _ = write!(out, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    fraction(micros % 1_000_000, out);
}

fn fraction(micros: i64, out: &mut String) {
    if micros != 0 {
        let digits = format!("{micros:06}");
        let _ = write!(out, ".{}", digits.trim_end_matches('0'));
    }
}

fn interval(value: IntervalMonthDayNano, out: &mut String) {
    let start = out.len();
    // A positive part after a negative one is written with its sign.
    let mut follows_negative = false;
    let mut part = |number: i32, one: &str, many: &str| {
        if number != 0 {
            let space = if out.len() > start { " " } else { "" };
            let sign = if follows_negative && number > 0 { "+" } else { "" };
            let _ = write!(out, "{space}{sign}{number} {}", if number == 1 { one } else { many });
            follows_negative = number < 0;
        }
    };
    part(value.months / 12, "year", "years");
    part(value.months % 12, "mon", "mons");
    part(value.days, "day", "days");
    let micros = value.nanoseconds / 1_000;
    if micros != 0 || out.len() == start {
        if out.len() > start {
            out.push(' ');
        }
        if micros < 0 {
            out.push('-');
        } else if follows_negative {
            out.push('+');
        }
        time(micros.abs(), out);
    }
}

fn list(lists: &LargeListArray, elements: &Column, row: usize, out: &mut String) -> Result<(), ArrowError> {
    let offsets = lists.value_offsets();
    let (start, end) = (offsets[row] as usize, offsets[row + 1] as usize);
    out.push('{');
    let mut element = String::new();
    for at in start..end {
        if at > start {
            out.push(',');
        }
        if elements.is_null(at) {
            out.push_str("NULL");
            continue;
        }
        element.clear();
        elements.text(at, &mut element)?;
        let nested = matches!(elements, Column::List { .. });
        let special = |c: char| c.is_whitespace() || matches!(c, '{' | '}' | ',' | '"' | '\\');
        let quoted = element.is_empty() || element.eq_ignore_ascii_case("null") || element.contains(special);
        if nested || !quoted {
            out.push_str(&element);
        } else {
            let _ = write!(out, "\"{}\"", element.replace('\\', "\\\\").replace('"', "\\\""));
        }
    }
    out.push('}');
    Ok(())
}

/// The bytes of a bytea's text: `\x` and hexadecimal digits, or the escape format, in which `\\` is a backslash and
/// `\nnn` a byte in octal. `None` where it is neither.
pub fn bytes_of_text(text: &str) -> Option<Vec<u8>> {
    if let Some(hex) = text.strip_prefix("\\x") {
        let byte = |at: usize| hex.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        return (0..hex.len()).step_by(2).map(byte).collect();
    }
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, after @ ..] = rest {
        let (byte, length) = match (first, after) {
            (b'\\', [b'\\', ..]) => (b'\\', 2),
            (b'\\', _) => (u8::from_str_radix(std::str::from_utf8(after.get(..3)?).ok()?, 8).ok()?, 4),
            (byte, _) => (*byte, 1),
        };
        bytes.push(byte);
        rest = &rest[length..];
    }
    Some(bytes)
}

/// A uuid in the form in which PostgreSQL shows it: lower case, with hyphens. `None` where the text is not one.
pub fn uuid_of_text(text: &str) -> Option<String> {
    let plain: String = text.trim_matches(['{', '}']).chars().filter(|c| *c != '-').collect();
    let is_uuid = plain.len() == 32 && plain.bytes().all(|byte| byte.is_ascii_hexdigit());
    let hex = plain.to_lowercase();
    is_uuid.then(|| [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-"))
}

/// A number with an exponent, `1.5e3`, without it: `1500`. `None` where it has none, is no number, or where the exponent
/// is beyond 100.
pub fn without_exponent(number: &str) -> Option<String> {
    let (mantissa, exponent) = number.split_once(['e', 'E'])?;
    let exponent: i32 = exponent.parse().ok().filter(|exponent: &i32| exponent.abs() <= 100)?;
    let (sign, digits) = mantissa.strip_prefix('-').map_or(("", mantissa.trim_start_matches('+')), |rest| ("-", rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.len() + fraction.len() == 0 || !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let point = i32::try_from(whole.len()).ok()? + exponent;
    let all = format!("{whole}{fraction}");
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or_default());
    let length = i32::try_from(all.len()).ok()?;
    Some(match usize::try_from(point).ok().filter(|point| *point < all.len()) {
        Some(point) if point > 0 => format!("{sign}{}.{}", &all[..point], &all[point..]),
        _ if point <= 0 => format!("{sign}0.{}{all}", zeros(-point)),
        _ => format!("{sign}{all}{}", zeros(point - length)),
    })
}

#[cfg(test)]
mod tests {
    use super::{float, interval};
    use datafusion::arrow::datatypes::IntervalMonthDayNano;

    #[test]
    fn floats_as_postgres_writes_them() {
        for (value, expected) in [
            (1.0, "1"),
            (-0.5, "-0.5"),
            (0.1 + 0.2, "0.30000000000000004"),
            (1e15, "1e+15"),
            (123_456_789_012_345.0, "123456789012345"),
            (1.5e-5, "1.5e-05"),
            (0.0001, "0.0001"),
            (1e300, "1e+300"),
            (100.0, "100"),
            (f64::NEG_INFINITY, "-Infinity"),
            (0.0, "0"),
        ] {
            let mut out = String::new();
            float(value, &format!("{value:e}"), 15, &mut out);
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn intervals_as_postgres_writes_them() {
        for (months, days, micros, expected) in [
            (14, 3, 14_706_789_000, "1 year 2 mons 3 days 04:05:06.789"),
            (0, 0, 0, "00:00:00"),
            (0, 1, 0, "1 day"),
            (0, 0, -1_000_000, "-00:00:01"),
            (0, -1, 7_200_000_000, "-1 days +02:00:00"),
            (-13, 1, 0, "-1 years -1 mons +1 day"),
        ] {
            let mut out = String::new();
            interval(IntervalMonthDayNano::new(months, days, micros * 1_000), &mut out);
            assert_eq!(out, expected);
        }
    }
}
