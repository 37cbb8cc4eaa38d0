//! Makes entries of a document's rows, for a table that is only appended to. A row that changed since the
//! document was last loaded gets a reversal, with its amounts negated, and a new entry: at every version the
//! sum of the entries is what was in force then. Pure functions: the table is neither read nor written here.
//!
//! The same rows loaded again give no entries, so that a load that was killed before its commit can be
//! repeated. Of two concurrent loads of one document only one may commit: their plans have the same
//! [`LoadPlan::version`], and the commit must be conditional on it.

mod entry_table;
mod roles;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::row::{OwnedRow, RowConverter, SortField};
use chrono::{DateTime, Utc};

use crate::error::ErrorContext;
use crate::{Error, Kind, Result};
use entry_table::{Entries, conform, negate};

pub use entry_table::entries_schema;
pub use roles::ColumnRoles;

/// A document to load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The name that all of its versions have: `bills/2026-09/PRD0042`.
    pub name: String,
    /// The hash of what it was made from.
    pub inputs: String,
    /// The hash of the code that made it; for a file, of its layout.
    pub code: String,
    /// The time that the entries are recorded with.
    pub recorded_at: DateTime<Utc>,
    /// Whether to load it even where the same inputs and code were loaded before, and others since: for a file of
    /// which an earlier version was delivered again.
    pub again: bool,
}

/// How many keys a load changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LoadCounts {
    /// Keys without an entry in force.
    pub new: usize,
    /// Keys whose entry in force is equal to the row.
    pub same: usize,
    /// Keys whose entry in force is reversed, with a new entry for the row.
    pub changed: usize,
    /// Keys whose entry in force is reversed because the document no longer has them.
    pub withdrawn: usize,
}

/// The entries that a load appends.
#[derive(Debug, Clone)]
pub struct LoadPlan {
    /// The entries, in the columns of [`entries_schema`], by key, each reversal before the entry that replaces it.
    /// They must be appended in one commit.
    pub entries: RecordBatch,
    /// The document's version with these entries, from 1; where there are none, its last version.
    pub version: i64,
    /// How many keys change.
    pub counts: LoadCounts,
    /// The version that the same inputs and code gave before, if any. There are no entries then, even where other
    /// inputs were loaded later: a late retry reverses nothing.
    pub loaded_as: Option<i64>,
}

/// The entries to append so that exactly the document's `rows` are in force. `before` are all entries that the
/// table has of this document, in any order (`WHERE document = ...`).
///
/// # Errors
/// `FixInput` where the rows' schema differs from the table's, two rows have one key or a key has no value, a role
/// names no column, or an amount can't be negated; `FixSetup` where the table has two entries in force for one key.
pub fn plan(
    document: &Document,
    roles: &ColumnRoles,
    schema: &SchemaRef,
    rows: &[RecordBatch],
    before: &[RecordBatch],
) -> Result<LoadPlan> {
    let whole = entries_schema(schema)?;
    roles.check(schema)?;
    let rows = concat_batches(schema, rows).during(Kind::FixInput, "load the rows: put the batches together")?;
    let before = Entries::new(&document.name, conform(&whole, before)?)?;
    let known = before.version_of(&document.inputs, &document.code).filter(|_| !document.again);
    if let Some(known) = known {
        let entries = RecordBatch::new_empty(whole);
        return Ok(LoadPlan {
            entries,
            version: before.version_max(),
            counts: LoadCounts::default(),
            loaded_as: Some(known),
        });
    }
    let (steps, counts) = compare(document, roles, &rows, &before)?;
    let version = before.version_max() + i64::from(!steps.is_empty());
    let entries = entries(document, roles, &whole, &rows, &before, version, &steps)?;
    Ok(LoadPlan { entries, version, counts, loaded_as: None })
}

/// The changes from the entries in force to the rows, in the order of their keys.
fn compare(
    document: &Document,
    roles: &ColumnRoles,
    rows: &RecordBatch,
    before: &Entries,
) -> Result<(Vec<KeyChange>, LoadCounts)> {
    let schema = rows.schema();
    roles.check_keys(rows)?;
    let in_force = before.in_force();
    let (keys, compared) = (Converter::new(&schema, &roles.key)?, Converter::new(&schema, &roles.compared(&schema))?);
    let (key_of_row, key_of_entry) = (keys.rows(rows, None)?, keys.rows(before.batch(), Some(&in_force))?);
    let by_key = row_indexes(&key_of_row, |again| {
        let key = roles.shown(rows, again);
        Error::new(Kind::FixInput, format!("load the rows: two rows have the key {key}"))
    })?;
    let held = row_indexes(&key_of_entry, |again| {
        let key = roles.shown(before.batch(), in_force[again]);
        Error::new(Kind::FixSetup, format!("load {}: the table has two entries in force for {key}", document.name))
    })?;
    let (now, then) = (compared.rows(rows, None)?, compared.rows(before.batch(), Some(&in_force))?);
    let (mut steps, mut counts) = (Vec::new(), LoadCounts::default());
    for (key, at) in &by_key {
        let reverse = held.get(key).copied();
        match reverse {
            Some(entry) if then[entry] == now[*at] => {
                counts.same += 1;
                continue;
            }
            Some(_) => counts.changed += 1,
            None => counts.new += 1,
        }
        steps.push((*key, KeyChange { reverse: reverse.map(|entry| in_force[entry]), enter: Some(*at) }));
    }
    for (key, entry) in held.iter().filter(|(key, _)| !by_key.contains_key(*key)) {
        counts.withdrawn += 1;
        steps.push((*key, KeyChange { reverse: Some(in_force[*entry]), enter: None }));
    }
    // The same rows give the same entries, in whatever order they are.
    steps.sort_by_key(|(key, _)| *key);
    Ok((steps.into_iter().map(|(_, step)| step).collect(), counts))
}

