//! Decodes the parameters that clients send, in text and in binary, to values of the engine. Each
//! keeps its own type; the engine adds the casts that an expression needs.

use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::{Array, ArrayRef};
use datafusion::arrow::datatypes::{DataType, IntervalMonthDayNano};
use datafusion::common::ScalarValue;
use pgwire::api::Type;
use pgwire::error::{PgWireError, PgWireResult};
use postgres_types::{FromSql, Kind};

use super::values::{DAYS_TO_2000, MICROS_TO_2000};
use super::{pg_types, problem};
use sql::instant::{local_time, with_seconds};
use sql::literals::local_to_utc;

/// The days since 1970 of 0001-01-01 and 9999-12-31, which the lake has in the place of -infinity and infinity.
const INFINITE_DATES: (i32, i32) = (-719_162, 2_932_896);
const DAY_MICROS: i64 = 86_400_000_000;

/// The value of a parameter; `None` is NULL. `zone` is the time zone of an instant that is written without one.
///
/// # Errors
/// If the bytes are no value of the type, or the type cannot be decoded from binary.
pub(crate) fn value(bytes: Option<&[u8]>, pg_type: &Type, binary: bool, zone: &str) -> PgWireResult<ScalarValue> {
    let Some(bytes) = bytes else {
        return ScalarValue::try_from(&pg_types::engine_type(pg_type)).map_err(problem::of_run);
    };
    if let Kind::Array(element) = pg_type.kind() {
        return if binary { binary_array(bytes, element) } else { text_array(bytes, element, zone) };
    }
    if binary { from_binary(bytes, pg_type) } else { from_text(text(bytes)?, pg_type, zone) }
}

fn text(bytes: &[u8]) -> PgWireResult<&str> {
    std::str::from_utf8(bytes).map_err(|_| problem::error("22021", "invalid byte sequence for encoding \"UTF8\""))
}

fn malformed(pg_type: &Type) -> PgWireError {
    problem::error("22P03", format!("incorrect binary data format in a parameter of type {}", pg_type.name()))
}

fn from_binary(bytes: &[u8], pg_type: &Type) -> PgWireResult<ScalarValue> {
    fn read<'a, T: FromSql<'a>>(bytes: &'a [u8], pg_type: &Type) -> PgWireResult<Option<T>> {
        T::from_sql(pg_type, bytes).map(Some).map_err(|_| malformed(pg_type))
    }
    let micros = || read::<i64>(bytes, &Type::INT8);
    Ok(match *pg_type {
        Type::BOOL => ScalarValue::Boolean(read(bytes, pg_type)?),
        Type::INT2 => ScalarValue::Int16(read(bytes, pg_type)?),
        Type::INT4 | Type::OID => ScalarValue::Int32(read(bytes, &Type::INT4)?),
        Type::INT8 => ScalarValue::Int64(read(bytes, pg_type)?),
        Type::FLOAT4 => ScalarValue::Float32(read(bytes, pg_type)?),
        Type::FLOAT8 => ScalarValue::Float64(read(bytes, pg_type)?),
        Type::BYTEA => ScalarValue::Binary(Some(bytes.to_vec())),
        Type::DATE => ScalarValue::Date32(read::<i32>(bytes, &Type::INT4)?.map(date)),
        // The engine's literals of this type have nanoseconds.
        Type::TIME => ScalarValue::Time64Nanosecond(micros()?.map(|micros| micros.saturating_mul(1_000))),
        Type::TIMESTAMP => ScalarValue::TimestampMicrosecond(micros()?.map(timestamp), None),
        Type::TIMESTAMPTZ => ScalarValue::TimestampMicrosecond(micros()?.map(timestamp), Some("UTC".into())),
        Type::INTERVAL => {
            let (micros, rest) = bytes.split_at_checked(8).ok_or_else(|| malformed(pg_type))?;
            let (days, months) = rest.split_at_checked(4).ok_or_else(|| malformed(pg_type))?;
            let part = |bytes: &[u8]| read::<i32>(bytes, &Type::INT4).map(Option::unwrap_or_default);
            let nanos = read::<i64>(micros, &Type::INT8)?.unwrap_or_default().saturating_mul(1_000);
            ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano::new(part(months)?, part(days)?, nanos)))
        }
        Type::NUMERIC => decimal(&numeric_text(bytes).ok_or_else(|| malformed(pg_type))?)?,
        Type::UUID => {
            let bytes: [u8; 16] = bytes.try_into().map_err(|_| malformed(pg_type))?;
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
            ScalarValue::Utf8(Some(parts.join("-")))
        }
        // The first byte is the version of the format.
        Type::JSONB => ScalarValue::Utf8(Some(text(bytes.get(1..).unwrap_or_default())?.to_owned())),
        Type::TEXT
        | Type::VARCHAR
        | Type::BPCHAR
        | Type::NAME
        | Type::UNKNOWN
        | Type::JSON
        | Type::XML
        | Type::CHAR => ScalarValue::Utf8(Some(text(bytes)?.to_owned())),
        _ => {
            let message = format!("binary parameters of type {} are not supported", pg_type.name());
            return Err(problem::with_hint(problem::NOT_SUPPORTED, message, "send it as text"));
        }
    })
}

