//! Collects the changes of one table until they are applied: the values of new and old rows, and the order of the
//! operations on them.

use std::sync::Arc;

use arrow::array::RecordBatch;

use super::pgoutput::{Field, Transaction, Tuple};
use super::projection::{Projection, Projector, RawTuples};
use crate::decode::Decoder;
use crate::error::{Error, Result};
use crate::type_map::ColumnKind;

/// What a value that an update did not change counts as: it is read from the lake when the chunk is applied.
const UNCHANGED_BYTES: usize = 8 << 10;

/// An operation on a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Adds the next new row.
    Insert,
    /// Replaces the row with the key of the next new row by that row.
    Update,
    /// Replaces the row with the key of the next old row by the next new row.
    UpdateKey,
    /// Removes the row with the key of the next old row.
    Delete,
    /// Removes all rows.
    Truncate,
}

/// The changes of a table that are applied together.
pub struct Chunk {
    /// The operations, in the order of the log.
    pub operations: Vec<Operation>,
    /// The new rows, in the order of the operations that have one.
    pub rows: RecordBatch,
    /// The matching columns of the old rows, in the order of the operations that have one.
    pub old: RecordBatch,
    /// The new rows, with columns, that lack a value which the update did not change, in ascending order.
    pub unchanged: Vec<(u32, u16)>,
    /// Which new rows the table mapping selects; all where it is absent.
    pub selected: Option<Vec<bool>>,
    /// The transactions of the operations, in their order.
    pub parts: Vec<TransactionPart>,
}

impl Chunk {
    /// When the source committed an operation, in microseconds since 1970.
    pub fn committed_at(&self, operation: usize) -> i64 {
        let part = self.parts.partition_point(|part| part.first <= operation).checked_sub(1);
        part.map_or(0, |part| self.parts[part].transaction.at_micros)
    }
}

/// The operations of one transaction in a chunk.
#[derive(Debug, Clone, Copy)]
pub struct TransactionPart {
    /// The index of the first of them.
    pub first: usize,
    /// The number of the table's operations before it in the transaction.
    pub sequence: usize,
    /// The transaction.
    pub transaction: Transaction,
}

/// A chunk whose values may not be decoded yet.
pub struct CollectedChunk {
    operations: Vec<Operation>,
    unchanged: Vec<(u32, u16)>,
    parts: Vec<TransactionPart>,
    values: CollectedValues,
}

enum CollectedValues {
    Decoded { rows: RecordBatch, old: RecordBatch },
    Raw { rows: RawTuples, old: RawTuples, projection: Arc<Projection> },
}

impl CollectedChunk {
    /// The chunk with all values decoded. The source computes those of columns that are not
    /// carried unchanged.
    pub fn resolve(self, projector: &Projector) -> Result<Chunk> {
        let CollectedChunk { operations, unchanged, parts, values } = self;
        let (rows, old, selected) = match values {
            CollectedValues::Decoded { rows, old } => (rows, old, None),
            CollectedValues::Raw { rows, old, projection } => {
                let (rows, selected) = projector.rows(&projection, &rows)?;
                (rows, projector.old_rows(&projection, &old)?, selected)
            }
        };
        Ok(Chunk { operations, rows, old, unchanged, selected, parts })
    }
}

/// How the values of a relation's tuples become the columns of the lake.
#[derive(Debug, Clone)]
pub struct TupleMapping {
    /// The columns of the lake that the stream has values for, in their order.
    pub columns: Vec<(String, ColumnKind)>,
    /// For each of them, the indices of the tuple's values that it is made of; a single one where it is the value.
    pub inputs: Vec<Vec<usize>>,
    /// The columns by which old rows are matched with those of the lake, as indices of `columns`.
    pub matching: Vec<usize>,
    /// Whether those are a key, none of whose values is NULL.
    pub is_keyed: bool,
    /// Where the source computes the columns from the tuple's values.
    pub projection: Option<Arc<Projection>>,
}

enum Values {
    Decoded { rows: Box<Decoder>, old: Box<Decoder> },
    Raw { rows: RawTuples, old: RawTuples, projection: Arc<Projection> },
}

