//! The result of a query in the form that an event has: column by column, which keeps a month of
//! quarter hours small. A whole number is a JSON number where every language holds it exactly, else
//! a text; decimals are texts, and so are instants, in ISO 8601 and UTC.
//!
//! A month of many plants has millions of values. They stay in Arrow's arrays, and become texts one at a time.

use std::fmt::Write as _;
use std::io::{self, Write};

use anyhow::{Context, Result};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, PrimitiveArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use serde_json::{Map, Value, json};

/// The greatest whole number up to which doubles are exact; many languages have no other numbers.
const WHOLE_MAX: u64 = 1 << 53;

/// The result of a query, by column.
pub struct Columns {
    names: Vec<String>,
    /// The columns of each batch: of booleans, 64-bit integers, doubles, or of what is written as a text.
    batches: Vec<Vec<ArrayRef>>,
    rows: usize,
}

impl Columns {
    /// Converts the batches of one result; all have the first one's schema.
    pub fn of(batches: &[RecordBatch]) -> Result<Columns> {
        let names = match batches.first() {
            Some(first) => first.schema().fields().iter().map(|field| field.name().clone()).collect(),
            None => Vec::new(),
        };
        let converted = |batch: &RecordBatch| batch.columns().iter().map(canonical).collect::<Result<_>>();
        Ok(Columns {
            names,
            batches: batches.iter().map(converted).collect::<Result<_>>()?,
            rows: batches.iter().map(RecordBatch::num_rows).sum(),
        })
    }

    /// The names of the columns.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// How many rows the result has.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// All rows as values by column name: for results that are small.
    pub fn objects(&self) -> Result<Vec<Map<String, Value>>> {
        let mut objects = Vec::with_capacity(self.rows);
        self.each_row(|row| {
            let values = self.names.iter().enumerate().map(|(at, name)| (name.clone(), row.value(at)));
            objects.push(values.collect());
        })?;
        Ok(objects)
    }

    /// Passes the rows on, one after another.
    pub fn each_row(&self, mut pass: impl FnMut(&Row<'_>)) -> Result<()> {
        for batch in &self.batches {
            let columns: Vec<ColumnText<'_>> = batch.iter().map(ColumnText::of).collect::<Result<_>>()?;
            for row in 0..batch.first().map_or(0, |column| column.len()) {
                pass(&Row { columns: &columns, row });
            }
        }
        Ok(())
    }

    /// Writes `{"columns": {NAME: [VALUE, ...]}}`.
    pub fn write_json(&self, out: &mut impl Write) -> Result<()> {
        out.write_all(b"{\"columns\":{")?;
        let mut text = String::new();
        for (at, name) in self.names.iter().enumerate() {
            out.write_all(if at == 0 { b"" } else { b"," })?;
            serde_json::to_writer(&mut *out, name)?;
            out.write_all(b":[")?;
            let mut is_first = true;
            for batch in &self.batches {
                let column = ColumnText::of(&batch[at])?;
                for row in 0..batch[at].len() {
                    out.write_all(if is_first { b"" } else { b"," })?;
                    is_first = false;
                    text.clear();
                    column.json(row, &mut text);
                    out.write_all(text.as_bytes())?;
                }
            }
            out.write_all(b"]")?;
        }
        Ok(out.write_all(b"}}")?)
    }

    /// Writes the result as CSV by RFC 4180, with a header line. An empty field is NULL, `""` the empty text.
    pub fn write_csv(&self, out: &mut impl Write) -> Result<()> {
        let header = self.names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(",");
        writeln!(out, "{header}")?;
        let mut line = String::new();
        let mut written: io::Result<()> = Ok(());
        self.each_row(|row| {
            line.clear();
            for at in 0..self.names.len() {
                if at > 0 {
                    line.push(',');
                }
                row.columns[at].csv(row.row, &mut line);
            }
            line.push('\n');
            if written.is_ok() {
                written = out.write_all(line.as_bytes());
            }
        })?;
        Ok(written?)
    }
}

/// A row of a result.
pub struct Row<'a> {
    columns: &'a [ColumnText<'a>],
    row: usize,
}

impl Row<'_> {
    /// A value by the index of its column.
    pub fn value(&self, column: usize) -> Value {
        let mut text = String::new();
        self.json(column, &mut text);
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Appends a value as JSON.
    pub fn json(&self, column: usize, text: &mut String) {
        self.columns[column].json(self.row, text);
    }
}

