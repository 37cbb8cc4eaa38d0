//! The table of entries: its columns, and how the entries of a document are read.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::compute::kernels::numeric::neg;
use arrow::compute::{cast, concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};

use super::roles::ColumnRoles;
use crate::error::ErrorContext;
use crate::{Error, Kind, Result};

// The columns that every entry has after those of its document.
const DOCUMENT: &str = "document";
const VERSION: &str = "version";
/// The entry's number in its document, from 1, over all versions.
const ENTRY: &str = "entry";
/// The number of the entry that this one reverses.
const REVERSES: &str = "reverses";
const INPUTS: &str = "inputs_sha256";
const CODE: &str = "code_sha256";
const RECORDED_AT: &str = "recorded_at";

/// The schema of the table of entries for such rows.
///
/// # Errors
/// `FixInput` where a column has the name of one that every entry has.
pub fn entries_schema(rows: &Schema) -> Result<SchemaRef> {
    let added = [
        Field::new(DOCUMENT, DataType::Utf8, false),
        Field::new(VERSION, DataType::Int64, false),
        Field::new(ENTRY, DataType::Int64, false),
        Field::new(REVERSES, DataType::Int64, true),
        Field::new(INPUTS, DataType::Utf8, false),
        Field::new(CODE, DataType::Utf8, false),
        Field::new(RECORDED_AT, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
    ];
    if let Some(taken) = added.iter().find(|field| rows.field_with_name(field.name()).is_ok()) {
        let what =
            format!("load the rows: the column {:?} has the name of a column of all entries; rename it", taken.name());
        return Err(Error::new(Kind::FixInput, what));
    }
    let fields = rows.fields().iter().map(|field| field.as_ref().clone()).chain(added);
    Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
}

/// The batches as one batch of exactly these columns. Texts may have another Arrow type in the table than in the rows;
/// any other difference of types means that it is another table.
pub(super) fn conform(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<RecordBatch> {
    let one = |batch: &RecordBatch| {
        let columns: Vec<ArrayRef> = schema
            .fields()
            .iter()
            .map(|field| {
                let context = || format!("load the rows: the table's column {:?}", field.name());
                let column = batch.column_by_name(field.name());
                let column =
                    column.ok_or_else(|| Error::new(Kind::FixInput, format!("{} does not exist", context())))?;
                let (found, expected) = (column.data_type(), field.data_type());
                if found == expected {
                    return Ok(Arc::clone(column));
                }
                if !is_same_value(found, expected) {
                    let what = format!("{} is {found}, and the rows have {expected}", context());
                    return Err(Error::new(Kind::FixInput, what));
                }
                cast(column, expected).during(Kind::FixInput, context())
            })
            .collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
            .during(Kind::FixInput, "load the rows: read the table's entries")
    };
    let batches: Vec<RecordBatch> = batches.iter().map(one).collect::<Result<_>>()?;
    concat_batches(schema, &batches).during(Kind::FixInput, "load the rows: put the table's entries together")
}

/// Whether two types differ only in how texts are stored, or in the name of UTC.
fn is_same_value(found: &DataType, expected: &DataType) -> bool {
    fn is_text(kind: &DataType) -> bool {
        match kind {
            DataType::Dictionary(_, values) => is_text(values),
            kind => kind.is_string(),
        }
    }
    match (found, expected) {
        (DataType::Timestamp(found, Some(_)), DataType::Timestamp(expected, Some(_))) => found == expected,
        _ => is_text(found) && is_text(expected),
    }
}

/// The batch with its amounts negated.
pub(super) fn negate(batch: &RecordBatch, roles: &ColumnRoles) -> Result<RecordBatch> {
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns()).map(|(field, column)| {
        if !roles.amounts.contains(field.name()) {
            return Ok(Arc::clone(column));
        }
        neg(column).during(Kind::FixInput, format!("load the rows: reverse the amount {:?}", field.name()))
    });
    let columns: Vec<ArrayRef> = columns.collect::<Result<_>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options).during(Kind::Bug, "reverse entries")
}

/// The entries that a table has of one document.
pub(super) struct Entries {
    batch: RecordBatch,
}

impl Entries {
    /// The entries of the document with this name among those of the batch.
    pub fn new(document: &str, batch: RecordBatch) -> Result<Entries> {
        let names = text(&batch, DOCUMENT);
        let is_ours: BooleanArray = (0..batch.num_rows()).map(|row| Some(names(row) == document)).collect();
        let batch = filter_record_batch(&batch, &is_ours).during(Kind::Bug, "choose a document's entries")?;
        Ok(Entries { batch })
    }

    /// All of them, as rows of the table.
    pub fn batch(&self) -> &RecordBatch {
        &self.batch
    }

    fn numbers(&self, name: &str) -> Option<&Int64Array> {
        self.batch.column_by_name(name)?.as_primitive_opt::<Int64Type>()
    }

    fn max(&self, name: &str) -> i64 {
        self.numbers(name).and_then(arrow::compute::max).unwrap_or(0)
    }

    /// The document's last version; 0 where it has none.
    pub fn version_max(&self) -> i64 {
        self.max(VERSION)
    }

    /// The number of the document's last entry; 0 where it has none.
    pub fn entry_max(&self) -> i64 {
        self.max(ENTRY)
    }

    /// The number of the entry in a row.
    pub fn entry(&self, row: usize) -> i64 {
        self.numbers(ENTRY).map(|entries| entries.value(row)).unwrap_or_default()
    }

    /// The last version that these inputs and code gave.
    pub fn version_of(&self, inputs: &str, code: &str) -> Option<i64> {
        let (its_inputs, its_code) = (text(&self.batch, INPUTS), text(&self.batch, CODE));
        let versions = self.numbers(VERSION)?;
        let of_them = (0..versions.len()).filter(|row| its_inputs(*row) == inputs && its_code(*row) == code);
        of_them.map(|row| versions.value(row)).max()
    }

    /// The rows of entries that are neither a reversal nor reversed.
    pub fn in_force(&self) -> Vec<usize> {
        let Some(reverses) = self.numbers(REVERSES) else { return Vec::new() };
        let reversed: HashSet<i64> = reverses.iter().flatten().collect();
        (0..reverses.len()).filter(|row| reverses.is_null(*row) && !reversed.contains(&self.entry(*row))).collect()
    }
}

fn text<'a>(batch: &'a RecordBatch, name: &str) -> impl Fn(usize) -> &'a str {
    let texts = batch.column_by_name(name).and_then(|array| array.as_string_opt::<i32>());
    move |row| texts.map(|texts| texts.value(row)).unwrap_or_default()
}