/// Collects a [`Chunk`].
pub struct ChunkBuilder {
    table: String,
    mapping: TupleMapping,
    values: Values,
    operations: Vec<Operation>,
    unchanged: Vec<(u32, u16)>,
    parts: Vec<TransactionPart>,
    bytes: usize,
}

impl ChunkBuilder {
    /// An empty builder for the table with this name, which is for errors. With `has_bytes`, texts are checked.
    pub fn new(table: &str, mapping: TupleMapping, has_bytes: bool) -> Self {
        let values = match &mapping.projection {
            Some(projection) => {
                let projection = Arc::clone(projection);
                Values::Raw { rows: RawTuples::default(), old: RawTuples::default(), projection }
            }
            None => {
                let matching: Vec<_> = mapping.matching.iter().map(|at| mapping.columns[*at].clone()).collect();
                let key: Vec<usize> = (0..matching.len()).collect();
                let mut rows = Box::new(Decoder::new(table, &mapping.columns, &mapping.matching));
                let mut old = Box::new(Decoder::new(table, &matching, &key));
                if has_bytes {
                    rows.check_texts();
                    old.check_texts();
                }
                Values::Decoded { rows, old }
            }
        };
        let table = table.to_owned();
        let (operations, unchanged, parts) = (Vec::new(), Vec::new(), Vec::new());
        ChunkBuilder { table, mapping, values, operations, unchanged, parts, bytes: 0 }
    }

    /// Whether it has no changes.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// The number of its changes.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// The size of its values.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Sets the transaction of the next operation, which is number `sequence` of the table in it.
    pub fn set_transaction(&mut self, transaction: Transaction, sequence: usize) {
        if self.parts.last().is_none_or(|part| part.transaction.commit != transaction.commit) {
            self.parts.push(TransactionPart { first: self.operations.len(), sequence, transaction });
        }
    }

    /// Adds an insert.
    pub fn insert(&mut self, new: Tuple<'_>) -> Result<()> {
        self.push_row(new, None)?;
        self.operations.push(Operation::Insert);
        Ok(())
    }

    /// Adds an update. `old` is present where the identity has changed, or contains all columns.
    pub fn update(&mut self, old: Option<Tuple<'_>>, new: Tuple<'_>) -> Result<()> {
        let operation = if old.is_some() { Operation::UpdateKey } else { Operation::Update };
        if let Some(old) = old {
            self.push_old(old)?;
        }
        self.push_row(new, old)?;
        self.operations.push(operation);
        Ok(())
    }

    /// Adds a delete.
    pub fn delete(&mut self, old: Tuple<'_>) -> Result<()> {
        self.push_old(old)?;
        self.operations.push(Operation::Delete);
        Ok(())
    }

    /// Adds a TRUNCATE.
    pub fn truncate(&mut self) {
        self.operations.push(Operation::Truncate);
    }

    /// Takes the changes collected so far.
    pub fn take(&mut self) -> Result<CollectedChunk> {
        self.bytes = 0;
        let values = match &mut self.values {
            Values::Decoded { rows, old } => CollectedValues::Decoded { rows: rows.take()?, old: old.take()? },
            Values::Raw { rows, old, projection } => CollectedValues::Raw {
                rows: std::mem::take(rows),
                old: std::mem::take(old),
                projection: Arc::clone(projection),
            },
        };
        let (operations, unchanged) = (std::mem::take(&mut self.operations), std::mem::take(&mut self.unchanged));
        Ok(CollectedChunk { operations, unchanged, parts: std::mem::take(&mut self.parts), values })
    }

