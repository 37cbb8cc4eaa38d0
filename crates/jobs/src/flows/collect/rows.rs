//! The rows of a window's answers, in the form in which they are compared with those of the table.

use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use arrow::row::{RowConverter, Rows as EncodedRows, SortField};
use chrono::{DateTime, Utc};
use config::Collect;

/// The columns that a collect adds to those of its layout.
pub const KNOWN_AT: &str = "known_at";
pub const ITEM: &str = "item";
const ANSWER_SHA256: &str = "answer_sha256";
const ANSWER_ROW: &str = "answer_row";
const RECORDED_AT: &str = "recorded_at";

/// Which columns of the layout identify a value, and which are the value.
pub struct Columns {
    /// The layout's columns, without one that is named as the collect's own.
    pub schema: SchemaRef,
    /// The names of all of them.
    pub names: Vec<String>,
    pub time: String,
    pub key: Vec<String>,
    /// The key without the time.
    pub series: Vec<String>,
    /// All columns but the key and the partner's instant.
    pub values: Vec<String>,
}

impl Columns {
    pub fn of(collect: &Collect) -> Columns {
        let layout = &collect.layout;
        let schema = layout.schema();
        let fields: Vec<_> = schema.fields().iter().filter(|field| field.name() != KNOWN_AT).cloned().collect();
        let key: Vec<String> = layout.key.iter().map(|at| layout.columns[*at].name.clone()).collect();
        let names: Vec<String> = fields.iter().map(|field| field.name().clone()).collect();
        let is_value = |name: &&String| !key.contains(name) && Some(*name) != collect.known_at.as_ref();
        Columns {
            schema: Arc::new(Schema::new(fields)),
            values: names.iter().filter(is_value).cloned().collect(),
            series: key.iter().filter(|name| **name != collect.time).cloned().collect(),
            time: collect.time.clone(),
            key,
            names,
        }
    }

    /// The values of the key, encoded so that they can be compared.
    pub fn keys(&self, batch: &RecordBatch) -> Result<EncodedRows> {
        encoded(batch, &self.key)
    }

    /// The values of the key without the time, encoded.
    pub fn series_of(&self, batch: &RecordBatch) -> Result<EncodedRows> {
        encoded(batch, &self.series)
    }

    /// The values of the other columns, encoded.
    pub fn values_of(&self, batch: &RecordBatch) -> Result<EncodedRows> {
        encoded(batch, &self.values)
    }

    /// The times of rows, in microseconds since 1970, UTC.
    pub fn times(&self, batch: &RecordBatch) -> Result<TimestampMicrosecondArray> {
        instants(batch, &self.time)
    }
}

/// The columns of a batch as rows that can be compared; without columns all rows are equal.
fn encoded(batch: &RecordBatch, names: &[String]) -> Result<EncodedRows> {
    let columns: Vec<ArrayRef> = names
        .iter()
        .map(|name| batch.column_by_name(name).cloned().with_context(|| format!("the rows have no column {name:?}")))
        .collect::<Result<_>>()?;
    if columns.is_empty() {
        let none: ArrayRef = Arc::new(Int64Array::from_value(0, batch.num_rows()));
        return Ok(RowConverter::new(vec![SortField::new(none.data_type().clone())])?.convert_columns(&[none])?);
    }
    let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    Ok(RowConverter::new(fields)?.convert_columns(&columns)?)
}

/// The type of instants.
pub fn instant_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// A column of instants.
pub fn instants(batch: &RecordBatch, name: &str) -> Result<TimestampMicrosecondArray> {
    let column = batch.column_by_name(name).with_context(|| format!("the rows have no column {name:?}"))?;
    let column = column.as_primitive_opt::<TimestampMicrosecondType>();
    Ok(column.with_context(|| format!("the column {name:?} has no instants"))?.clone())
}

/// The rows of the answers to one window.
#[derive(Default)]
pub struct WindowRows {
    batches: Vec<RecordBatch>,
    hashes: Vec<String>,
    rows: Vec<Option<u64>>,
    received: Vec<i64>,
}

impl WindowRows {
    /// Adds the rows of an answer.
    pub fn add(&mut self, read: ingest::read::Rows, sha256: &str, received_at: DateTime<Utc>) {
        let count = read.batch.num_rows();
        self.hashes.extend(std::iter::repeat_n(sha256.to_owned(), count));
        self.rows.extend(read.lines.iter());
        self.received.extend(std::iter::repeat_n(received_at.timestamp_micros(), count));
        self.batches.push(read.batch);
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.received.len()
    }

    /// All rows in one batch, in the layout's columns.
    pub fn whole(&self, schema: &SchemaRef) -> Result<RecordBatch> {
        concat_batches(schema, &self.batches).context("put the rows of answers together")
    }

    /// When the row's answer arrived, in microseconds.
    pub fn received(&self, row: usize) -> i64 {
        self.received[row]
    }

    /// The rows of the table: the layout's columns, the parts of the item, and the collect's own columns. `known_at`
    /// has the instants of all rows.
    pub fn complete(
        &self,
        columns: &Columns,
        whole: &RecordBatch,
        item: &std::collections::BTreeMap<String, String>,
        known_at: Vec<i64>,
        recorded_at: DateTime<Utc>,
    ) -> Result<RecordBatch> {
        let count = whole.num_rows();
        let same =
            |text: &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, count))) };
        let instants =
            |micros: Vec<i64>| -> ArrayRef { Arc::new(TimestampMicrosecondArray::from(micros).with_timezone("UTC")) };
        let parts = item.iter().filter(|(part, _)| !columns.names.contains(part));
        let mut all: Vec<(String, ArrayRef)> = parts.map(|(part, value)| (part.clone(), same(value))).collect();
        for name in &columns.names {
            let column = whole.column_by_name(name).with_context(|| format!("the rows have no column {name:?}"))?;
            all.push((name.clone(), Arc::clone(column)));
        }
        let rows: Int64Array = self.rows.iter().map(|row| row.map(u64::cast_signed)).collect();
        all.push((KNOWN_AT.to_owned(), instants(known_at)));
        all.push((ITEM.to_owned(), same(&Collect::item_name(item))));
        all.push((ANSWER_SHA256.to_owned(), Arc::new(self.hashes.iter().map(Some).collect::<StringArray>())));
        all.push((ANSWER_ROW.to_owned(), Arc::new(rows)));
        all.push((RECORDED_AT.to_owned(), instants(vec![recorded_at.timestamp_micros(); count])));
        let all = all.into_iter().map(|(name, column)| (name, column, true));
        RecordBatch::try_from_iter_with_nullable(all).context("add the columns of a collect")
    }
}
