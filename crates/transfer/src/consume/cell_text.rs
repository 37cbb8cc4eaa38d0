//! The values of rows as texts that PostgreSQL reads.

use std::fmt::Display;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use chrono::{DateTime, NaiveDate, TimeDelta};

use crate::error::{Error, Result};

/// The texts of a column.
pub struct CellTexts(Vec<Option<String>>);

impl CellTexts {
    /// The text of a row; `None` is NULL.
    pub fn get(&self, row: usize) -> Option<&str> {
        self.0.get(row).and_then(Option::as_deref)
    }
}

/// The texts of all columns.
pub fn cell_texts(rows: &RecordBatch) -> Result<Vec<CellTexts>> {
    rows.columns().iter().map(column_texts).collect()
}

fn column_texts(column: &ArrayRef) -> Result<CellTexts> {
    let text = |text: &dyn Display| Some(text.to_string());
    macro_rules! numbers {
        ($type:ty) => {
            column.as_primitive::<$type>().iter().map(|value| value.and_then(|value| text(&value))).collect()
        };
    }
    Ok(CellTexts(match column.data_type() {
        DataType::Boolean => column.as_boolean().iter().map(|value| value.and_then(|value| text(&value))).collect(),
        DataType::Int16 => numbers!(Int16Type),
        DataType::Int32 => numbers!(Int32Type),
        DataType::Int64 => numbers!(Int64Type),
        DataType::Float32 => numbers!(Float32Type),
        DataType::Float64 => numbers!(Float64Type),
        DataType::Decimal128(..) => {
            let column = column.as_primitive::<Decimal128Type>();
            (0..column.len()).map(|at| column.is_valid(at).then(|| column.value_as_string(at))).collect()
        }
        DataType::Date32 => column.as_primitive::<Date32Type>().iter().map(|days| days.map(date)).collect(),
        DataType::Timestamp(_, zone) => {
            let offset = if zone.is_some() { "+00" } else { "" };
            let column = column.as_primitive::<TimestampMicrosecondType>();
            column.iter().map(|micros| micros.map(|micros| instant(micros, offset))).collect()
        }
        DataType::Binary => column.as_binary::<i32>().iter().map(|bytes| bytes.map(hex)).collect(),
        DataType::Utf8 => column.as_string::<i32>().iter().map(|value| value.map(str::to_owned)).collect(),
        other => return Err(Error::bug(format!("write a value of the type {other}"))),
    }))
}

fn date(days: i32) -> String {
    match days {
        i32::MIN => "-infinity".to_owned(),
        i32::MAX => "infinity".to_owned(),
        days => (NaiveDate::default() + TimeDelta::days(days.into())).format("%Y-%m-%d").to_string(),
    }
}

fn instant(micros: i64, offset: &str) -> String {
    match DateTime::from_timestamp_micros(micros) {
        _ if micros == i64::MIN => "-infinity".to_owned(),
        Some(at) if micros != i64::MAX => format!("{}{offset}", at.format("%Y-%m-%d %H:%M:%S%.6f")),
        _ => "infinity".to_owned(),
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 + bytes.len() * 2);
    text.push_str("\\x");
    for byte in bytes {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, BinaryArray, Date32Array, Decimal128Array, Float64Array, TimestampMicrosecondArray};

    use super::column_texts;

    #[test]
    fn values_are_written_as_postgresql_reads_them() {
        let decimals = Decimal128Array::from(vec![-5, 120]).with_precision_and_scale(10, 2).unwrap();
        let times = TimestampMicrosecondArray::from(vec![-1, i64::MAX]);
        let columns: [(ArrayRef, [&str; 2]); 6] = [
            (Arc::new(Float64Array::from(vec![f64::NAN, f64::NEG_INFINITY])), ["NaN", "-inf"]),
            (Arc::new(decimals), ["-0.05", "1.20"]),
            (Arc::new(Date32Array::from(vec![i32::MIN, 2_932_896])), ["-infinity", "9999-12-31"]),
            (Arc::new(times.clone()), ["1969-12-31 23:59:59.999999", "infinity"]),
            (Arc::new(times.with_timezone("UTC")), ["1969-12-31 23:59:59.999999+00", "infinity"]),
            (Arc::new(BinaryArray::from(vec![&b"\x00\xff"[..], b""])), ["\\x00ff", "\\x"]),
        ];
        for (column, expected) in columns {
            let texts = column_texts(&column).unwrap();
            assert_eq!([0, 1].map(|row| texts.get(row).unwrap()), expected);
        }
    }
}