    fn push_row(&mut self, new: Tuple<'_>, old: Option<Tuple<'_>>) -> Result<()> {
        let fields = new_fields(new, old);
        let row = match &self.values {
            Values::Decoded { rows, .. } => rows.rows(),
            Values::Raw { rows, .. } => rows.len(),
        } as u32;
        for column in self.mapping.unchanged(&self.table, &fields)? {
            self.unchanged.push((row, column as u16));
            self.bytes += UNCHANGED_BYTES;
        }
        self.bytes += new.bytes();
        match &mut self.values {
            Values::Raw { rows, .. } => {
                rows.push(&fields);
                Ok(())
            }
            Values::Decoded { rows, .. } => {
                let mut values = Vec::with_capacity(self.mapping.inputs.len());
                for inputs in &self.mapping.inputs {
                    values.push(match inputs.first().and_then(|at| fields.get(*at)) {
                        Some(Field::Binary(value)) => Some(*value),
                        Some(Field::Null | Field::Unchanged) => None,
                        Some(Field::Text(_)) | None => return Err(malformed(&self.table, fields.len())),
                    });
                }
                rows.push_values(&values)
            }
        }
    }

    fn push_old(&mut self, tuple: Tuple<'_>) -> Result<()> {
        let fields: Vec<Field<'_>> = tuple.fields().collect();
        self.bytes += tuple.bytes();
        let mut inputs = self.mapping.matching.iter().flat_map(|column| &self.mapping.inputs[*column]);
        if self.mapping.is_keyed && inputs.any(|at| fields.get(*at) == Some(&Field::Null)) {
            let what = format!("apply a change of {}: the log does not have the key of the old row", self.table);
            return Err(Error::input(what).state("value-missing"));
        }
        match &mut self.values {
            Values::Raw { old, .. } => {
                old.push(&fields);
                Ok(())
            }
            Values::Decoded { old, .. } => {
                let mut values = Vec::with_capacity(self.mapping.matching.len());
                for column in &self.mapping.matching {
                    values.push(match self.mapping.inputs[*column].first().and_then(|at| fields.get(*at)) {
                        Some(Field::Binary(value)) => Some(*value),
                        Some(Field::Null) => None,
                        _ => return Err(malformed(&self.table, fields.len())),
                    });
                }
                old.push_values(&values)
            }
        }
    }
}

/// The values of a new row. With the identity FULL, those that did not change are in the old row.
pub fn new_fields<'a>(new: Tuple<'a>, old: Option<Tuple<'a>>) -> Vec<Field<'a>> {
    let mut fields: Vec<Field<'_>> = new.fields().collect();
    if let Some(old) = old.filter(|_| fields.contains(&Field::Unchanged)) {
        for (field, old) in fields.iter_mut().zip(old.fields()) {
            if *field == Field::Unchanged && matches!(old, Field::Binary(_) | Field::Text(_)) {
                *field = old;
            }
        }
    }
    fields
}

impl TupleMapping {
    /// The columns whose values an update did not change, so that the log does not have them.
    ///
    /// # Errors
    /// Where another value is computed from one of them.
    pub fn unchanged(&self, table: &str, fields: &[Field<'_>]) -> Result<Vec<usize>> {
        let mut unchanged = Vec::new();
        if !fields.contains(&Field::Unchanged) {
            return Ok(unchanged);
        }
        for (column, inputs) in self.inputs.iter().enumerate() {
            match inputs.iter().filter(|at| fields.get(**at) == Some(&Field::Unchanged)).count() {
                0 => {}
                1 if inputs.len() == 1 => unchanged.push(column),
                _ => {
                    let column = &self.columns[column].0;
                    return Err(unknown_input(table, &format!("column {column:?} is computed from values")));
                }
            }
        }
        let filtered_by = self.projection.as_ref().map_or(&[][..], |projection| &projection.filter_inputs);
        match filtered_by.iter().any(|at| fields.get(*at) == Some(&Field::Unchanged)) {
            true => Err(unknown_input(table, "the mapping's filter depends on values")),
            false => Ok(unchanged),
        }
    }
}

#[cold]
fn unknown_input(table: &str, what: &str) -> Error {
    let what = format!("apply an update of {table}: {what} of which the log has only those that changed");
    Error::input(what).state("value-missing").hint("ALTER TABLE ... REPLICA IDENTITY FULL; then resync the table")
}

#[cold]
fn malformed(table: &str, fields: usize) -> Error {
    Error::bug(format!("read the log: a row of {table} with {fields} values does not fit its description"))
}