/// A date in days since 1970 of a date in days since 2000. Infinities are the values that the lake has in their place.
fn date(days: i32) -> i32 {
    match days {
        i32::MAX => INFINITE_DATES.1,
        i32::MIN => INFINITE_DATES.0,
        days => days.saturating_add(DAYS_TO_2000),
    }
}

/// As [`date`], in microseconds.
fn timestamp(micros: i64) -> i64 {
    match micros {
        i64::MAX => (i64::from(INFINITE_DATES.1) + 1) * DAY_MICROS - 1,
        i64::MIN => i64::from(INFINITE_DATES.0) * DAY_MICROS,
        micros => micros.saturating_add(MICROS_TO_2000),
    }
}

fn from_text(value: &str, pg_type: &Type, zone: &str) -> PgWireResult<ScalarValue> {
    let wrong = || problem::error("22P02", format!("invalid input syntax for type {}: \"{value}\"", pg_type.name()));
    let target = pg_types::engine_type(pg_type);
    match (pg_type, &target) {
        (&Type::NUMERIC, _) => return decimal(value),
        (&Type::BYTEA, _) => {
            return sql::values::bytes_of_text(value).map(|bytes| ScalarValue::Binary(Some(bytes))).ok_or_else(wrong);
        }
        (&Type::UUID, _) => {
            return sql::values::uuid_of_text(value).map(|uuid| ScalarValue::Utf8(Some(uuid))).ok_or_else(wrong);
        }
        (_, DataType::Utf8) => return Ok(ScalarValue::Utf8(Some(value.to_owned()))),
        _ => {}
    }
    let infinity = sql::literals::infinity(value, *pg_type == Type::DATE).map(str::to_owned);
    let value = infinity.as_deref().unwrap_or(value);
    let corrected = match *pg_type {
        Type::TIMESTAMP => local_time(value).or_else(|| with_seconds(value)),
        Type::TIMESTAMPTZ => with_seconds(value),
        _ => None,
    };
    let zone: Option<Tz> = if *pg_type == Type::TIMESTAMPTZ { zone.parse().ok() } else { None };
    let placed = zone.and_then(|zone| local_to_utc(corrected.as_deref().unwrap_or(value), &zone));
    let read =
        ScalarValue::Utf8(Some(placed.or(corrected).unwrap_or_else(|| value.trim().to_owned()))).cast_to(&target);
    read.ok().filter(|read| !read.is_null()).ok_or_else(wrong)
}

/// Reads a decimal with all its digits; NaN and the infinities become floats.
pub(crate) fn decimal(written: &str) -> PgWireResult<ScalarValue> {
    let wrong = || problem::error("22P02", format!("invalid input syntax for type numeric: \"{written}\""));
    let written_out = sql::values::without_exponent(written.trim());
    let plain = written_out.as_deref().unwrap_or(written.trim());
    let (negative, digits) = match plain.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, plain.strip_prefix('+').unwrap_or(plain)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_plain =
        whole.len() + fraction.len() > 0 && whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit());
    let mantissa = format!("{whole}{fraction}").parse::<i128>().ok().filter(|_| is_plain && fraction.len() <= 38);
    let digits_max = 38;
    let significant = format!("{whole}{fraction}").trim_start_matches('0').len();
    if is_plain && (significant > digits_max || fraction.len() > digits_max) {
        let message = format!("numeric {written:?} has more than {digits_max} digits, which is the limit here");
        return Err(problem::error("22003", message));
    }
    let Some(mantissa) = mantissa else {
        return plain.parse().map(|value| ScalarValue::Float64(Some(value))).map_err(|_| wrong());
    };
    let digits = mantissa.unsigned_abs().checked_ilog10().map_or(1, |log| log + 1);
    let scale = fraction.len() as i8;
    let precision = u8::try_from(digits).unwrap_or(38).max(fraction.len() as u8).min(38);
    Ok(ScalarValue::Decimal128(Some(if negative { -mantissa } else { mantissa }), precision, scale))
}

