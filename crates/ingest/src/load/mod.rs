//! A document's rows become entries of a table that is only ever added to. What changed since the
//! document was last loaded is taken back by a reversal, its amounts negated, and entered anew: at any
//! version the sum of the entries is what was in force then. Pure: the table is neither read nor
//! written here.
//!
//! The same rows again give no entries, so a load that was killed before its commit is simply done
//! again. Two loads of one document at once must not both commit: their plans have the same
//! [`Plan::version`], which is what a commit is to be conditional on.

mod columns;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::row::{OwnedRow, RowConverter, SortField};
use chrono::{DateTime, Utc};

use crate::error::During;
use crate::{Error, Kind, Result};
use columns::{Entries, conform, negate};

/// What the columns of a document are to a load. Those in none of the lists are compared, and kept as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roles {
    /// By which a row is known again; at least one, and no two rows of a document have the same.
    pub key: Vec<String>,
    /// Signed numbers, which a reversal negates.
    pub amounts: Vec<String>,
    /// Kept, but no reason for a correction: when something was computed, from which line it came.
    pub carried: Vec<String>,
}

/// What is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// What all its versions are called: `bills/2026-09/PRD0042`.
    pub name: String,
    /// Hash of what it was made from.
    pub inputs: String,
    /// Hash of what made it; of the layout, for a file.
    pub code: String,
    pub recorded_at: DateTime<Utc>,
    /// Also where these very inputs and code were loaded before, and others since: for a file that came back.
    pub again: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Keys that were not in force.
    pub new: usize,
    /// In force as they are.
    pub same: usize,
    /// Reversed, and entered anew.
    pub changed: usize,
    /// Reversed, and no longer in the document.
    pub withdrawn: usize,
}

#[derive(Debug, Clone)]
pub struct Plan {
    /// Of [`entries_schema`], by key, each reversal before what it makes room for. To be appended in one commit.
    pub entries: RecordBatch,
    /// Of the entries, from 1; the last one's where there are none.
    pub version: i64,
    pub counts: Counts,
    /// The version that these very inputs and code gave before: nothing is done then, even where another
    /// came later. A late second try takes nothing back.
    pub known: Option<i64>,
}

/// Columns that every entry has after its document's own.
const DOCUMENT: &str = "document";
const VERSION: &str = "version";
/// From 1 on within a document, over all its versions.
const ENTRY: &str = "entry";
/// The entry that this one takes back.
const REVERSES: &str = "reverses";
const INPUTS: &str = "inputs_sha256";
const CODE: &str = "code_sha256";
const RECORDED_AT: &str = "recorded_at";

