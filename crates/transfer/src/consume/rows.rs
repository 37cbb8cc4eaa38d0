//! Collects the changes of a table from messages, as the chunk that the lake's writer applies.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use stream::message::{Operation as Change, TableDefinition, Values};

use super::LeftOut;
use super::cell::{Cell, CellBuilder, arrow_type, read};
use crate::changes::chunk::{Chunk, Operation, TransactionPart};
use crate::changes::pgoutput::Transaction;
use crate::error::{Error, Result};

/// A change that is read and not applied.
pub struct RowChange<'a> {
    operation: Operation,
    row: Option<Vec<Cell<'a>>>,
    old: Option<Vec<Cell<'a>>>,
    unchanged: Vec<u16>,
}

/// The changes of a table.
pub struct RowsBuilder {
    types: Vec<DataType>,
    is_exact: bool,
    key: Vec<usize>,
    is_keyed: bool,
    schema: SchemaRef,
    old_schema: SchemaRef,
    rows: Vec<CellBuilder>,
    old: Vec<CellBuilder>,
    row_count: u32,
    old_count: u32,
    operations: Vec<Operation>,
    unchanged: Vec<(u32, u16)>,
    parts: Vec<TransactionPart>,
    bytes: usize,
}

/// The columns of a table in the lake.
pub fn schema_of(definition: &TableDefinition) -> SchemaRef {
    let field = |column: &stream::message::ColumnDefinition| Field::new(&column.name, arrow_type(column), true);
    Arc::new(Schema::new(definition.columns.iter().map(field).collect::<Vec<_>>()))
}

impl RowsBuilder {
    /// A builder without changes. `key` are the places of the key's columns; all columns where there is no key. `is_exact` is
    /// that of [`read`].
    pub fn new(definition: &TableDefinition, key: &[usize], is_exact: bool) -> RowsBuilder {
        let schema = schema_of(definition);
        let types: Vec<DataType> = schema.fields().iter().map(|field| field.data_type().clone()).collect();
        let old_fields: Vec<Field> = key.iter().map(|at| schema.field(*at).clone()).collect();
        RowsBuilder {
            rows: types.iter().map(CellBuilder::new).collect(),
            old: key.iter().map(|at| CellBuilder::new(&types[*at])).collect(),
            types,
            is_exact,
            key: key.to_vec(),
            is_keyed: !definition.primary_key.is_empty(),
            schema,
            old_schema: Arc::new(Schema::new(old_fields)),
            row_count: 0,
            old_count: 0,
            operations: Vec::new(),
            unchanged: Vec::new(),
            parts: Vec::new(),
            bytes: 0,
        }
    }

