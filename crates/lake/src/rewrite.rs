//! Rewrites a table's rows in another schema, a batch at a time, for one commit. The rows are kept, rather
//! than read again, because the source may have purged them.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::{CastOptions, cast_with_options, take};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use futures::StreamExt;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::error::{Context, Error, Kind, Result};
use crate::table::Table;
use crate::writer::{DataFile, FileWriter};

/// Whether every value of the first type can be converted to the second without loss.
pub fn widens(from: &DataType, to: &DataType) -> bool {
    use DataType::{Decimal128, Float32, Float64, Int16, Int32, Int64};
    match (from, to) {
        (Int16, Int32 | Int64) | (Int32, Int64) | (Float32, Float64) => true,
        (Int16 | Int32, Float64) => true,
        (Decimal128(p1, s1), Decimal128(p2, s2)) => s2 >= s1 && p2.cast_signed() - s2 >= p1.cast_signed() - s1,
        (Int16, Decimal128(p, s)) => p.cast_signed() - s >= 5,
        (Int32, Decimal128(p, s)) => p.cast_signed() - s >= 10,
        (Int64, Decimal128(p, s)) => p.cast_signed() - s >= 19,
        // As a text, an integer or a decimal keeps all digits.
        (Int16 | Int32 | Int64 | Decimal128(..), DataType::Utf8) => true,
        _ => from == to,
    }
}

impl Table {
    /// Writes all visible rows again in another schema; the caller commits the files. New columns get their values from
    /// the one row of `defaults`, or NULL.
    pub async fn rewrite(&self, run: &str, schema: SchemaRef, defaults: Option<&RecordBatch>) -> Result<Vec<DataFile>> {
        let change = |batch| conform(&with_defaults(batch, defaults)?, &schema);
        self.rewrite_by(run, Arc::clone(&schema), change).await
    }

    /// Writes all visible rows again with NULL in these columns; the caller commits the files.
    pub async fn clear_columns(&self, run: &str, columns: &[String]) -> Result<Vec<DataFile>> {
        let schema = self.schema()?;
        let change = |batch: RecordBatch| {
            let kept: Vec<usize> =
                (0..batch.num_columns()).filter(|at| !columns.contains(batch.schema_ref().field(*at).name())).collect();
            conform(&batch.project(&kept).context("clear columns")?, &schema)
        };
        self.rewrite_by(run, Arc::clone(&schema), change).await
    }

    async fn rewrite_by(
        &self,
        run: &str,
        schema: SchemaRef,
        change: impl Fn(RecordBatch) -> Result<RecordBatch>,
    ) -> Result<Vec<DataFile>> {
        let context = || format!("rewrite {}", self.name);
        let mut batches = self.read().await?;
        let (sender, receiver) = mpsc::channel(2);
        let writer = self.writer(run, schema, Handle::current());
        let writing = tokio::task::spawn_blocking(move || write_all(writer, receiver));
        while let Some(batch) = batches.next().await {
            if sender.send(change(batch?)?).await.is_err() {
                break;
            }
        }
        drop(sender);
        writing.await.map_err(|e| Error::new(Kind::Bug, context()).because(e))?
    }
}

fn with_defaults(batch: RecordBatch, defaults: Option<&RecordBatch>) -> Result<RecordBatch> {
    let Some(defaults) = defaults else { return Ok(batch) };
    let context = "fill in the values of new columns";
    let (mut fields, mut columns) = (batch.schema().fields().to_vec(), batch.columns().to_vec());
    let first = UInt32Array::from(vec![0; batch.num_rows()]);
    for (field, value) in defaults.schema().fields().iter().zip(defaults.columns()) {
        if batch.column_by_name(field.name()).is_none() {
            fields.push(Arc::clone(field));
            columns.push(take(value, &first, None).context(context)?);
        }
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).context(context)
}

/// Writes all batches that are received; it blocks.
pub(crate) fn write_all(mut writer: FileWriter, mut batches: mpsc::Receiver<RecordBatch>) -> Result<Vec<DataFile>> {
    while let Some(batch) = batches.blocking_recv() {
        writer.write(&batch)?;
    }
    writer.finish()
}

/// Converts a batch to another schema: columns are matched by name, missing ones are NULL, types are cast.
///
/// # Errors
/// `Bug` where a value can't be converted without loss.
pub fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let columns = schema
        .fields()
        .iter()
        .map(|field| match batch.column_by_name(field.name()) {
            None => Ok(new_null_array(field.data_type(), batch.num_rows())),
            Some(column) if column.data_type() == field.data_type() => Ok(Arc::clone(column)),
            Some(column) => cast_with_options(column, field.data_type(), &strict).context(format!(
                "convert column {:?} to {}",
                field.name(),
                field.data_type()
            )),
        })
        .collect::<Result<Vec<ArrayRef>>>()?;
    RecordBatch::try_new(Arc::clone(schema), columns).context("convert a batch to another schema")
}
