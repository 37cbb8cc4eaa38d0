//! Rows that the source has deleted and the lake keeps, with the time of the delete in a column of their own.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::{filter_record_batch, is_null};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use futures::TryStreamExt;
use lake::{DataFile, FileWriter, HiddenRows, Table};
use tokio::runtime::Handle;

use crate::error::{Context, Error, Result};

/// The column; NULL in rows that the source has.
pub const DELETED_AT: &str = "_deleted_at";

const CONTEXT: &str = "mark deleted rows";

/// The schema with the column.
pub fn with_deleted_at(schema: &SchemaRef) -> SchemaRef {
    if schema.field_with_name(DELETED_AT).is_ok() {
        return Arc::clone(schema);
    }
    let field = Field::new(DELETED_AT, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true);
    Arc::new(Schema::new(schema.fields().iter().cloned().chain([Arc::new(field)]).collect::<Vec<_>>()))
}

/// The schema without the column.
pub fn without_deleted_at(schema: &SchemaRef) -> SchemaRef {
    let kept = schema.fields().iter().filter(|field| field.name() != DELETED_AT);
    Arc::new(Schema::new(kept.cloned().collect::<Vec<_>>()))
}

/// Rows, by a schema that has the column, as deleted at these times, in microseconds since 1970.
pub fn marked(rows: &RecordBatch, at_micros: &[Option<i64>]) -> Result<RecordBatch> {
    let at = rows.schema_ref().index_of(DELETED_AT).context(CONTEXT)?;
    let times = TimestampMicrosecondArray::from(at_micros.to_vec()).with_timezone("UTC");
    let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
    columns[at] = Arc::new(times);
    RecordBatch::try_new(rows.schema(), columns).context(CONTEXT)
}

/// The rows that the source has, where rows may be marked.
pub fn present_rows(rows: RecordBatch) -> Result<RecordBatch> {
    match rows.column_by_name(DELETED_AT) {
        Some(column) if column.null_count() < column.len() => {
            filter_record_batch(&rows, &is_null(column).context(CONTEXT)?).context(CONTEXT)
        }
        _ => Ok(rows),
    }
}

/// Marks all rows that are not marked yet as deleted at a time: those of the table and of `files` without `hidden`. They
/// are hidden, and written with the time by `writer`, whose schema has the column. Returns their number. It blocks, so it
/// must run on a thread that does not belong to an asynchronous runtime.
pub fn mark_all(
    table: &Table,
    files: &[DataFile],
    hidden: &mut HiddenRows,
    at_micros: i64,
    (writer, schema): (&mut FileWriter, &SchemaRef),
    runtime: &Handle,
) -> Result<u64> {
    let mut count = 0;
    let mut batches = runtime.block_on(table.read_positioned(files, hidden)).context(CONTEXT)?;
    while let Some(part) = runtime.block_on(batches.try_next()).context(CONTEXT)? {
        let is_present: BooleanArray = match part.rows.column_by_name(DELETED_AT) {
            Some(column) => is_null(column).context(CONTEXT)?,
            None => vec![true; part.rows.num_rows()].into(),
        };
        let positions = part.positions.iter().zip(is_present.values());
        for (position, _) in positions.filter(|(_, is_present)| *is_present) {
            hidden.insert(&part.path, *position);
        }
        let rows = filter_record_batch(&part.rows, &is_present).context(CONTEXT)?;
        let rows = lake::conform(&rows, schema).context(CONTEXT)?;
        writer.write(&marked(&rows, &vec![Some(at_micros); rows.num_rows()])?).context(CONTEXT)?;
        count += rows.num_rows() as u64;
    }
    Ok(count)
}

/// The error for a table that can't have such rows.
///
/// # Errors
/// Where it has no key, or a column of this name.
pub fn check_markable(table: &str, key: &[String], mut columns: impl Iterator<Item = String>) -> Result<()> {
    if columns.any(|column| column.eq_ignore_ascii_case(DELETED_AT)) {
        let what = format!("mark deleted rows of {table}: it has a column {DELETED_AT:?} of its own");
        return Err(Error::setup(what).hint("rename the column with a table mapping, or set deletes = \"keep\""));
    }
    if key.is_empty() {
        let what = format!("mark deleted rows of {table}: it has no key by which its rows could be matched");
        return Err(Error::setup(what).hint(format!("[tables.{table:?}] key = [...], or deletes = \"keep\"")));
    }
    Ok(())
}