/// The decimal text of a numeric in binary format; `None` if it is malformed.
fn numeric_text(bytes: &[u8]) -> Option<String> {
    let word = |at: usize| bytes.get(at * 2..at * 2 + 2).map(|pair| i16::from_be_bytes([pair[0], pair[1]]));
    let (count, weight, sign, scale) =
        (word(0)?, i32::from(word(1)?), word(2)? as u16, usize::try_from(word(3)?).ok()?);
    match sign {
        0 | 0x4000 => {}
        0xC000 => return Some("NaN".to_owned()),
        0xD000 => return Some("inf".to_owned()),
        0xF000 => return Some("-inf".to_owned()),
        _ => return None,
    }
    let groups: Option<Vec<i16>> = (0..usize::try_from(count).ok()?).map(|at| word(4 + at)).collect();
    let groups = groups?;
    let group = |power: i32| {
        let at = usize::try_from(weight - power).ok();
        at.and_then(|at| groups.get(at)).copied().unwrap_or(0)
    };
    let mut whole: String = (0..=weight.max(0)).rev().map(|power| format!("{:04}", group(power))).collect();
    whole = whole.trim_start_matches('0').to_owned();
    let fraction_groups = i32::try_from(scale.div_ceil(4)).ok()?;
    let fraction: String = (1..=fraction_groups).map(|power| format!("{:04}", group(-power))).collect();
    let sign = if sign == 0x4000 { "-" } else { "" };
    let whole = if whole.is_empty() { "0" } else { &whole };
    Some(match scale {
        0 => format!("{sign}{whole}"),
        scale => format!("{sign}{whole}.{}", fraction.get(..scale)?),
    })
}

fn binary_array(bytes: &[u8], element: &Type) -> PgWireResult<ScalarValue> {
    let mut rest = bytes;
    let mut number = || -> PgWireResult<i32> {
        let (head, tail) = rest.split_at_checked(4).ok_or_else(|| malformed(element))?;
        rest = tail;
        Ok(i32::from_be_bytes([head[0], head[1], head[2], head[3]]))
    };
    let (dimensions, _, _) = (number()?, number()?, number()?);
    let count = match dimensions {
        0 => 0,
        1 => {
            let (count, _) = (number()?, number()?);
            count
        }
        _ => return Err(problem::error(problem::NOT_SUPPORTED, "array parameters can have one dimension only")),
    };
    let mut values = Vec::new();
    for _ in 0..count {
        let (head, tail) = rest.split_at_checked(4).ok_or_else(|| malformed(element))?;
        let length = i32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        rest = tail;
        values.push(match usize::try_from(length) {
            Err(_) => value(None, element, true, "UTC")?,
            Ok(length) => {
                let (own, tail) = rest.split_at_checked(length).ok_or_else(|| malformed(element))?;
                rest = tail;
                value(Some(own), element, true, "UTC")?
            }
        });
    }
    list(values, element)
}

/// Reads an array literal such as `{1,2,NULL,"a \"b\""}`.
fn text_array(bytes: &[u8], element: &Type, zone: &str) -> PgWireResult<ScalarValue> {
    let written = text(bytes)?;
    let wrong = || problem::error("22P02", format!("malformed array literal: \"{written}\""));
    let inner = written.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).ok_or_else(wrong)?;
    let mut values = Vec::new();
    let mut characters = inner.chars().peekable();
    while characters.peek().is_some() {
        let (mut item, mut quoted) = (String::new(), false);
        loop {
            match characters.next() {
                None | Some(',') => break,
                Some('"') => {
                    quoted = true;
                    loop {
                        match characters.next().ok_or_else(wrong)? {
                            '"' => break,
                            '\\' => item.push(characters.next().ok_or_else(wrong)?),
                            other => item.push(other),
                        }
                    }
                }
                Some('\\') => item.push(characters.next().ok_or_else(wrong)?),
                Some('{' | '}') => return Err(wrong()),
                Some(other) => item.push(other),
            }
        }
        // Other spaces, such as U+00A0, are a part of the value.
        let item = if quoted { item.as_str() } else { item.trim_matches([' ', '\t', '\n', '\r', '\u{b}', '\u{c}']) };
        let null = !quoted && item.eq_ignore_ascii_case("null");
        values.push(value((!null).then_some(item.as_bytes()), element, false, zone)?);
    }
    list(values, element)
}

