//! The statistics of a data file for the Delta log: the number of rows, and each column's least and
//! greatest value and number of NULLs.
//!
//! Only exact bounds are written, since engines answer `max(ts)` from them: no truncated texts, no
//! instants rounded to milliseconds, and none for floats, since Parquet's bounds ignore NaN.

use std::fmt::Write;

use arrow::array::{Array, ArrayRef, AsArray, UInt64Array};
use arrow::compute::kernels::aggregate::{max_boolean, max_string, min_boolean, min_string};
use arrow::compute::{max, min};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Int16Type, Int32Type, Int64Type, SchemaRef, TimeUnit,
    TimestampMicrosecondType,
};
use chrono::{DateTime, NaiveDate, TimeDelta};
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::file::metadata::ParquetMetaData;

use crate::error::{Context, Result};

/// How many columns get statistics: as many as Delta indexes by default.
const COLUMNS_MAX: usize = 32;

/// The statistics of a file as JSON, from its Parquet metadata.
pub fn of(metadata: &ParquetMetaData, schema: &SchemaRef) -> Result<String> {
    let parquet_schema = metadata.file_metadata().schema_descr();
    let (mut least, mut greatest, mut nulls) = (Vec::new(), Vec::new(), Vec::new());
    for field in schema.fields().iter().take(COLUMNS_MAX) {
        if field.data_type().is_nested() {
            continue;
        }
        let context = || format!("read the statistics of column {:?}", field.name());
        let converter = StatisticsConverter::try_new(field.name(), schema, parquet_schema).context(context())?;
        let groups = metadata.row_groups();
        let name = serde_json::to_string(field.name()).context(context())?;
        if let Some(count) = sum(&converter.row_group_null_counts(groups).context(context())?) {
            nulls.push(format!("{name}:{count}"));
        }
        let exact = groups.iter().all(|group| {
            let statistics = converter.parquet_column_index().and_then(|index| group.column(index).statistics());
            statistics.is_none_or(|s| s.min_is_exact() && s.max_is_exact())
        });
        if exact {
            let low = converter.row_group_mins(groups).context(context())?;
            let high = converter.row_group_maxes(groups).context(context())?;
            if let (Some(low), Some(high)) = (bound(&low, false), bound(&high, true)) {
                least.push(format!("{name}:{low}"));
                greatest.push(format!("{name}:{high}"));
            }
        }
    }
    Ok(format!(
        "{{\"numRecords\":{},\"minValues\":{{{}}},\"maxValues\":{{{}}},\"nullCount\":{{{}}}}}",
        metadata.file_metadata().num_rows(),
        least.join(","),
        greatest.join(","),
        nulls.join(",")
    ))
}

fn sum(counts: &UInt64Array) -> Option<u64> {
    (counts.null_count() == 0).then(|| counts.values().iter().sum())
}

/// The least or greatest value of all row groups, as JSON.
fn bound(values: &ArrayRef, greatest: bool) -> Option<String> {
    macro_rules! of {
        ($type:ty) => {{
            let array = values.as_primitive::<$type>();
            (if greatest { max(array) } else { min(array) })?
        }};
    }
    Some(match values.data_type() {
        DataType::Boolean => {
            let array = values.as_boolean();
            (if greatest { max_boolean(array) } else { min_boolean(array) })?.to_string()
        }
        DataType::Int16 => of!(Int16Type).to_string(),
        DataType::Int32 => of!(Int32Type).to_string(),
        DataType::Int64 => of!(Int64Type).to_string(),
        DataType::Date32 => {
            let epoch = NaiveDate::from_ymd_opt(1970, 1, 1)?;
            let day = epoch.checked_add_signed(TimeDelta::days(of!(Date32Type).into()))?;
            format!("\"{}\"", day.format("%Y-%m-%d"))
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let at = DateTime::from_timestamp_micros(of!(TimestampMicrosecondType))?.naive_utc();
            match zone {
                Some(_) => format!("\"{}\"", at.format("%Y-%m-%dT%H:%M:%S%.6fZ")),
                None => format!("\"{}\"", at.format("%Y-%m-%dT%H:%M:%S%.6f")),
            }
        }
        DataType::Decimal128(_, scale) => decimal(of!(Decimal128Type), *scale)?,
        DataType::Utf8 => {
            let array = values.as_string::<i32>();
            serde_json::to_string((if greatest { max_string(array) } else { min_string(array) })?).ok()?
        }
        _ => return None,
    })
}

/// A decimal with every digit, which a float would round.
fn decimal(value: i128, scale: i8) -> Option<String> {
    let scale = usize::try_from(scale).ok()?;
    let sign = if value < 0 { "-" } else { "" };
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let mut text = format!("{sign}{whole}");
    if scale > 0 {
        write!(text, ".{fraction}").ok()?;
    }
    Some(text)
}

#[cfg(test)]
mod tests;
