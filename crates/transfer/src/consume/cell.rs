//! The values of messages, by the types of their columns. No digit of a number is lost: what does not fit is an error.

use std::borrow::Cow;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder, Float64Builder,
    Int16Builder, Int32Builder, Int64Builder, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, TimeUnit};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, NaiveDate, NaiveDateTime};
use std::sync::Arc;
use stream::message::{ColumnDefinition, ColumnType};

use crate::decode::INFINITE_MICROS;
use crate::type_map::DECIMAL_DIGITS_MAX;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell<'a> {
    /// NULL.
    Null,
    /// A truth value.
    Bool(bool),
    /// An integer, the days or the microseconds since 1970, or the digits of a decimal.
    Int(i128),
    /// A number.
    Float(f64),
    /// A text.
    Text(Cow<'a, str>),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// The type of a column in the lake.
pub fn arrow_type(column: &ColumnDefinition) -> DataType {
    match column.column_type {
        ColumnType::Boolean => DataType::Boolean,
        ColumnType::Int(1 | 2) | ColumnType::Uint(1) => DataType::Int16,
        ColumnType::Int(4) | ColumnType::Uint(2) => DataType::Int32,
        ColumnType::Int(_) | ColumnType::Uint(4) => DataType::Int64,
        ColumnType::Uint(_) => DataType::Decimal128(20, 0),
        ColumnType::Real4 => DataType::Float32,
        ColumnType::Real8 => DataType::Float64,
        ColumnType::Numeric(Some((precision, scale)))
            if (1..=DECIMAL_DIGITS_MAX).contains(&i32::from(precision)) && scale <= precision =>
        {
            DataType::Decimal128(precision, scale as i8)
        }
        ColumnType::Numeric(_) | ColumnType::Time | ColumnType::Text(_) => DataType::Utf8,
        ColumnType::Date => DataType::Date32,
        ColumnType::Datetime => {
            let is_local = column.native.as_deref().is_some_and(|native| native.ends_with("without time zone"));
            DataType::Timestamp(TimeUnit::Microsecond, (!is_local).then(|| "UTC".into()))
        }
        ColumnType::Bytes(_) => DataType::Binary,
    }
}

/// The type of a column that no control message has defined, by a value.
pub fn inferred(json: &str) -> ColumnType {
    match json.as_bytes().first() {
        Some(b't' | b'f') => ColumnType::Boolean,
        Some(b'-' | b'0'..=b'9') if !json.contains(['.', 'e', 'E']) => match json.parse::<i64>() {
            Ok(_) => ColumnType::Int(8),
            Err(_) => ColumnType::Numeric(None),
        },
        Some(b'-' | b'0'..=b'9') => ColumnType::Real8,
        _ => ColumnType::Text(None),
    }
}

/// Reads a value, which is a text of JSON. What is `is_exact` is written to a PostgreSQL: dates without an end are the greatest
/// and the least number, and not the last day that the lake has, and a text has no byte 0.
///
/// # Errors
/// What was expected.
pub fn read<'a>(json: &'a str, data_type: &DataType, is_exact: bool) -> Result<Cell<'a>, String> {
    if json == "null" {
        return Ok(Cell::Null);
    }
    let text = text_of(json)?;
    let expected = |what: &str| format!("expected {what}, found {}", shortened(json));
    let integer = |min: i128, max: i128, what: &str| {
        decimal(&text, 0).filter(|value| (min..=max).contains(value)).map(Cell::Int).ok_or_else(|| expected(what))
    };
    let is_infinite = is_exact && matches!(text.as_ref(), "infinity" | "-infinity");
    let is_negative = text.starts_with('-');
    match data_type {
        DataType::Date32 if is_infinite => Ok(Cell::Int(if is_negative { i32::MIN } else { i32::MAX }.into())),
        DataType::Timestamp(..) if is_infinite => Ok(Cell::Int(if is_negative { i64::MIN } else { i64::MAX }.into())),
        DataType::Utf8 if is_exact && text.contains('\0') => {
            Err("PostgreSQL's texts have no character U+0000".to_owned())
        }
        DataType::Boolean => match text.as_ref() {
            "true" | "t" | "1" | "TRUE" => Ok(Cell::Bool(true)),
            "false" | "f" | "0" | "FALSE" => Ok(Cell::Bool(false)),
            _ => Err(expected("true or false")),
        },
        DataType::Int16 => integer(i16::MIN.into(), i16::MAX.into(), "an integer of 2 bytes"),
        DataType::Int32 => integer(i32::MIN.into(), i32::MAX.into(), "an integer of 4 bytes"),
        DataType::Int64 => integer(i64::MIN.into(), i64::MAX.into(), "an integer of 8 bytes"),
        DataType::Float32 | DataType::Float64 => text.parse().map(Cell::Float).map_err(|_| expected("a number")),
        DataType::Decimal128(precision, scale) => {
            let limit = 10_i128.checked_pow(u32::from(*precision)).unwrap_or(i128::MAX);
            let value = u32::try_from(*scale).ok().and_then(|scale| decimal(&text, scale));
            let value = value.filter(|value| value.abs() < limit);
            value
                .map(Cell::Int)
                .ok_or_else(|| expected(&format!("a number of {precision} digits, {scale} of them decimals")))
        }
        DataType::Date32 => days(&text).map(|days| Cell::Int(days.into())).ok_or_else(|| expected("a date")),
        DataType::Timestamp(_, _) => {
            micros(&text).map(|micros| Cell::Int(micros.into())).ok_or_else(|| expected("a date with a time"))
        }
        DataType::Binary => bytes(&text).map(Cell::Bytes).ok_or_else(|| expected("bytes in hexadecimal or base64")),
        _ => Ok(Cell::Text(text)),
    }
}