/// The values of a column of one batch, as texts.
enum ColumnText<'a> {
    Boolean(&'a BooleanArray),
    Whole(&'a PrimitiveArray<Int64Type>),
    Double(&'a PrimitiveArray<Float64Type>),
    Text(&'a ArrayRef, ArrayFormatter<'a>),
}

impl<'a> ColumnText<'a> {
    fn of(column: &'a ArrayRef) -> Result<ColumnText<'a>> {
        const OPTIONS: FormatOptions<'static> = FormatOptions::new()
            .with_timestamp_tz_format(Some("%Y-%m-%dT%H:%M:%S%.fZ"))
            .with_timestamp_format(Some("%Y-%m-%dT%H:%M:%S%.f"));
        Ok(match column.data_type() {
            DataType::Boolean => ColumnText::Boolean(column.as_boolean()),
            DataType::Int64 => ColumnText::Whole(column.as_primitive()),
            DataType::Float64 => ColumnText::Double(column.as_primitive()),
            _ => {
                let formatter = ArrayFormatter::try_new(column.as_ref(), &OPTIONS);
                ColumnText::Text(column, formatter.context("format the values of a column")?)
            }
        })
    }

    /// Appends the value as JSON.
    fn json(&self, row: usize, text: &mut String) {
        match self {
            ColumnText::Boolean(values) if values.is_valid(row) => push(text, values.value(row)),
            ColumnText::Whole(values) if values.is_valid(row) => match values.value(row) {
                value if value.unsigned_abs() <= WHOLE_MAX => push(text, value),
                value => push(text, format_args!("\"{value}\"")),
            },
            // JSON has no NaN and no infinities: they become null.
            ColumnText::Double(values) if values.is_valid(row) => push(text, json!(values.value(row))),
            ColumnText::Text(values, formatter) if values.is_valid(row) => match string(values, row) {
                Some(value) => push(text, json!(value)),
                None => push(text, json!(formatter.value(row).to_string())),
            },
            _ => text.push_str("null"),
        }
    }

    /// Appends the value as a field of CSV.
    fn csv(&self, row: usize, text: &mut String) {
        match self {
            ColumnText::Text(values, _) if values.is_null(row) => {}
            ColumnText::Text(values, formatter) => match string(values, row) {
                Some("") => text.push_str("\"\""),
                Some(value) => text.push_str(&quoted(value)),
                None => text.push_str(&quoted(&formatter.value(row).to_string())),
            },
            other => {
                let start = text.len();
                other.json(row, text);
                let is_text = text[start..].starts_with('"');
                match &text[start..] {
                    "null" => text.truncate(start),
                    _ if is_text => {
                        text.pop();
                        text.remove(start);
                    }
                    _ => {}
                }
            }
        }
    }
}

/// A text of an array of texts, without a detour by a formatter.
fn string(values: &ArrayRef, row: usize) -> Option<&str> {
    match values.data_type() {
        DataType::Utf8 => Some(values.as_string::<i32>().value(row)),
        DataType::Utf8View => Some(values.as_string_view().value(row)),
        _ => None,
    }
}

fn push(text: &mut String, value: impl std::fmt::Display) {
    // Writing to a text does not fail.
    let _ = write!(text, "{value}");
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

/// The array in one of the types that [`ColumnText`] distinguishes.
fn canonical(column: &ArrayRef) -> Result<ArrayRef> {
    let kind = match column.data_type() {
        kind if kind.is_integer() => DataType::Int64,
        kind if kind.is_floating() => DataType::Float64,
        DataType::Timestamp(unit, Some(_)) => DataType::Timestamp(*unit, Some("UTC".into())),
        DataType::Dictionary(_, values) => values.as_ref().clone(),
        _ => return Ok(ArrayRef::clone(column)),
    };
    cast(column, &kind).with_context(|| format!("convert a column to {kind}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
        TimestampMicrosecondArray,
    };

    use super::Columns;

    #[test]
    fn values_are_written_as_json_and_as_csv() {
        let columns: [(&str, ArrayRef); 7] = [
            ("flag", Arc::new(BooleanArray::from(vec![Some(true), None]))),
            ("small", Arc::new(Int32Array::from(vec![Some(-7), None]))),
            ("large", Arc::new(Int64Array::from(vec![(1 << 53) + 1, 1 << 53]))),
            ("double", Arc::new(Float64Array::from(vec![0.1, f64::NAN]))),
            ("price", Arc::new(Decimal128Array::from(vec![411_700, -5]).with_precision_and_scale(18, 4).unwrap())),
            ("text", Arc::new(StringArray::from(vec!["a,\"b\"", ""]))),
            ("at", Arc::new(TimestampMicrosecondArray::from(vec![0, 500_000]).with_timezone("+02:00"))),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        // A result may come in several batches.
        let columns = Columns::of(&[batch.slice(0, 1), batch.slice(1, 1)]).unwrap();
        let (mut json, mut csv) = (Vec::new(), Vec::new());
        columns.write_json(&mut json).unwrap();
        columns.write_csv(&mut csv).unwrap();
        assert_eq!(
            String::from_utf8(json).unwrap(),
            "{\"columns\":{\"flag\":[true,null],\"small\":[-7,null],\
             \"large\":[\"9007199254740993\",9007199254740992],\"double\":[0.1,null],\
             \"price\":[\"41.1700\",\"-0.0005\"],\"text\":[\"a,\\\"b\\\"\",\"\"],\
             \"at\":[\"1970-01-01T00:00:00Z\",\"1970-01-01T00:00:00.500Z\"]}}"
        );
        assert_eq!(
            String::from_utf8(csv).unwrap(),
            "flag,small,large,double,price,text,at\n\
             true,-7,9007199254740993,0.1,41.1700,\"a,\"\"b\"\"\",1970-01-01T00:00:00Z\n\
             ,,9007199254740992,,-0.0005,\"\",1970-01-01T00:00:00.500Z\n"
        );
        assert_eq!(columns.objects().unwrap()[1]["price"], "-0.0005");
        let none = Columns::of(&[]).unwrap();
        let mut json = Vec::new();
        none.write_json(&mut json).unwrap();
        assert_eq!((json.as_slice(), none.rows()), (&b"{\"columns\":{}}"[..], 0));
    }
}
