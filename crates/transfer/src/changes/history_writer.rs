//! Adds the changes of a table to its history, in commits of their own before those of the rows. A history that is
//! ahead of its table after an interruption skips the changes that it has.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, new_null_array};
use arrow::compute::interleave;
use arrow::datatypes::{Schema, SchemaRef};
use arrow_row::{RowConverter, SortField};
use lake::row_history::{RowOperation, history_schema};
use lake::{DataFile, FileWriter, Table};
use tokio::runtime::Handle;

use super::chunk::{Chunk, Operation};
use super::net_effect::Matching;
use super::upkeep::StreamUpkeep;
use crate::checkpoint::STREAM;
use crate::destination::evolve::{Evolution, evolve};
use crate::destination::history::{Entry, with_entries};
use crate::error::{Context, Error, Result};
use crate::lsn::Lsn;

const CONTEXT: &str = "write the history";

/// Where the row of an entry comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RowSource {
    /// A new row.
    New(usize),
    /// The columns of an old row by which rows are matched.
    Old(usize),
    /// The columns of a new row by which rows are matched.
    KeyOfNew(usize),
    /// No row: all columns are NULL.
    Nothing,
}

impl RowSource {
    /// Indices for [`interleave`] of the arrays in the order of the variants.
    fn index(self) -> (usize, usize) {
        match self {
            RowSource::New(at) => (0, at),
            RowSource::Old(at) => (1, at),
            RowSource::KeyOfNew(at) => (2, at),
            RowSource::Nothing => (3, 0),
        }
    }
}

/// Writes the history of one table.
pub struct HistoryWriter {
    table: Table,
    run: String,
    schema: SchemaRef,
    has_new_schema: bool,
    /// Changes of transactions that were committed before this position are in the history.
    durable: Lsn,
    /// The copy that the changes follow.
    generation: i64,
    writer: Option<FileWriter>,
    files: Vec<DataFile>,
    upkeep: StreamUpkeep,
    runtime: Handle,
}

impl HistoryWriter {
    /// A writer for a history that has the changes before `durable`, of the copy with this number.
    pub fn new(table: Table, run: &str, durable: Lsn, generation: i64, runtime: Handle) -> Result<Self> {
        let schema = table.schema().context("read the history's schema")?;
        Ok(HistoryWriter {
            table,
            run: run.to_owned(),
            schema,
            has_new_schema: false,
            durable,
            generation,
            writer: None,
            files: Vec::new(),
            upkeep: StreamUpkeep::default(),
            runtime,
        })
    }

    /// Whether entries wait for a commit.
    pub fn has_uncommitted(&self) -> bool {
        self.writer.is_some() || !self.files.is_empty() || self.has_new_schema
    }