    /// Whether it has no changes.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// The number of changes.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// The size of the messages.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Reads a change.
    ///
    /// # Errors
    /// Which value does not fit its column, or which column of the key is missing.
    pub fn read<'a>(
        &self,
        change: Change,
        values: &Values<'a>,
        before: Option<&Values<'a>>,
        left_out: LeftOut,
        unchanged: &[String],
    ) -> std::result::Result<RowChange<'a>, String> {
        let cell = |values: &Values<'a>, at: usize| -> std::result::Result<Option<Cell<'a>>, String> {
            let name = self.schema.field(at).name();
            let Some(value) = values.get(name, at) else { return Ok(None) };
            read(value.get(), &self.types[at], self.is_exact)
                .map(Some)
                .map_err(|what| format!("column {name:?}: {what}"))
        };
        let key = |values: &Values<'a>| -> std::result::Result<Vec<Cell<'a>>, String> {
            self.key.iter().map(|at| Ok(cell(values, *at)?.unwrap_or(Cell::Null))).collect()
        };
        let is_keyed = self.is_keyed;
        if change == Change::Delete {
            let old = key(values)?;
            self.check_key(&old, is_keyed)?;
            return Ok(RowChange { operation: Operation::Delete, row: None, old: Some(old), unchanged: Vec::new() });
        }
        let (mut row, mut lacking) = (Vec::with_capacity(self.types.len()), Vec::new());
        for at in 0..self.types.len() {
            let value = cell(values, at)?;
            let is_left_out = change == Change::Update && left_out == LeftOut::Unchanged && value.is_none();
            if is_left_out || unchanged.contains(self.schema.field(at).name()) {
                lacking.push(at as u16);
            }
            row.push(value.unwrap_or(Cell::Null));
        }
        let new_key: Vec<Cell<'a>> = self.key.iter().map(|at| row[*at].clone()).collect();
        self.check_key(&new_key, is_keyed)?;
        let old = match before.filter(|_| change == Change::Update && is_keyed) {
            Some(before) => {
                // A before-image has those columns that its filter selects.
                let old = self.key.iter().zip(&new_key);
                let old = old.map(|(at, new)| Ok(cell(before, *at)?.unwrap_or_else(|| new.clone())));
                Some(old.collect::<std::result::Result<Vec<_>, String>>()?).filter(|old| *old != new_key)
            }
            None => None,
        };
        let operation = match (change, &old) {
            (Change::Update, Some(_)) => Operation::UpdateKey,
            (Change::Update, None) => Operation::Update,
            _ => Operation::Insert,
        };
        Ok(RowChange { operation, row: Some(row), old, unchanged: lacking })
    }

    fn check_key(&self, key: &[Cell<'_>], is_keyed: bool) -> std::result::Result<(), String> {
        match key.iter().position(|cell| *cell == Cell::Null).filter(|_| is_keyed) {
            Some(at) => Err(format!("the key's column {:?} is missing", self.old_schema.field(at).name())),
            None => Ok(()),
        }
    }

    /// Adds a change that was read by this builder. It was made at `at_micros`.
    pub fn push(&mut self, change: RowChange<'_>, at_micros: i64, bytes: usize) {
        self.begin(at_micros);
        if let Some(old) = &change.old {
            self.old.iter_mut().zip(old).for_each(|(column, cell)| column.push(cell));
            self.old_count += 1;
        }
        if let Some(row) = &change.row {
            self.unchanged.extend(change.unchanged.iter().map(|at| (self.row_count, *at)));
            self.rows.iter_mut().zip(row).for_each(|(column, cell)| column.push(cell));
            self.row_count += 1;
        }
        self.operations.push(change.operation);
        self.bytes += bytes;
    }

    /// Adds the removal of all rows.
    pub fn truncate(&mut self, at_micros: i64) {
        self.begin(at_micros);
        self.operations.push(Operation::Truncate);
    }

    /// Notes when the next operation was made.
    fn begin(&mut self, at_micros: i64) {
        if self.parts.last().is_none_or(|part| part.transaction.at_micros != at_micros) {
            let transaction = Transaction { at_micros, ..Transaction::default() };
            self.parts.push(TransactionPart { first: self.operations.len(), sequence: 0, transaction });
        }
    }

    /// Takes the changes collected so far.
    pub fn take(&mut self) -> Result<Chunk> {
        let batch = |schema: &SchemaRef, columns: &mut Vec<CellBuilder>| {
            let columns: Vec<ArrayRef> = columns.iter_mut().map(CellBuilder::finish).collect();
            let batch = RecordBatch::try_new(Arc::clone(schema), columns);
            batch.map_err(|e| Error::bug("make a batch of the messages' rows").because(e))
        };
        let rows = batch(&self.schema, &mut self.rows)?;
        let old = batch(&self.old_schema, &mut self.old)?;
        (self.row_count, self.old_count, self.bytes) = (0, 0, 0);
        Ok(Chunk {
            operations: std::mem::take(&mut self.operations),
            rows,
            old,
            unchanged: std::mem::take(&mut self.unchanged),
            selected: None,
            parts: std::mem::take(&mut self.parts),
        })
    }
}
