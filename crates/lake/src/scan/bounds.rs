//! Converts the log's statistics of a file to DataFusion's. Queries may be answered from exact statistics
//! without reading the file, so values that are not certain are marked as inexact or left out.

use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use chrono::{DateTime, NaiveDate, NaiveDateTime};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};
use deltalake::kernel::LogicalFileView;
use serde_json::Value;

use crate::writer::Destination;

/// Decimals below this have at most 15 digits, which a float of JSON keeps exactly.
const DIGITS_MAX: u128 = 10u128.pow(15);

/// The statistics of a file with `rows` rows, of which `hidden` are hidden.
pub(super) fn of(schema: &SchemaRef, file: &LogicalFileView, rows: usize, hidden: usize) -> Statistics {
    let stats = file.stats().and_then(|text| serde_json::from_str::<Value>(&text).ok()).unwrap_or_default();
    // Other programs may truncate texts and round instants, as the protocol allows.
    let exact = hidden == 0 && Destination::run_of(&file.path()).is_some();
    let foreign = Destination::run_of(&file.path()).is_none();
    let columns = schema.fields().iter().map(|field| {
        let bound = |side: &str| {
            let value = scalar(stats.get(side)?.get(field.name())?, field.data_type())?;
            (!foreign || has_exact_bounds(field.data_type())).then_some(value)
        };
        let known = |value: Option<ScalarValue>| match value {
            Some(value) if exact => Precision::Exact(value),
            Some(value) => Precision::Inexact(value),
            None => Precision::Absent,
        };
        let nulls = stats.get("nullCount").and_then(|counts| counts.get(field.name())).and_then(Value::as_u64);
        let nulls = nulls.and_then(|nulls| usize::try_from(nulls).ok());
        ColumnStatistics::new_unknown()
            .with_min_value(known(bound("minValues")))
            .with_max_value(known(bound("maxValues")))
            .with_null_count(visible_nulls(nulls, rows, hidden))
    });
    Statistics {
        num_rows: Precision::Exact(rows.saturating_sub(hidden)),
        total_byte_size: Precision::Inexact(usize::try_from(file.size()).unwrap_or_default()),
        column_statistics: columns.collect(),
    }
}

/// The number of NULLs in visible rows. Which hidden rows have NULLs is not known, unless all or none do.
fn visible_nulls(nulls: Option<usize>, rows: usize, hidden: usize) -> Precision<usize> {
    match nulls {
        Some(0) => Precision::Exact(0),
        Some(nulls) if nulls >= rows => Precision::Exact(rows.saturating_sub(hidden)),
        Some(nulls) if hidden == 0 => Precision::Exact(nulls),
        _ => Precision::Absent,
    }
}

/// Whether bounds of this type are never truncated or rounded.
fn has_exact_bounds(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Boolean | DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::Date32)
}

fn scalar(value: &Value, data_type: &DataType) -> Option<ScalarValue> {
    Some(match data_type {
        DataType::Boolean => ScalarValue::Boolean(Some(value.as_bool()?)),
        DataType::Int16 => ScalarValue::Int16(Some(value.as_i64()?.try_into().ok()?)),
        DataType::Int32 => ScalarValue::Int32(Some(value.as_i64()?.try_into().ok()?)),
        DataType::Int64 => ScalarValue::Int64(Some(value.as_i64()?)),
        DataType::Date32 => {
            let day: NaiveDate = value.as_str()?.parse().ok()?;
            let days = day.signed_duration_since(NaiveDate::default()).num_days();
            ScalarValue::Date32(Some(days.try_into().ok()?))
        }
        DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) => {
            let at = DateTime::parse_from_rfc3339(value.as_str()?).ok()?.timestamp_micros();
            ScalarValue::TimestampMicrosecond(Some(at), Some(zone.clone()))
        }
        DataType::Timestamp(TimeUnit::Microsecond, None) => {
            let text = value.as_str()?.replace(' ', "T");
            let at = NaiveDateTime::parse_from_str(&text, "%Y-%m-%dT%H:%M:%S%.f").ok()?;
            ScalarValue::TimestampMicrosecond(Some(at.and_utc().timestamp_micros()), None)
        }
        DataType::Decimal128(precision, scale) => {
            ScalarValue::Decimal128(Some(units(value.as_f64()?, *scale)?), *precision, *scale)
        }
        DataType::Utf8View => ScalarValue::Utf8View(Some(value.as_str()?.to_owned())),
        _ => return None,
    })
}

/// The digits of a decimal; `None` where the float may have lost some.
fn units(value: f64, scale: i8) -> Option<i128> {
    let scale = usize::try_from(scale).ok()?;
    let digits: String = format!("{value:.scale$}").chars().filter(|c| *c != '.').collect();
    let units: i128 = digits.parse().ok()?;
    (units.unsigned_abs() < DIGITS_MAX).then_some(units)
}

#[cfg(test)]
mod tests;
