//! Values as PostgreSQL writes them, in text and in binary.

use std::fmt::Write as _;

use bytes::{BufMut, BytesMut};
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, Decimal128Array, Decimal256Array, Float32Array, Float64Array,
    Int16Array, Int32Array, Int64Array, IntervalMonthDayNanoArray, LargeBinaryArray, LargeListArray, LargeStringArray,
    StringBuilder, Time64MicrosecondArray, TimestampMicrosecondArray,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, IntervalMonthDayNano, IntervalUnit, TimeUnit};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use pgwire::api::Type;

use super::kinds;
use sql::cells::{write_bytes, write_instant};

/// Between 1970, from which the engine counts, and 2000, from which PostgreSQL does.
pub(crate) const DAYS_TO_2000: i32 = 10_957;
pub(crate) const MICROS_TO_2000: i64 = 946_684_800_000_000;

/// A column, in one of the forms that a value is written from.
pub(crate) enum Column {
    Bool(BooleanArray),
    Int16(Int16Array),
    Int32(Int32Array),
    Int64(Int64Array),
    Float32(Float32Array),
    Float64(Float64Array),
    Decimal(Decimal128Array),
    BigDecimal(Decimal256Array),
    Date(Date32Array),
    Time(Time64MicrosecondArray),
    Instant(TimestampMicrosecondArray, Option<Tz>),
    Interval(IntervalMonthDayNanoArray),
    Bytes(LargeBinaryArray),
    Text(LargeStringArray),
    List { lists: LargeListArray, elements: Box<Column>, element: Type },
}

