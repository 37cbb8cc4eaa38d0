//! The net effect of a chunk of changes: which of its rows are there after it, and which rows that were there before
//! have to be removed. A row that is updated ten times is looked up once and written once.

use std::collections::HashMap;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::interleave;
use arrow::datatypes::{Field, Schema};
use arrow_row::{RowConverter, Rows, SortField};
use std::sync::Arc;

use super::chunk::{Chunk, Operation};
use crate::error::{Context, Error, Result};
use crate::settings::Deletes;

/// How rows are matched, and what a delete does.
#[derive(Debug, Clone)]
pub struct Matching {
    /// The columns by which rows are matched.
    pub columns: Vec<String>,
    /// No two rows of the source have the same values in these columns. Otherwise they are all columns, and one row of
    /// several equal ones is removed by each delete.
    pub is_unique: bool,
    /// What a delete does.
    pub deletes: Deletes,
    /// The lake may have rows that the source has deleted, with keys that the source uses again: the keys of inserted
    /// rows are looked up.
    pub looks_up_inserts: bool,
}

/// Where the value comes from that an update did not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// Another new row of the chunk.
    Row(u32),
    /// The row that was there before the chunk, by its index in [`NetEffect::removed`].
    Before(u32),
}

/// The net effect of a chunk.
pub struct NetEffect {
    /// All rows that were there before are removed, or marked as deleted at this time, in microseconds since 1970.
    pub truncated_at: Option<i64>,
    /// The new rows that are there after the chunk, in their order.
    pub kept: UInt32Array,
    /// The rows that are marked as deleted, with the time of the delete.
    pub deleted: Vec<(Base, i64)>,
    /// The keys of rows that may have been there before, and are removed.
    pub removed: RecordBatch,
    /// How many rows with each key are removed, at most.
    pub counts: Vec<u32>,
    /// For new rows that lack values, where these come from.
    pub bases: HashMap<u32, Base>,
}

/// The state of the rows with one key.
#[derive(Default)]
struct KeyState {
    /// New rows that are there.
    alive: Vec<u32>,
    /// How many rows from before the chunk are removed.
    removes: u32,
    /// The index of the key among those that are looked up.
    index: Option<u32>,
    /// The row that was deleted last, and the index of the operation, where it is to be marked.
    deleted: Option<(Base, usize)>,
}

struct Replay<'a> {
    matching: &'a Matching,
    selected: Option<&'a [bool]>,
    states: HashMap<&'a [u8], KeyState>,
    /// The keys to look up: whether it is the key of an old row, and the row's index.
    looked_up: Vec<(bool, u32)>,
    bases: HashMap<u32, Base>,
    /// The index of the last operation that truncates the table.
    truncated_by: Option<usize>,
}

impl<'a> Replay<'a> {
    /// Removes one row with this key, which is that of an old or of a new row, and returns it.
    fn remove(&mut self, key: &'a [u8], row: (bool, u32)) -> Base {
        let state = self.states.entry(key).or_default();
        if let Some(alive) = state.alive.pop() {
            return Base::Row(alive);
        }
        state.removes = if self.matching.is_unique { 1 } else { state.removes + 1 };
        let looked_up = &mut self.looked_up;
        let index = *state.index.get_or_insert_with(|| {
            looked_up.push(row);
            looked_up.len() as u32 - 1
        });
        Base::Before(index)
    }

    fn insert(&mut self, key: &'a [u8], new: u32) {
        if self.selected.is_some_and(|selected| !selected[new as usize]) {
            return;
        }
        let state = self.states.entry(key).or_default();
        if self.matching.is_unique {
            state.alive.clear();
        }
        state.alive.push(new);
        state.deleted = None;
    }

    fn delete(&mut self, key: &'a [u8], row: (bool, u32), operation: usize) {
        if self.matching.deletes == Deletes::Keep {
            return;
        }
        let base = self.remove(key, row);
        if self.matching.deletes == Deletes::Mark {
            self.states.entry(key).or_default().deleted = Some((base, operation));
        }
    }

    fn truncate(&mut self, operation: usize) {
        if self.matching.deletes != Deletes::Keep {
            self.states.clear();
            self.looked_up.clear();
            self.truncated_by = Some(operation);
        }
    }
}