    /// Adds entries for the changes of a chunk. `rows` are its new rows with all of their values, and `matching`
    /// how rows are matched.
    pub fn add(&mut self, chunk: &Chunk, rows: &RecordBatch, matching: &Matching) -> Result<()> {
        let (sources, entries) = self.entries(chunk, rows, matching)?;
        if entries.is_empty() {
            return Ok(());
        }
        let indices: Vec<(usize, usize)> = sources.into_iter().map(RowSource::index).collect();
        let schema = rows.schema();
        let mut columns = Vec::with_capacity(rows.num_columns());
        for (field, new) in schema.fields().iter().zip(rows.columns()) {
            let key = matching.columns.contains(field.name());
            let nulls = |len: usize| new_null_array(new.data_type(), len);
            let old = chunk.old.column_by_name(field.name()).map_or_else(|| nulls(chunk.old.num_rows()), Arc::clone);
            let key_of_new = if key { Arc::clone(new) } else { nulls(new.len()) };
            let nothing = nulls(1);
            let arrays: [&dyn Array; 4] = [new.as_ref(), old.as_ref(), key_of_new.as_ref(), nothing.as_ref()];
            columns.push((field.name().as_str(), interleave(&arrays, &indices).context(CONTEXT)?));
        }
        let batch = with_entries(&columns, &entries, &self.schema)?;
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => none.insert(self.table.writer(&self.run, Arc::clone(&self.schema), self.runtime.clone())),
        };
        writer.write(&batch).context(CONTEXT)
    }

    fn entries(&self, chunk: &Chunk, rows: &RecordBatch, matching: &Matching) -> Result<(Vec<RowSource>, Vec<Entry>)> {
        let (mut sources, mut entries) = (Vec::new(), Vec::new());
        let has_key_changes = chunk.operations.contains(&Operation::UpdateKey);
        // Of equal rows without a key, one is replaced by another.
        let has_keys = has_key_changes && matching.is_unique;
        let keys = if has_keys { Some(keys(rows, &chunk.old, &matching.columns)?) } else { None };
        let (mut new, mut old, mut part) = (0, 0, 0);
        for (at, operation) in chunk.operations.iter().enumerate() {
            while chunk.parts.get(part + 1).is_some_and(|next| next.first <= at) {
                part += 1;
            }
            let part = chunk.parts.get(part).ok_or_else(|| Error::bug("write the history: no transaction"))?;
            let (this_new, this_old) = (new, old);
            let is_selected = || chunk.selected.as_ref().is_none_or(|selected| selected[this_new]);
            let mut change = [None, None];
            match operation {
                Operation::Insert => {
                    change[0] = is_selected().then_some((RowOperation::Insert, RowSource::New(this_new)));
                    new += 1;
                }
                Operation::Update => {
                    change[0] = Some(match is_selected() {
                        true => (RowOperation::Update, RowSource::New(this_new)),
                        false => (RowOperation::Delete, RowSource::KeyOfNew(this_new)),
                    });
                    new += 1;
                }
                Operation::UpdateKey => {
                    let is_same = keys.as_ref().is_some_and(|(new, old)| new[this_new] == old[this_old]);
                    if !is_same || !is_selected() {
                        change[0] = Some((RowOperation::Delete, RowSource::Old(this_old)));
                    }
                    change[1] = is_selected().then_some((RowOperation::Update, RowSource::New(this_new)));
                    (new, old) = (new + 1, old + 1);
                }
                Operation::Delete => {
                    change[0] = Some((RowOperation::Delete, RowSource::Old(this_old)));
                    old += 1;
                }
                Operation::Truncate => change[0] = Some((RowOperation::Truncate, RowSource::Nothing)),
            }
            if part.transaction.commit < self.durable {
                continue;
            }
            for (operation, source) in change.into_iter().flatten() {
                sources.push(source);
                entries.push(Entry {
                    operation,
                    at_micros: part.transaction.at_micros,
                    lsn: part.transaction.commit,
                    sequence: (part.sequence + at - part.first) as i64,
                    generation: self.generation,
                    xid: Some(part.transaction.xid),
                });
            }
        }
        Ok((sources, entries))
    }

    /// Closes the open file.
    pub fn finish_files(&mut self) -> Result<()> {
        if let Some(writer) = self.writer.take() {
            self.files.extend(writer.finish().context(CONTEXT)?);
        }
        Ok(())
    }

    /// Gives the history the columns of its table, from the next commit on. No file may be open.
    pub fn add_columns(&mut self, rows: &Schema) -> Result<()> {
        if let Evolution::Add(schema) = self.evolution(rows)? {
            self.schema = schema;
            self.has_new_schema = true;
        }
        Ok(())
    }

    /// Commits the columns of the table, some of which may have wider types, to the history; the entries before them
    /// get the values of `defaults`. No entries may wait for a commit.
    pub async fn rewrite(&mut self, rows: &Schema, defaults: Option<&RecordBatch>) -> Result<()> {
        let (Evolution::Add(schema) | Evolution::Rewrite(schema)) = self.evolution(rows)? else { return Ok(()) };
        let context = "apply the source's new types and columns to the history";
        let files = self.table.rewrite(&self.run, Arc::clone(&schema), defaults).await.context(context)?;
        let commit = self.table.replace_files(&self.run, "widen", schema).files(files);
        commit.write().await.context(context)?;
        self.table = self.table.reload().await.context(context)?;
        self.schema = self.table.schema().context(context)?;
        Ok(())
    }

    fn evolution(&self, rows: &Schema) -> Result<Evolution> {
        let wanted = history_schema(rows).context(CONTEXT)?;
        evolve(&self.table.name().to_string(), &self.schema, &wanted, "transfer run --replace")
    }

    /// Commits the entries, with the position up to which the history has the changes of the log.
    pub fn commit(&mut self, position: Lsn) -> Result<()> {
        self.finish_files()?;
        if position <= self.durable && !self.has_uncommitted() {
            return Ok(());
        }
        let mut commit = self.table.commit(&self.run, "history").files(std::mem::take(&mut self.files));
        commit = commit.position(STREAM, position.max(self.durable).to_i64());
        if std::mem::take(&mut self.has_new_schema) {
            commit = commit.schema(Arc::clone(&self.schema));
        }
        self.runtime.block_on(commit.write()).context("commit the history")?;
        fail::fail_point!("after-history");
        self.durable = self.durable.max(position);
        self.table = self.runtime.block_on(self.table.reload()).context("open the history")?;
        self.table = self.upkeep.after_commit(&self.table, &self.run, &self.runtime);
        Ok(())
    }
}

/// Values by which rows are matched, in a form that can be compared.
type Keys = Vec<Vec<u8>>;

/// The keys of new and of old rows.
fn keys(new: &RecordBatch, old: &RecordBatch, matching: &[String]) -> Result<(Keys, Keys)> {
    let columns = |batch: &RecordBatch| -> Result<Vec<ArrayRef>> {
        let column = |name: &String| batch.column_by_name(name).map(Arc::clone);
        let found: Option<Vec<ArrayRef>> = matching.iter().map(column).collect();
        found.ok_or_else(|| Error::bug("write the history: a column of the key is not transferred"))
    };
    let (new, old) = (columns(new)?, columns(old)?);
    let fields = new.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    let converter = RowConverter::new(fields).context("compare keys")?;
    let values = |columns: &[ArrayRef]| -> Result<Keys> {
        let rows = converter.convert_columns(columns).context("compare keys")?;
        Ok(rows.iter().map(|row| row.as_ref().to_vec()).collect())
    };
    Ok((values(&new)?, values(&old)?))
}