/// The content of a string, and the text of everything else.
fn text_of(json: &str) -> Result<Cow<'_, str>, String> {
    let Some(inner) = json.strip_prefix('"').and_then(|json| json.strip_suffix('"')) else {
        return Ok(Cow::Borrowed(json));
    };
    if !inner.contains('\\') {
        return Ok(Cow::Borrowed(inner));
    }
    serde_json::from_str::<String>(json).map(Cow::Owned).map_err(|error| error.to_string())
}

fn shortened(json: &str) -> String {
    match json.char_indices().nth(60) {
        Some((at, _)) => format!("{}...", &json[..at]),
        None => json.to_owned(),
    }
}

/// A number in units of `10^-scale`, also in scientific notation; `None` where it is none, or has more digits.
fn decimal(text: &str, scale: u32) -> Option<i128> {
    let (number, exponent) = match text.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, exponent.strip_prefix('+').unwrap_or(exponent).parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (is_negative, digits) = match number.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut value: i128 = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        let digit = digit.is_ascii_digit().then(|| i128::from(digit - b'0'))?;
        value = value.checked_mul(10)?.checked_add(digit)?;
    }
    let shift = i64::from(exponent) + i64::from(scale) - i64::try_from(fraction.len()).ok()?;
    let power = |by: i64| u32::try_from(by).ok().and_then(|by| 10_i128.checked_pow(by));
    let value = match shift {
        0 => value,
        _ if value == 0 => 0,
        1.. => value.checked_mul(power(shift)?)?,
        _ => {
            let divisor = power(-shift)?;
            (value % divisor == 0).then(|| value / divisor)?
        }
    };
    Some(if is_negative { -value } else { value })
}

fn days(text: &str) -> Option<i32> {
    match text {
        "infinity" => return i32::try_from(INFINITE_MICROS[1] / 86_400_000_000).ok(),
        "-infinity" => return i32::try_from(INFINITE_MICROS[0] / 86_400_000_000).ok(),
        _ => {}
    }
    let date = match text.split_once(['T', ' ']) {
        // DMS writes the dates of some sources with a time.
        Some((date, time)) if time.trim_end_matches('Z').bytes().all(|byte| matches!(byte, b'0' | b':' | b'.')) => date,
        Some(_) => return None,
        None => text,
    };
    let date = NaiveDate::parse_from_str(date, "%Y-%m-%d").ok()?;
    i32::try_from(date.signed_duration_since(NaiveDate::default()).num_days()).ok()
}

fn micros(text: &str) -> Option<i64> {
    match text {
        "infinity" => return Some(INFINITE_MICROS[1]),
        "-infinity" => return Some(INFINITE_MICROS[0]),
        _ => {}
    }
    if let Some(micros) = plain_micros(text) {
        return Some(micros);
    }
    if let Ok(instant) = DateTime::parse_from_rfc3339(text) {
        return Some(instant.timestamp_micros());
    }
    let local = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.fZ"];
    let parsed = local.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok());
    parsed.map(|at| at.and_utc().timestamp_micros()).or_else(|| {
        DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%#z").ok().map(|instant| instant.timestamp_micros())
    })
}