/// An array of values; numerics are cast to the largest scale among them.
fn list(values: Vec<ScalarValue>, element: &Type) -> PgWireResult<ScalarValue> {
    let mut data_type = pg_types::engine_type(element);
    if *element == Type::NUMERIC {
        let scale = values.iter().filter(|value| !value.is_null()).map(|value| match value {
            ScalarValue::Decimal128(_, _, scale) => *scale,
            _ => 10,
        });
        data_type = DataType::Decimal128(38, scale.max().unwrap_or(0));
    }
    let cast = values.iter().map(|value| value.cast_to(&data_type));
    let cast: Vec<ScalarValue> = cast.collect::<Result<_, _>>().map_err(problem::of_run)?;
    Ok(ScalarValue::List(ScalarValue::new_list_nullable(&cast, &data_type)))
}

/// The elements of an array parameter; `None` if the array is NULL.
pub(crate) fn elements(array: &ScalarValue) -> PgWireResult<Option<Vec<ScalarValue>>> {
    let ScalarValue::List(list) = array else { return Ok(None) };
    if list.is_null(0) {
        return Ok(None);
    }
    let values: ArrayRef = list.value(0);
    let elements = (0..values.len()).map(|at| ScalarValue::try_from_array(&values, at));
    elements.collect::<Result<_, _>>().map(Some).map_err(problem::of_run)
}

#[cfg(test)]
mod tests {
    use super::super::values::put_numeric;
    use super::{elements, numeric_text, value};
    use bytes::BytesMut;
    use datafusion::common::ScalarValue;
    use pgwire::api::Type;

    #[test]
    fn texts_become_values() {
        let read = |text: &str, pg_type| value(Some(text.as_bytes()), &pg_type, false, "UTC").unwrap();
        assert_eq!(read("1.10", Type::NUMERIC), ScalarValue::Decimal128(Some(110), 3, 2));
        assert_eq!(read("0.05", Type::NUMERIC), ScalarValue::Decimal128(Some(5), 2, 2));
        assert_eq!(read("t", Type::BOOL), ScalarValue::Boolean(Some(true)));
        assert_eq!(read("-7", Type::INT8), ScalarValue::Int64(Some(-7)));
        assert_eq!(read("\\x0aff", Type::BYTEA), ScalarValue::Binary(Some(vec![10, 255])));
        assert_eq!(
            read("2020-01-02 06:00+01", Type::TIMESTAMPTZ),
            ScalarValue::TimestampMicrosecond(Some(1_577_941_200_000_000), Some("UTC".into()))
        );
        assert!(value(Some(b"x"), &Type::INT4, false, "UTC").is_err());
        let list = elements(&read("{1,NULL,3}", Type::INT4_ARRAY)).unwrap().unwrap();
        assert_eq!(list, [ScalarValue::Int32(Some(1)), ScalarValue::Int32(None), ScalarValue::Int32(Some(3))]);
        let list = elements(&read(r#"{a,"b, \"c\"","NULL"}"#, Type::TEXT_ARRAY)).unwrap().unwrap();
        let texts: Vec<String> = list.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["a", "b, \"c\"", "NULL"]);
    }

    /// Compares with the encoder of results.
    #[test]
    fn numerics_are_read_back() {
        for text in ["0", "1.100", "-12345.6789", "0.0001", "100000000", "99999999999999999999.99", "-0.5", "12"] {
            let mut out = BytesMut::new();
            put_numeric(text, &mut out);
            let read = numeric_text(&out).unwrap();
            assert_eq!(read, *text, "{out:?}");
        }
    }
}
