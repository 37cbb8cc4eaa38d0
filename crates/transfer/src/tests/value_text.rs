//! Exact texts of values, which differ for different values: texts with their lengths, floats by their bits.
//! [`TEXT_FUNCTIONS`] computes them in PostgreSQL, [`exact`] from the lake's values; [`plain`] gives the usual texts.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, TimeUnit,
    TimestampMicrosecondType,
};
use chrono::{DateTime, NaiveDate, TimeDelta};

/// Functions of SQL. Infinite times are mapped to the first and the last one, as documented.
pub const TEXT_FUNCTIONS: &str = "CREATE SCHEMA exact;
CREATE FUNCTION exact.text(v text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT length(v) || ':' || v $$;
CREATE FUNCTION exact.bytes(v bytea) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT encode(v, 'hex') $$;
CREATE FUNCTION exact.float4(v float4) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT encode(float4send(v), 'hex') $$;
CREATE FUNCTION exact.float8(v float8) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT encode(float8send(v), 'hex') $$;
CREATE FUNCTION exact.date(v date) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE v WHEN 'infinity' THEN '9999-12-31' WHEN '-infinity' THEN '0001-01-01' ELSE v::text END $$;
CREATE FUNCTION exact.timestamp(v timestamp) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE v WHEN 'infinity' THEN '9999-12-31 23:59:59.999999' WHEN '-infinity' THEN '0001-01-01 00:00:00.000000'
        ELSE to_char(v, 'YYYY-MM-DD HH24:MI:SS.US') END $$;
CREATE FUNCTION exact.timestamptz(v timestamptz) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT exact.timestamp(v AT TIME ZONE 'UTC') || ' UTC' $$;";

/// The exact text of a value.
pub fn exact(array: &ArrayRef, at: usize) -> String {
    if array.is_null(at) {
        return "NULL".into();
    }
    match array.data_type() {
        DataType::Utf8 => {
            let text = array.as_string::<i32>().value(at);
            format!("{}:{text}", text.chars().count())
        }
        DataType::Float32 => format!("{:08x}", array.as_primitive::<Float32Type>().value(at).to_bits()),
        DataType::Float64 => format!("{:016x}", array.as_primitive::<Float64Type>().value(at).to_bits()),
        _ => whole(array, at, exact),
    }
}

/// The usual text of a value.
pub fn plain(array: &ArrayRef, at: usize) -> String {
    if array.is_null(at) {
        return "NULL".into();
    }
    match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(at).to_owned(),
        DataType::Utf8View => array.as_string_view().value(at).to_owned(),
        DataType::Float32 => array.as_primitive::<Float32Type>().value(at).to_string(),
        DataType::Float64 => array.as_primitive::<Float64Type>().value(at).to_string(),
        _ => whole(array, at, plain),
    }
}

fn whole(array: &ArrayRef, at: usize, inner: fn(&ArrayRef, usize) -> String) -> String {
    match array.data_type() {
        DataType::Boolean => array.as_boolean().value(at).to_string(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(at).to_string(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(at).to_string(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(at).to_string(),
        DataType::Decimal128(_, scale) => decimal(array.as_primitive::<Decimal128Type>().value(at), *scale),
        DataType::Binary => hex(array.as_binary::<i32>().value(at)),
        DataType::BinaryView => hex(array.as_binary_view().value(at)),
        DataType::Date32 => day(array.as_primitive::<Date32Type>().value(at)),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let at =
                DateTime::from_timestamp_micros(array.as_primitive::<TimestampMicrosecondType>().value(at)).unwrap();
            let zone = zone.as_ref().map_or_else(String::new, |zone| format!(" {zone}"));
            format!("{}{zone}", at.format("%Y-%m-%d %H:%M:%S%.6f"))
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>().value(at);
            let items: Vec<String> = (0..list.len()).map(|at| inner(&list, at)).collect();
            format!("[{}]", items.join(","))
        }
        DataType::Struct(_) => {
            let fields: Vec<String> = array.as_struct().columns().iter().map(|column| inner(column, at)).collect();
            format!("{{{}}}", fields.join(","))
        }
        other => panic!("no way to show {other}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn day(days: i32) -> String {
    let day = NaiveDate::from_ymd_opt(1970, 1, 1).unwrap() + TimeDelta::days(days.into());
    day.format("%Y-%m-%d").to_string()
}

fn decimal(unscaled: i128, scale: i8) -> String {
    let scale = usize::try_from(scale).unwrap();
    let sign = if unscaled < 0 { "-" } else { "" };
    let digits = format!("{:0>1$}", unscaled.unsigned_abs(), scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}