/// Of the common form, `2019-10-31T22:53:59.721201Z`.
fn plain_micros(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes.len() < 20
        || bytes[4] != b'-'
        || bytes[7] != b'-'
        || !matches!(bytes[10], b'T' | b' ')
        || bytes.last() != Some(&b'Z')
    {
        return None;
    }
    let number = |from: usize, to: usize| {
        bytes[from..to]
            .iter()
            .try_fold(0_u32, |value, byte| byte.is_ascii_digit().then(|| value * 10 + u32::from(byte - b'0')))
    };
    let date = NaiveDate::from_ymd_opt(i32::try_from(number(0, 4)?).ok()?, number(5, 7)?, number(8, 10)?)?;
    let fraction = &bytes[19..bytes.len() - 1];
    let micros = match fraction.split_first() {
        None => 0,
        Some((b'.', digits)) if (1..=6).contains(&digits.len()) => {
            number(20, 20 + digits.len())? * 10_u32.pow(6 - digits.len() as u32)
        }
        Some(_) => return None,
    };
    let at = date.and_hms_micro_opt(number(11, 13)?, number(14, 16)?, number(17, 19)?, micros)?;
    Some(at.and_utc().timestamp_micros())
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    // As PostgreSQL writes them. A text that begins with 0x may be in base64.
    let Some(digits) = text.strip_prefix("\\x") else { return STANDARD.decode(text).ok() };
    if digits.len() % 2 != 0 {
        return None;
    }
    let pair = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    (0..digits.len()).step_by(2).map(pair).collect()
}

/// Collects the values of a column.
pub enum CellBuilder {
    /// Truth values.
    Bool(BooleanBuilder),
    /// 2 bytes.
    Int16(Int16Builder),
    /// 4 bytes.
    Int32(Int32Builder),
    /// 8 bytes.
    Int64(Int64Builder),
    /// Single precision.
    Float32(Float32Builder),
    /// Double precision.
    Float64(Float64Builder),
    /// Exact numbers.
    Decimal(Decimal128Builder),
    /// Dates.
    Date(Date32Builder),
    /// Times.
    Timestamp(TimestampMicrosecondBuilder),
    /// Bytes.
    Bytes(BinaryBuilder),
    /// Texts.
    Text(StringBuilder),
}

impl CellBuilder {
    /// An empty column of a type.
    pub fn new(data_type: &DataType) -> CellBuilder {
        match data_type {
            DataType::Boolean => CellBuilder::Bool(BooleanBuilder::new()),
            DataType::Int16 => CellBuilder::Int16(Int16Builder::new()),
            DataType::Int32 => CellBuilder::Int32(Int32Builder::new()),
            DataType::Int64 => CellBuilder::Int64(Int64Builder::new()),
            DataType::Float32 => CellBuilder::Float32(Float32Builder::new()),
            DataType::Float64 => CellBuilder::Float64(Float64Builder::new()),
            DataType::Decimal128(..) => {
                CellBuilder::Decimal(Decimal128Builder::new().with_data_type(data_type.clone()))
            }
            DataType::Date32 => CellBuilder::Date(Date32Builder::new()),
            DataType::Timestamp(..) => {
                CellBuilder::Timestamp(TimestampMicrosecondBuilder::new().with_data_type(data_type.clone()))
            }
            DataType::Binary => CellBuilder::Bytes(BinaryBuilder::new()),
            _ => CellBuilder::Text(StringBuilder::new()),
        }
    }

    /// Adds a value, which was read by the column's type.
    pub fn push(&mut self, cell: &Cell<'_>) {
        // A value of another kind can't be: `read` makes each by the type.
        let integer = match cell {
            Cell::Int(value) => Some(*value),
            _ => None,
        };
        match self {
            CellBuilder::Bool(column) => {
                column.append_option(if let Cell::Bool(value) = cell { Some(*value) } else { None })
            }
            CellBuilder::Int16(column) => column.append_option(integer.map(|value| value as i16)),
            CellBuilder::Int32(column) => column.append_option(integer.map(|value| value as i32)),
            CellBuilder::Int64(column) => column.append_option(integer.map(|value| value as i64)),
            CellBuilder::Float32(column) => {
                column.append_option(if let Cell::Float(value) = cell { Some(*value as f32) } else { None })
            }
            CellBuilder::Float64(column) => {
                column.append_option(if let Cell::Float(value) = cell { Some(*value) } else { None })
            }
            CellBuilder::Decimal(column) => column.append_option(integer),
            CellBuilder::Date(column) => column.append_option(integer.map(|value| value as i32)),
            CellBuilder::Timestamp(column) => column.append_option(integer.map(|value| value as i64)),
            CellBuilder::Bytes(column) => {
                column.append_option(if let Cell::Bytes(value) = cell { Some(value) } else { None })
            }
            CellBuilder::Text(column) => {
                column.append_option(if let Cell::Text(value) = cell { Some(value) } else { None })
            }
        }
    }

