//! The result of a query in the form that an event has: column by column, which keeps a month of
//! quarter hours small. A whole number is a JSON number where every language holds it exactly, else
//! a text; decimals are texts, and so are instants, in ISO 8601 and UTC.

use anyhow::{Context, Result};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use serde_json::{Map, Value, json};

/// The greatest whole number up to which doubles are exact; many languages have no other numbers.
const WHOLE_MAX: u64 = 1 << 53;

/// The result of a query as JSON values, by column.
pub struct Columns {
    names: Vec<String>,
    values: Vec<Vec<Value>>,
    rows: usize,
}

impl Columns {
    /// Converts the batches of one result; all have the first one's schema.
    pub fn of(batches: &[RecordBatch]) -> Result<Columns> {
        let Some(first) = batches.first() else {
            return Ok(Columns { names: Vec::new(), values: Vec::new(), rows: 0 });
        };
        let names: Vec<String> = first.schema().fields().iter().map(|field| field.name().clone()).collect();
        let mut values = vec![Vec::new(); names.len()];
        for batch in batches {
            for (column, into) in batch.columns().iter().zip(&mut values) {
                append(column, into)?;
            }
        }
        Ok(Columns { names, values, rows: batches.iter().map(RecordBatch::num_rows).sum() })
    }

    /// The names of the columns.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// A value, by the indexes of its column and its row.
    pub fn value(&self, column: usize, row: usize) -> &Value {
        &self.values[column][row]
    }

    /// How many rows the result has.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// One row, counted from 0, as values by column name.
    pub fn row(&self, row: usize) -> Map<String, Value> {
        self.names.iter().zip(&self.values).map(|(name, values)| (name.clone(), values[row].clone())).collect()
    }

    /// `{"columns": {NAME: [VALUE, ...]}}`.
    pub fn json(&self) -> Value {
        let columns: Map<String, Value> =
            self.names.iter().zip(&self.values).map(|(name, values)| (name.clone(), json!(values))).collect();
        json!({"columns": columns})
    }

    /// The result as CSV by RFC 4180, with a header line. An empty field is NULL, `""` the empty text.
    pub fn csv(&self) -> String {
        let mut text = self.names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(",");
        text.push('\n');
        for row in 0..self.rows {
            let fields = self.values.iter().map(|column| match &column[row] {
                Value::Null => String::new(),
                Value::String(text) if text.is_empty() => "\"\"".to_owned(),
                Value::String(text) => quoted(text),
                other => other.to_string(),
            });
            text.push_str(&fields.collect::<Vec<_>>().join(","));
            text.push('\n');
        }
        text
    }
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

fn append(column: &dyn Array, into: &mut Vec<Value>) -> Result<()> {
    let rows = 0..column.len();
    match column.data_type() {
        DataType::Boolean => {
            let values = column.as_boolean();
            into.extend(rows.map(|row| if values.is_valid(row) { json!(values.value(row)) } else { Value::Null }));
        }
        kind if kind.is_integer() => {
            let wide = cast(column, &DataType::Int64).context("convert whole numbers to 64 bits")?;
            let values = wide.as_primitive::<Int64Type>();
            into.extend(rows.map(|row| match values.value(row) {
                _ if values.is_null(row) => Value::Null,
                value if value.unsigned_abs() <= WHOLE_MAX => json!(value),
                value => json!(value.to_string()),
            }));
        }
        kind if kind.is_floating() => {
            let wide = cast(column, &DataType::Float64).context("convert numbers to doubles")?;
            let values = wide.as_primitive::<Float64Type>();
            // JSON has no NaN and no infinities: json! makes null of them.
            into.extend(rows.map(|row| if values.is_valid(row) { json!(values.value(row)) } else { Value::Null }));
        }
        _ => {
            let options = FormatOptions::default()
                .with_timestamp_tz_format(Some("%Y-%m-%dT%H:%M:%S%.fZ"))
                .with_timestamp_format(Some("%Y-%m-%dT%H:%M:%S%.f"));
            let utc = in_utc(column)?;
            let formatter = ArrayFormatter::try_new(utc.as_ref(), &options).context("format the values of a column")?;
            into.extend(
                rows.map(|row| if utc.is_valid(row) { json!(formatter.value(row).to_string()) } else { Value::Null }),
            );
        }
    }
    Ok(())
}

fn in_utc(column: &dyn Array) -> Result<arrow::array::ArrayRef> {
    let kind = match column.data_type() {
        DataType::Timestamp(unit, Some(_)) => DataType::Timestamp(*unit, Some("UTC".into())),
        other => other.clone(),
    };
    cast(column, &kind).context("convert instants to UTC")
}