/// What a load does for one key.
struct KeyChange {
    /// The index of the entry to reverse, among the entries of the table.
    reverse: Option<usize>,
    /// The index of the row to enter.
    enter: Option<usize>,
}

fn entries(
    document: &Document,
    roles: &ColumnRoles,
    whole: &SchemaRef,
    rows: &RecordBatch,
    before: &Entries,
    version: i64,
    steps: &[KeyChange],
) -> Result<RecordBatch> {
    let own: Vec<usize> = (0..rows.num_columns()).collect();
    let reversed: Vec<usize> = steps.iter().filter_map(|step| step.reverse).collect();
    let entered: Vec<usize> = steps.iter().filter_map(|step| step.enter).collect();
    let old = before.batch().project(&own).during(Kind::Bug, "reverse entries")?;
    let old = negate(&chosen(&old, &reversed)?, roles)?;
    let new = chosen(rows, &entered)?;
    let both = concat_batches(&rows.schema(), [&old, &new])
        .during(Kind::FixInput, "load the rows: put the entries together")?;
    // `both` has all reversals first; here they are ordered by key.
    let (mut order, mut reverses) = (Vec::new(), Vec::new());
    let (mut next_old, mut next_new) = (0_u32, u32::try_from(reversed.len()).during(Kind::FixInput, "load the rows")?);
    for step in steps {
        if let Some(entry) = step.reverse {
            order.push(next_old);
            reverses.push(Some(before.entry(entry)));
            next_old += 1;
        }
        if step.enter.is_some() {
            order.push(next_new);
            reverses.push(None);
            next_new += 1;
        }
    }
    let both = take_record_batch(&both, &UInt32Array::from(order)).during(Kind::Bug, "order the entries")?;
    let (count, first) = (both.num_rows(), before.entry_max() + 1);
    let text = |text: &str| Arc::new(StringArray::from(vec![text; count])) as ArrayRef;
    let numbers = (0_i64..).take(count).map(|at| first + at).collect::<Vec<_>>();
    let at = TimestampMicrosecondArray::from(vec![document.recorded_at.timestamp_micros(); count]).with_timezone("UTC");
    let mut columns = both.columns().to_vec();
    columns.extend([
        text(&document.name),
        Arc::new(Int64Array::from(vec![version; count])) as ArrayRef,
        Arc::new(Int64Array::from(numbers)),
        Arc::new(Int64Array::from(reverses)),
        text(&document.inputs),
        text(&document.code),
        Arc::new(at),
    ]);
    RecordBatch::try_new(Arc::clone(whole), columns).during(Kind::FixInput, "load the rows: make their entries")
}

fn chosen(batch: &RecordBatch, rows: &[usize]) -> Result<RecordBatch> {
    let rows: Vec<u32> =
        rows.iter().map(|row| u32::try_from(*row)).collect::<Result<_, _>>().during(Kind::FixInput, "load the rows")?;
    take_record_batch(batch, &UInt32Array::from(rows)).during(Kind::Bug, "choose rows")
}

/// The index of each row; `duplicate` makes the error for a row that occurs again.
fn row_indexes(rows: &[OwnedRow], duplicate: impl Fn(usize) -> Error) -> Result<HashMap<&OwnedRow, usize>> {
    let mut indexes = HashMap::with_capacity(rows.len());
    for (at, row) in rows.iter().enumerate() {
        if indexes.insert(row, at).is_some() {
            return Err(duplicate(at));
        }
    }
    Ok(indexes)
}

/// Makes comparable keys of some columns.
struct Converter {
    columns: Vec<usize>,
    converter: RowConverter,
}

impl Converter {
    fn new(schema: &Schema, names: &[String]) -> Result<Converter> {
        let columns: Vec<usize> = names.iter().filter_map(|name| schema.index_of(name).ok()).collect();
        let fields = columns.iter().map(|at| SortField::new(schema.field(*at).data_type().clone())).collect();
        let converter = RowConverter::new(fields).during(Kind::FixInput, "load the rows: compare their columns")?;
        Ok(Converter { columns, converter })
    }

    /// The keys of the rows `of`, or of all rows.
    fn rows(&self, batch: &RecordBatch, of: Option<&[usize]>) -> Result<Vec<OwnedRow>> {
        let batch = batch.project(&self.columns).during(Kind::Bug, "compare rows")?;
        let batch = match of {
            Some(rows) => chosen(&batch, rows)?,
            None => batch,
        };
        let rows =
            self.converter.convert_columns(batch.columns()).during(Kind::FixInput, "load the rows: compare them")?;
        Ok(rows.iter().map(|row| row.owned()).collect())
    }
}