    /// Takes the values.
    pub fn finish(&mut self) -> ArrayRef {
        match self {
            CellBuilder::Bool(column) => Arc::new(column.finish()),
            CellBuilder::Int16(column) => Arc::new(column.finish()),
            CellBuilder::Int32(column) => Arc::new(column.finish()),
            CellBuilder::Int64(column) => Arc::new(column.finish()),
            CellBuilder::Float32(column) => Arc::new(column.finish()),
            CellBuilder::Float64(column) => Arc::new(column.finish()),
            CellBuilder::Decimal(column) => Arc::new(column.finish()),
            CellBuilder::Date(column) => Arc::new(column.finish()),
            CellBuilder::Timestamp(column) => Arc::new(column.finish()),
            CellBuilder::Bytes(column) => Arc::new(column.finish()),
            CellBuilder::Text(column) => Arc::new(column.finish()),
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, TimeUnit};

    use super::{Cell, read};

    #[test]
    fn values_are_exact_or_an_error() {
        let instant = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        for (json, data_type, expected) in [
            ("9.324410911751E+12", DataType::Int64, Some(Cell::Int(9_324_410_911_751))),
            ("9.2233720368547758E+18", DataType::Int64, Some(Cell::Int(9_223_372_036_854_775_800))),
            ("1.5", DataType::Int64, None),
            ("9223372036854775808", DataType::Int64, None),
            ("\"17\"", DataType::Int32, Some(Cell::Int(17))),
            ("40000", DataType::Int16, None),
            ("-1.50", DataType::Decimal128(10, 2), Some(Cell::Int(-150))),
            ("1.505", DataType::Decimal128(10, 2), None),
            ("1.500", DataType::Decimal128(10, 2), Some(Cell::Int(150))),
            ("1E-2", DataType::Decimal128(10, 2), Some(Cell::Int(1))),
            ("12345678.00", DataType::Decimal128(8, 2), None),
            ("0E+400", DataType::Decimal128(8, 2), Some(Cell::Int(0))),
            ("\"t\"", DataType::Boolean, Some(Cell::Bool(true))),
            ("\"yes\"", DataType::Boolean, None),
            ("\"1970-01-02\"", DataType::Date32, Some(Cell::Int(1))),
            ("\"1970-01-02T00:00:00Z\"", DataType::Date32, Some(Cell::Int(1))),
            ("\"1970-01-02T00:00:01Z\"", DataType::Date32, None),
            ("\"1970-01-01T00:00:01.5Z\"", instant.clone(), Some(Cell::Int(1_500_000))),
            ("\"1970-01-01T01:00:01+01:00\"", instant.clone(), Some(Cell::Int(1_000_000))),
            ("\"1970-01-01 00:00:01\"", instant.clone(), Some(Cell::Int(1_000_000))),
            ("\"1969-12-31 23:59:59+00\"", instant.clone(), Some(Cell::Int(-1_000_000))),
            ("\"yesterday\"", instant, None),
            ("\"\\\\x00ff\"", DataType::Binary, Some(Cell::Bytes(vec![0, 255]))),
            ("\"AP8=\"", DataType::Binary, Some(Cell::Bytes(vec![0, 255]))),
            ("\"\\\\x0\"", DataType::Binary, None),
            ("\"a\\nb\"", DataType::Utf8, Some(Cell::Text("a\nb".into()))),
            (
                "123456789012345678901234567890.5",
                DataType::Utf8,
                Some(Cell::Text("123456789012345678901234567890.5".into())),
            ),
            ("null", DataType::Utf8, Some(Cell::Null)),
        ] {
            assert_eq!(read(json, &data_type, false).ok(), expected, "{json} as {data_type}");
        }
    }
}
