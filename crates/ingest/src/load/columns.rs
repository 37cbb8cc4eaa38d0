//! The columns of rows and of entries: what a load asks of them, and how they are read.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::compute::kernels::numeric::neg;
use arrow::compute::{cast, concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Int64Type, Schema, SchemaRef};
use arrow::util::display::array_value_to_string;

use super::{CODE, DOCUMENT, Document, ENTRY, INPUTS, REVERSES, Roles, VERSION};
use crate::error::During;
use crate::nearest::nearest;
use crate::{Error, Kind, Result};

impl Roles {
    pub(super) fn check(&self, schema: &Schema) -> Result<()> {
        let wrong = |what: String| Err(Error::new(Kind::FixInput, format!("load the rows: {what}")));
        if self.key.is_empty() {
            return wrong("no column is their key; name at least one".to_owned());
        }
        for name in self.key.iter().chain(&self.amounts).chain(&self.carried) {
            if schema.field_with_name(name).is_err() {
                let near = nearest(name, schema.fields().iter().map(|field| field.name().as_str()));
                let hint = near.map(|near| format!("; nearest: {near:?}")).unwrap_or_default();
                return wrong(format!("they have no column {name:?}{hint}"));
            }
        }
        let twice = self.key.iter().find(|name| self.amounts.contains(name) || self.carried.contains(name));
        if let Some(name) = twice.or(self.amounts.iter().find(|name| self.carried.contains(name))) {
            return wrong(format!("the column {name:?} has two roles; give it one"));
        }
        for name in &self.amounts {
            let kind = schema.field_with_name(name).map(|field| field.data_type().clone());
            if !kind.as_ref().is_ok_and(|kind| kind.is_signed_integer() || kind.is_floating() || kind.is_decimal()) {
                return wrong(format!("the amount {name:?} is no signed number, so that it can't be reversed"));
            }
        }
        Ok(())
    }

    pub(super) fn check_keys(&self, rows: &RecordBatch) -> Result<()> {
        for name in &self.key {
            let null = rows.column_by_name(name).and_then(|column| (0..column.len()).find(|row| column.is_null(*row)));
            if let Some(row) = null {
                let what = format!("load the rows: the key {name:?} has no value in row {}", row + 1);
                return Err(Error::new(Kind::FixInput, what));
            }
        }
        Ok(())
    }

    /// The key too, so that there is always one.
    pub(super) fn compared(&self, schema: &Schema) -> Vec<String> {
        let names = schema.fields().iter().map(|field| field.name());
        names.filter(|name| !self.carried.contains(name)).cloned().collect()
    }

    /// A row's key, for messages.
    pub(super) fn shown(&self, batch: &RecordBatch, row: usize) -> String {
        let one = |name: &String| {
            let value = batch.column_by_name(name).and_then(|array| array_value_to_string(array, row).ok());
            format!("{name} = {}", value.unwrap_or_default())
        };
        self.key.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}

/// One batch of exactly these columns. A table may hand its texts over in another form than rows have
/// them; any other type is another table.
pub(super) fn conform(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<RecordBatch> {
    let one = |batch: &RecordBatch| {
        let columns: Vec<ArrayRef> = schema
            .fields()
            .iter()
            .map(|field| {
                let context = || format!("load the rows: the table's column {:?}", field.name());
                let there = batch.column_by_name(field.name());
                let there = there.ok_or_else(|| Error::new(Kind::FixInput, format!("{} is not there", context())))?;
                let (found, expected) = (there.data_type(), field.data_type());
                if found == expected {
                    return Ok(Arc::clone(there));
                }
                if !is_same_value(found, expected) {
                    let what = format!("{} is {found}, and the rows have {expected}", context());
                    return Err(Error::new(Kind::FixInput, what));
                }
                cast(there, expected).during(Kind::FixInput, context())
            })
            .collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
            .during(Kind::FixInput, "load the rows: read the table's entries")
    };
    let batches: Vec<RecordBatch> = batches.iter().map(one).collect::<Result<_>>()?;
    concat_batches(schema, &batches).during(Kind::FixInput, "load the rows: put the table's entries together")
}

/// Texts are texts, and UTC has several names.
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

/// The amounts with the other sign.
pub(super) fn negate(batch: &RecordBatch, roles: &Roles) -> Result<RecordBatch> {
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
    /// Of other documents nothing is taken.
    pub fn new(document: &Document, batch: RecordBatch) -> Result<Entries> {
        let names = text(&batch, DOCUMENT);
        let is_ours: BooleanArray = (0..batch.num_rows()).map(|row| Some(names(row) == document.name)).collect();
        let batch = filter_record_batch(&batch, &is_ours).during(Kind::Bug, "choose a document's entries")?;
        Ok(Entries { batch })
    }

    pub fn batch(&self) -> &RecordBatch {
        &self.batch
    }

    fn numbers(&self, name: &str) -> Option<&Int64Array> {
        self.batch.column_by_name(name)?.as_primitive_opt::<Int64Type>()
    }

    fn max(&self, name: &str) -> i64 {
        self.numbers(name).and_then(arrow::compute::max).unwrap_or(0)
    }

    pub fn version_max(&self) -> i64 {
        self.max(VERSION)
    }

    pub fn entry_max(&self) -> i64 {
        self.max(ENTRY)
    }

    pub fn entry(&self, row: usize) -> i64 {
        self.numbers(ENTRY).map(|entries| entries.value(row)).unwrap_or_default()
    }

    /// The last version that came of these.
    pub fn version_of(&self, inputs: &str, code: &str) -> Option<i64> {
        let (its_inputs, its_code) = (text(&self.batch, INPUTS), text(&self.batch, CODE));
        let versions = self.numbers(VERSION)?;
        let of_them = (0..versions.len()).filter(|row| its_inputs(*row) == inputs && its_code(*row) == code);
        of_them.map(|row| versions.value(row)).max()
    }

    /// What is neither a reversal nor taken back by one.
    pub fn in_force(&self) -> Vec<usize> {
        let Some(reverses) = self.numbers(REVERSES) else { return Vec::new() };
        let taken_back: HashSet<i64> = reverses.iter().flatten().collect();
        (0..reverses.len()).filter(|row| reverses.is_null(*row) && !taken_back.contains(&self.entry(*row))).collect()
    }
}

fn text<'a>(batch: &'a RecordBatch, name: &str) -> impl Fn(usize) -> &'a str {
    let texts = batch.column_by_name(name).and_then(|array| array.as_string_opt::<i32>());
    move |row| texts.map(|texts| texts.value(row)).unwrap_or_default()
}