impl Column {
    pub(crate) fn new(array: &ArrayRef, zone: &str) -> Result<Column, ArrowError> {
        let to = |data_type: &DataType| cast(array, data_type);
        Ok(match array.data_type() {
            DataType::Boolean => Column::Bool(array.as_boolean().clone()),
            DataType::Int8 | DataType::Int16 | DataType::UInt8 => {
                Column::Int16(to(&DataType::Int16)?.as_primitive().clone())
            }
            DataType::Int32 | DataType::UInt16 => Column::Int32(to(&DataType::Int32)?.as_primitive().clone()),
            DataType::Int64 | DataType::UInt32 => Column::Int64(to(&DataType::Int64)?.as_primitive().clone()),
            DataType::UInt64 => Column::Decimal(to(&DataType::Decimal128(20, 0))?.as_primitive().clone()),
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
                // An instant is shown in the session's zone, whatever the column calls its own.
                let zone = own.as_ref().map(|_| zone.parse()).transpose()?;
                Column::Instant(micros.as_primitive().clone(), zone)
            }
            DataType::Interval(_) | DataType::Duration(_) => Column::Interval(intervals(array)?),
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
                Column::List { elements, element: kinds::of(element.data_type()), lists }
            }
            _ => Column::Text(shown(array)?),
        })
    }

    pub(crate) fn is_null(&self, row: usize) -> bool {
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

    /// Of a value that is not NULL.
    pub(crate) fn text(&self, row: usize, out: &mut String) -> Result<(), ArrowError> {
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
            Column::Decimal(array) => write!(out, "{}", array.value_as_string(row)),
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

    /// Of a value that is not NULL, as `pg_type` is sent.
    pub(crate) fn binary(&self, row: usize, pg_type: &Type, out: &mut BytesMut) -> Result<(), ArrowError> {
        match self {
            Column::Bool(array) => out.put_u8(u8::from(array.value(row))),
            Column::Int16(array) => out.put_i16(array.value(row)),
            Column::Int32(array) => out.put_i32(array.value(row)),
            Column::Int64(array) => out.put_i64(array.value(row)),
            Column::Float32(array) => out.put_f32(array.value(row)),
            Column::Float64(array) => out.put_f64(array.value(row)),
            Column::Decimal(array) => numeric(&array.value_as_string(row), out),
            Column::BigDecimal(array) => numeric(&array.value_as_string(row), out),
            Column::Date(array) => out.put_i32(array.value(row) - DAYS_TO_2000),
            Column::Time(array) => out.put_i64(array.value(row)),
            Column::Instant(array, _) => out.put_i64(array.value(row) - MICROS_TO_2000),
            Column::Interval(array) => {
                let value = array.value(row);
                out.put_i64(value.nanoseconds / 1_000);
                out.put_i32(value.days);
                out.put_i32(value.months);
            }
            Column::Bytes(array) => out.put_slice(array.value(row)),
            Column::Text(array) if *pg_type == Type::CHAR => {
                out.put_u8(array.value(row).bytes().next().unwrap_or_default());
            }
            Column::Text(array) => out.put_slice(array.value(row).as_bytes()),
            Column::List { lists, elements, element } => return binary_list(lists, elements, element, row, out),
        }
        Ok(())
    }
}

/// What has no form of PostgreSQL's, in the engine's own.
fn shown(array: &ArrayRef) -> Result<LargeStringArray, ArrowError> {
    let options = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(array.as_ref(), &options)?;
    let mut texts = StringBuilder::new();
    for row in 0..array.len() {
        texts.append_option((!array.is_null(row)).then(|| formatter.value(row).to_string()));
    }
    let texts: ArrayRef = std::sync::Arc::new(texts.finish());
    Ok(cast(&texts, &DataType::LargeUtf8)?.as_string().clone())
}

fn intervals(array: &ArrayRef) -> Result<IntervalMonthDayNanoArray, ArrowError> {
    let target = DataType::Interval(IntervalUnit::MonthDayNano);
    if let DataType::Duration(_) = array.data_type() {
        let nanos = cast(array, &DataType::Duration(TimeUnit::Nanosecond))?;
        let nanos = cast(&nanos, &DataType::Int64)?;
        let nanos: &Int64Array = nanos.as_primitive();
        return Ok(nanos.iter().map(|nanos| nanos.map(|n| IntervalMonthDayNano::new(0, 0, n))).collect());
    }
    Ok(cast(array, &target)?.as_primitive().clone())
}

/// The shortest that reads back the same, with an exponent from 10^`digits` on and below 0.0001.
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
    let mut part = |number: i32, one: &str, many: &str| {
        if number != 0 {
            let space = if out.len() > start { " " } else { "" };
            let _ = write!(out, "{space}{number} {}", if number == 1 { one } else { many });
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

/// One dimension: deeper arrays have no shape that PostgreSQL takes in general.
fn binary_list(
    lists: &LargeListArray,
    elements: &Column,
    element: &Type,
    row: usize,
    out: &mut BytesMut,
) -> Result<(), ArrowError> {
    if matches!(elements, Column::List { .. }) {
        let message = "arrays of arrays are sent as text only: ask for text results".to_owned();
        return Err(ArrowError::NotYetImplemented(message));
    }
    let offsets = lists.value_offsets();
    let (start, end) = (offsets[row] as usize, offsets[row + 1] as usize);
    let length = i32::try_from(end - start).map_err(|_| ArrowError::ComputeError("array too long".to_owned()))?;
    let nulls = (start..end).any(|at| elements.is_null(at));
    out.put_i32(i32::from(length > 0));
    out.put_i32(i32::from(nulls));
    out.put_u32(element.oid());
    if length > 0 {
        out.put_i32(length);
        out.put_i32(1);
    }
    for at in start..end {
        if elements.is_null(at) {
            out.put_i32(-1);
        } else {
            sized(out, |out| elements.binary(at, element, out))?;
        }
    }
    Ok(())
}

/// Four bytes of length, then what `write` writes.
pub(crate) fn sized(
    out: &mut BytesMut,
    write: impl FnOnce(&mut BytesMut) -> Result<(), ArrowError>,
) -> Result<(), ArrowError> {
    let start = out.len();
    out.put_i32(0);
    write(out)?;
    let length = i32::try_from(out.len() - start - 4);
    let length = length.map_err(|_| ArrowError::ComputeError("a value is longer than 2 GB".to_owned()))?;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

/// Digits to base 10000, a weight, a sign and the number of decimals shown.
fn numeric(text: &str, out: &mut BytesMut) {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let whole = whole.trim_start_matches('0');
    let whole = format!("{}{whole}", "0".repeat((4 - whole.len() % 4) % 4));
    let fraction_padded = format!("{fraction}{}", "0".repeat((4 - fraction.len() % 4) % 4));
    let mut weight = whole.len() as i64 / 4 - 1;
    let all = format!("{whole}{fraction_padded}");
    let group = |chunk: &[u8]| chunk.iter().fold(0_i16, |sum, digit| sum * 10 + i16::from(digit - b'0'));
    let mut groups: Vec<i16> = all.as_bytes().chunks(4).map(group).collect();
    while groups.last() == Some(&0) {
        groups.pop();
    }
    let leading = groups.iter().take_while(|group| **group == 0).count();
    groups.drain(..leading);
    weight -= leading as i64;
    if groups.is_empty() {
        weight = 0;
    }
    out.put_i16(groups.len() as i16);
    out.put_i16(weight as i16);
    out.put_u16(if negative && !groups.is_empty() { 0x4000 } else { 0 });
    out.put_i16(fraction.len() as i16);
    groups.into_iter().for_each(|group| out.put_i16(group));
}

#[cfg(test)]
mod tests {
    use super::{float, interval, numeric};
    use bytes::BytesMut;
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
        ] {
            let mut out = String::new();
            interval(IntervalMonthDayNano::new(months, days, micros * 1_000), &mut out);
            assert_eq!(out, expected);
        }
    }

    /// Against another's reading of the format.
    #[test]
    fn numerics_are_read_back() {
        for text in ["0", "1.100", "-12345.6789", "0.0001", "100000000", "99999999999999999999.99", "-0.5", "12"] {
            let mut out = BytesMut::new();
            numeric(text, &mut out);
            let read = super::super::parameters::numeric_text(&out).unwrap();
            assert_eq!(read, *text, "{out:?}");
        }
    }
}