/// Of the table that the entries of such rows are kept in.
///
/// # Errors
/// `FixInput` where a column has the name of one of ours.
pub fn entries_schema(rows: &Schema) -> Result<SchemaRef> {
    let ours = [
        Field::new(DOCUMENT, DataType::Utf8, false),
        Field::new(VERSION, DataType::Int64, false),
        Field::new(ENTRY, DataType::Int64, false),
        Field::new(REVERSES, DataType::Int64, true),
        Field::new(INPUTS, DataType::Utf8, false),
        Field::new(CODE, DataType::Utf8, false),
        Field::new(RECORDED_AT, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
    ];
    if let Some(taken) = ours.iter().find(|field| rows.field_with_name(field.name()).is_ok()) {
        let what =
            format!("load the rows: the column {:?} has the name of one that entries have; rename it", taken.name());
        return Err(Error::new(Kind::FixInput, what));
    }
    let fields = rows.fields().iter().map(|field| field.as_ref().clone()).chain(ours);
    Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
}

/// What to append so that the table has the document's `rows` in force. `before`: all entries that the
/// table has of this document, in any order (`WHERE document = ...`).
///
/// # Errors
/// `FixInput` where the rows' schema is not the table's, a key is doubled or has no value, a role names no
/// column, or an amount can't be negated; `FixSetup` where the table has two entries in force for one key.
pub fn plan(
    document: &Document,
    roles: &Roles,
    schema: &SchemaRef,
    rows: &[RecordBatch],
    before: &[RecordBatch],
) -> Result<Plan> {
    let whole = entries_schema(schema)?;
    roles.check(schema)?;
    let rows = concat_batches(schema, rows).during(Kind::FixInput, "load the rows: put the batches together")?;
    let before = Entries::new(document, conform(&whole, before)?)?;
    let known = before.version_of(&document.inputs, &document.code).filter(|_| !document.again);
    if let Some(known) = known {
        let entries = RecordBatch::new_empty(whole);
        return Ok(Plan { entries, version: before.version_max(), counts: Counts::default(), known: Some(known) });
    }
    let (steps, counts) = compare(document, roles, &rows, &before)?;
    let version = before.version_max() + i64::from(!steps.is_empty());
    let entries = entries(document, roles, &whole, &rows, &before, version, &steps)?;
    Ok(Plan { entries, version, counts, known: None })
}

/// What leads from the entries in force to the rows, in the order of their keys.
fn compare(document: &Document, roles: &Roles, rows: &RecordBatch, before: &Entries) -> Result<(Vec<Step>, Counts)> {
    let schema = rows.schema();
    roles.check_keys(rows)?;
    let in_force = before.in_force();
    let (keys, compared) = (Converter::new(&schema, &roles.key)?, Converter::new(&schema, &roles.compared(&schema))?);
    let (key_of_row, key_of_entry) = (keys.rows(rows, None)?, keys.rows(before.batch(), Some(&in_force))?);
    let by_key = places(&key_of_row, |again| {
        let key = roles.shown(rows, again);
        Error::new(Kind::FixInput, format!("load the rows: the key {key} is there twice"))
    })?;
    let held = places(&key_of_entry, |again| {
        let key = roles.shown(before.batch(), in_force[again]);
        Error::new(Kind::FixSetup, format!("load {}: the table has two entries in force for {key}", document.name))
    })?;
    let (now, then) = (compared.rows(rows, None)?, compared.rows(before.batch(), Some(&in_force))?);
    let (mut steps, mut counts) = (Vec::new(), Counts::default());
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
        steps.push((*key, Step { reverse: reverse.map(|entry| in_force[entry]), enter: Some(*at) }));
    }
    for (key, entry) in held.iter().filter(|(key, _)| !by_key.contains_key(*key)) {
        counts.withdrawn += 1;
        steps.push((*key, Step { reverse: Some(in_force[*entry]), enter: None }));
    }
    // The same rows give the same entries, whatever order they came in.
    steps.sort_by_key(|(key, _)| *key);
    Ok((steps.into_iter().map(|(_, step)| step).collect(), counts))
}

struct Step {
    /// A place among the entries before.
    reverse: Option<usize>,
    /// A place among the rows.
    enter: Option<usize>,
}

fn entries(
    document: &Document,
    roles: &Roles,
    whole: &SchemaRef,
    rows: &RecordBatch,
    before: &Entries,
    version: i64,
    steps: &[Step],
) -> Result<RecordBatch> {
    let own: Vec<usize> = (0..rows.num_columns()).collect();
    let taken_back: Vec<usize> = steps.iter().filter_map(|step| step.reverse).collect();
    let entered: Vec<usize> = steps.iter().filter_map(|step| step.enter).collect();
    let old = before.batch().project(&own).during(Kind::Bug, "take entries back")?;
    let old = negate(&chosen(&old, &taken_back)?, roles)?;
    let new = chosen(rows, &entered)?;
    let both = concat_batches(&rows.schema(), [&old, &new])
        .during(Kind::FixInput, "load the rows: put the entries together")?;
    // Reversals first in `both`; interleaved by key here.
    let (mut order, mut reverses) = (Vec::new(), Vec::new());
    let (mut next_old, mut next_new) =
        (0_u32, u32::try_from(taken_back.len()).during(Kind::FixInput, "load the rows")?);
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

/// Where each row is; `twice` for one that is there again.
fn places(rows: &[OwnedRow], twice: impl Fn(usize) -> Error) -> Result<HashMap<&OwnedRow, usize>> {
    let mut places = HashMap::with_capacity(rows.len());
    for (at, row) in rows.iter().enumerate() {
        if places.insert(row, at).is_some() {
            return Err(twice(at));
        }
    }
    Ok(places)
}

/// Some columns of rows as something that can be compared.
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

    /// Of these rows, or of all.
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
