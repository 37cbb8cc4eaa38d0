//! The columns of a system table: each is declared once, with its documentation, for SQL, JSON and the reference.

use std::sync::Arc;

use anyhow::Result;
use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array,
};
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};

/// A column over rows of the type `T`.
pub struct Column<T> {
    /// Its name, in SQL and as a JSON key.
    pub name: &'static str,
    /// What a value means, in one sentence.
    pub documentation: &'static str,
    pub value: ColumnValue<T>,
}

/// How a column's value is taken from a row; this decides its type. `None` is NULL.
pub enum ColumnValue<T> {
    Text(fn(&T) -> Option<String>),
    /// JSON: a text in SQL, and the value itself in JSON.
    Json(fn(&T) -> Value),
    Instant(fn(&T) -> Option<DateTime<Utc>>),
    Integer(fn(&T) -> Option<i64>),
    /// An integer that is never negative.
    Count(fn(&T) -> Option<u64>),
    Number(fn(&T) -> Option<f64>),
    Boolean(fn(&T) -> Option<bool>),
}

impl<T> Column<T> {
    /// The column's type, as the reference names it.
    pub fn type_name(&self) -> &'static str {
        match self.value {
            ColumnValue::Text(_) => "text",
            ColumnValue::Json(_) => "text (JSON)",
            ColumnValue::Instant(_) => "timestamptz",
            ColumnValue::Integer(_) | ColumnValue::Count(_) => "bigint",
            ColumnValue::Number(_) => "double precision",
            ColumnValue::Boolean(_) => "boolean",
        }
    }

    fn array(&self, rows: &[T]) -> ArrayRef {
        match self.value {
            ColumnValue::Text(of) => Arc::new(rows.iter().map(of).collect::<StringArray>()),
            ColumnValue::Json(of) => {
                Arc::new(rows.iter().map(|row| Some(of(row).to_string())).collect::<StringArray>())
            }
            ColumnValue::Instant(of) => {
                let micros = rows.iter().map(|row| of(row).map(|at| at.timestamp_micros()));
                Arc::new(micros.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
            }
            ColumnValue::Integer(of) => Arc::new(rows.iter().map(of).collect::<Int64Array>()),
            ColumnValue::Count(of) => Arc::new(rows.iter().map(of).collect::<UInt64Array>()),
            ColumnValue::Number(of) => Arc::new(rows.iter().map(of).collect::<Float64Array>()),
            ColumnValue::Boolean(of) => Arc::new(rows.iter().map(of).collect::<BooleanArray>()),
        }
    }

    fn json(&self, row: &T) -> Value {
        match self.value {
            ColumnValue::Text(of) => json!(of(row)),
            ColumnValue::Json(of) => of(row),
            ColumnValue::Instant(of) => json!(of(row).map(|at| at.to_rfc3339_opts(SecondsFormat::Micros, true))),
            ColumnValue::Integer(of) => json!(of(row)),
            ColumnValue::Count(of) => json!(of(row)),
            ColumnValue::Number(of) => json!(of(row)),
            ColumnValue::Boolean(of) => json!(of(row)),
        }
    }
}

/// The rows as a batch.
pub fn batch<T>(columns: &[Column<T>], rows: &[T]) -> Result<RecordBatch> {
    let arrays = columns.iter().map(|column| (column.name, column.array(rows), true));
    Ok(RecordBatch::try_from_iter_with_nullable(arrays)?)
}

/// A row as a JSON object.
pub fn object<T>(columns: &[Column<T>], row: &T) -> Value {
    Value::Object(columns.iter().map(|column| (column.name.to_owned(), column.json(row))).collect::<Map<_, _>>())
}