/// Computes the net effect of a chunk.
///
/// # Errors
/// Where a column of the key can't be compared.
pub fn net_effect(chunk: &Chunk, matching: &Matching) -> Result<NetEffect> {
    let (new_columns, old_columns) = (columns(&chunk.rows, matching)?, columns(&chunk.old, matching)?);
    let only_inserts = chunk.operations.iter().all(|operation| *operation == Operation::Insert);
    if only_inserts && !matching.looks_up_inserts && chunk.selected.is_none() {
        return Ok(NetEffect {
            truncated_at: None,
            kept: UInt32Array::from_iter_values(0..chunk.rows.num_rows() as u32),
            deleted: Vec::new(),
            removed: keys(&new_columns, &old_columns, &[], matching, &chunk.rows)?,
            counts: Vec::new(),
            bases: HashMap::new(),
        });
    }
    let converter = RowConverter::new(new_columns.iter().map(|c| SortField::new(c.data_type().clone())).collect());
    let converter = converter.context("compare keys")?;
    let new_keys = converter.convert_columns(&new_columns).context("compare keys")?;
    let old_keys = converter.convert_columns(&old_columns).context("compare keys")?;
    let mut replay = Replay {
        matching,
        selected: chunk.selected.as_deref(),
        states: HashMap::with_capacity(chunk.operations.len()),
        looked_up: Vec::new(),
        bases: HashMap::new(),
        truncated_by: None,
    };
    replay_all(&mut replay, &chunk.operations, &new_keys, &old_keys);
    let Replay { states, looked_up, bases, truncated_by, .. } = replay;
    let mut counts = vec![0; looked_up.len()];
    let mut kept: Vec<u32> = Vec::with_capacity(chunk.rows.num_rows());
    let mut deleted = Vec::new();
    for state in states.into_values() {
        if let Some(index) = state.index {
            counts[index as usize] = state.removes;
        }
        kept.extend(state.alive);
        if let Some((base, operation)) = state.deleted {
            deleted.push((base, chunk.committed_at(operation)));
            if let Base::Row(row) = base {
                kept.push(row);
            }
        }
    }
    kept.sort_unstable();
    let removed = keys(&new_columns, &old_columns, &looked_up, matching, &chunk.rows)?;
    let truncated_at = truncated_by.map(|operation| chunk.committed_at(operation));
    Ok(NetEffect { truncated_at, kept: UInt32Array::from(kept), deleted, removed, counts, bases })
}

fn replay_all<'a>(replay: &mut Replay<'a>, operations: &[Operation], new_keys: &'a Rows, old_keys: &'a Rows) {
    let (mut new, mut old) = (0u32, 0u32);
    let key_of = |rows: &'a Rows, at: u32| -> &'a [u8] { rows.row(at as usize).data() };
    for (at, operation) in operations.iter().enumerate() {
        match operation {
            Operation::Insert => {
                let key = key_of(new_keys, new);
                if replay.matching.looks_up_inserts {
                    replay.remove(key, (false, new));
                }
                replay.insert(key, new);
                new += 1;
            }
            Operation::Update => {
                let key = key_of(new_keys, new);
                let base = replay.remove(key, (false, new));
                replay.bases.insert(new, base);
                replay.insert(key, new);
                new += 1;
            }
            Operation::UpdateKey => {
                let base = replay.remove(key_of(old_keys, old), (true, old));
                replay.bases.insert(new, base);
                let key = key_of(new_keys, new);
                if replay.matching.looks_up_inserts {
                    replay.remove(key, (false, new));
                }
                replay.insert(key, new);
                (new, old) = (new + 1, old + 1);
            }
            Operation::Delete => {
                replay.delete(key_of(old_keys, old), (true, old), at);
                old += 1;
            }
            Operation::Truncate => replay.truncate(at),
        }
    }
}

/// The columns by which rows are matched.
fn columns(batch: &RecordBatch, matching: &Matching) -> Result<Vec<ArrayRef>> {
    let column = |name: &String| {
        let column = batch.column_by_name(name).map(Arc::clone);
        column.ok_or_else(|| Error::bug(format!("match rows by column {name:?}, which is not transferred")))
    };
    matching.columns.iter().map(column).collect()
}

fn keys(
    new: &[ArrayRef],
    old: &[ArrayRef],
    rows: &[(bool, u32)],
    matching: &Matching,
    batch: &RecordBatch,
) -> Result<RecordBatch> {
    let indices: Vec<(usize, usize)> = rows.iter().map(|(is_old, at)| (usize::from(*is_old), *at as usize)).collect();
    let mut arrays = Vec::with_capacity(new.len());
    let mut fields = Vec::with_capacity(new.len());
    for ((new, old), name) in new.iter().zip(old).zip(&matching.columns) {
        arrays.push(interleave(&[new.as_ref(), old.as_ref()], &indices).context("collect keys")?);
        let nullable = batch.schema_ref().field_with_name(name).is_ok_and(Field::is_nullable);
        fields.push(Field::new(name, new.data_type().clone(), nullable));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).context("collect keys")
}

#[cfg(test)]
mod tests;
