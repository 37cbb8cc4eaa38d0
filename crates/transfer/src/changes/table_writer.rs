//! Applies the changes of one table to the lake: new rows are added in files, the rows that they replace are hidden by
//! deletion vectors, and one commit makes both visible with the position in the log.
//!
//! A transaction of any size is one commit. Its changes come in chunks; files of earlier chunks are searched for rows
//! that later ones replace, so that memory does not grow with the transaction.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take, take_record_batch};
use arrow::datatypes::{Schema, SchemaRef};
use lake::{DataFile, FileWriter, FoundRow, HiddenRows, KeySet, OrderColumns, Table};
use tokio::runtime::Handle;

use super::chunk::Chunk;
use super::history_writer::HistoryWriter;
use super::net_effect::{Base, Matching, NetEffect, net_effect};
use super::upkeep::StreamUpkeep;
use crate::checkpoint::Origin;
use crate::checkpoint::STREAM;
use crate::destination::deleted_rows::{mark_all, marked, without_deleted_at};
use crate::destination::lake::with_origin;
use crate::error::{Context, Error, Result};
use crate::lsn::Lsn;
use crate::settings::Deletes;

/// A table that was not committed for so long is opened again before its next change.
const RELOAD_AFTER: Duration = Duration::from_secs(5);

/// What a commit has changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// The number of rows that were added.
    pub added: u64,
    /// The number of rows that were removed or replaced.
    pub removed: u64,
    /// The size of the new files.
    pub bytes: u64,
}

/// Writes the changes of one table to the lake.
pub struct TableWriter {
    table: Table,
    run: String,
    schema: SchemaRef,
    matching: Matching,
    writer: Option<FileWriter>,
    uncommitted: Uncommitted,
    history: Option<HistoryWriter>,
    upkeep: StreamUpkeep,
    loaded_at: Instant,
    runtime: Handle,
}

/// What the next commit contains.
#[derive(Default)]
struct Uncommitted {
    files: Vec<DataFile>,
    hidden: HiddenRows,
    added: u64,
    /// All rows of the table are removed: it was truncated.
    truncates: bool,
    /// The schema to commit, where it has more columns than the table.
    schema: Option<SchemaRef>,
    origin: Option<Origin>,
}

impl TableWriter {
    /// A writer for a table of the lake, whose rows are matched by `matching`, and for its history.
    pub fn new(
        table: Table,
        history: Option<HistoryWriter>,
        run: &str,
        matching: Matching,
        runtime: Handle,
    ) -> Result<Self> {
        let schema = table.schema().context("read the table's schema")?;
        Ok(TableWriter {
            table,
            run: run.to_owned(),
            schema,
            matching,
            writer: None,
            uncommitted: Uncommitted::default(),
            history,
            upkeep: StreamUpkeep::default(),
            loaded_at: Instant::now(),
            runtime,
        })
    }

    /// The table at its last commit.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Whether changes wait for a commit.
    pub fn has_uncommitted(&self) -> bool {
        self.has_changes() || self.uncommitted.schema.is_some() || self.uncommitted.origin.is_some()
    }

    /// Gives the table a schema with more columns, from the next commit on. No file may be open.
    pub fn add_columns(&mut self, schema: SchemaRef) -> Result<()> {
        if let Some(history) = &mut self.history {
            history.add_columns(&without_deleted_at(&schema))?;
        }
        self.schema = Arc::clone(&schema);
        self.uncommitted.schema = Some(schema);
        Ok(())
    }

    /// The writer of the table's history.
    pub fn history_mut(&mut self) -> Option<&mut HistoryWriter> {
        self.history.as_mut()
    }

    /// The schema of the rows that are written.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// Whether rows wait for a commit.
    pub fn has_changes(&self) -> bool {
        let waiting = &self.uncommitted;
        self.history.as_ref().is_some_and(HistoryWriter::has_uncommitted)
            || self.writer.is_some()
            || waiting.added > 0
            || waiting.truncates
            || !waiting.hidden.is_empty()
    }

    /// Continues with another version of the table. No rows may wait for a commit.
    pub fn set_table(&mut self, table: Table) -> Result<()> {
        self.schema = table.schema().context("read the table's schema")?;
        self.table = table;
        // Columns that waited for a commit are among those of the table now.
        self.uncommitted.schema = None;
        Ok(())
    }

    /// Sets how rows are matched from now on.
    pub fn set_matching(&mut self, matching: Matching) {
        self.matching = matching;
    }

    /// Stores the origin with the next commit.
    pub fn set_origin(&mut self, origin: Origin) {
        self.uncommitted.origin = Some(origin);
    }

    /// Applies a chunk; nothing is visible before [`TableWriter::commit`]. It blocks, so it must run on a thread that
    /// does not belong to an asynchronous runtime.
    pub fn apply(&mut self, chunk: &Chunk) -> Result<()> {
        if !self.has_uncommitted() && self.loaded_at.elapsed() >= RELOAD_AFTER {
            // Upkeep may have packed the table since.
            self.table = self.runtime.block_on(self.table.reload()).context("open the table in the lake")?;
            self.loaded_at = Instant::now();
        }
        let net = net_effect(chunk, &self.matching)?;
        match net.truncated_at {
            Some(at) if self.matching.deletes == Deletes::Mark => self.mark_all(at)?,
            Some(_) => {
                (self.writer, self.uncommitted.files) = (None, Vec::new());
                self.uncommitted.hidden = HiddenRows::default();
                self.uncommitted.added = 0;
                self.uncommitted.truncates = true;
            }
            None => {}
        }
        let found = self.find(&net)?;
        let all = self.complete_rows(chunk, &net, &found)?;
        if let Some(history) = &mut self.history {
            history.add(chunk, &all, &self.matching)?;
        }
        let rows = match net.kept.len() == all.num_rows() {
            true => all,
            false => take_record_batch(&all, &net.kept).context("select rows")?,
        };
        let deleted = self.deleted_rows(&net, &found)?;
        for row in &found {
            self.uncommitted.hidden.insert(&row.path, row.position);
        }
        let rows = lake::conform(&rows, &self.schema).context("write rows to the lake")?;
        self.write(&marked_rows(rows, &net)?)?;
        self.write(&deleted)
    }

    /// Writes rows by the table's schema.
    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        self.uncommitted.added += rows.num_rows() as u64;
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => none.insert(self.table.writer(&self.run, Arc::clone(&self.schema), self.runtime.clone())),
        };
        writer.write(rows).context("write rows to the lake")
    }

    /// Marks all rows as deleted.
    fn mark_all(&mut self, at_micros: i64) -> Result<()> {
        self.finish_files()?;
        let mut writer = self.table.writer(&self.run, Arc::clone(&self.schema), self.runtime.clone());
        let waiting = &mut self.uncommitted;
        let into = (&mut writer, &self.schema);
        let marked = mark_all(&self.table, &waiting.files, &mut waiting.hidden, at_micros, into, &self.runtime)?;
        waiting.added += marked;
        waiting.files.extend(writer.finish().context("write rows to the lake")?);
        Ok(())
    }

    /// The rows that were there before the chunk and are deleted by it, marked with the time.
    fn deleted_rows(&self, net: &NetEffect, found: &[FoundRow]) -> Result<RecordBatch> {
        let times: HashMap<usize, i64> = net
            .deleted
            .iter()
            .filter_map(|(base, at)| match base {
                Base::Before(index) => Some((*index as usize, *at)),
                Base::Row(_) => None,
            })
            .collect();
        let deleted: Vec<&FoundRow> = found.iter().filter(|row| times.contains_key(&row.index)).collect();
        if deleted.is_empty() {
            return Ok(RecordBatch::new_empty(Arc::clone(&self.schema)));
        }
        let places: Vec<(&str, u64)> = deleted.iter().map(|row| (row.path.as_ref(), row.position)).collect();
        let fetching = self.table.fetch_rows(&places, &self.schema, &self.uncommitted.files);
        let rows = self.runtime.block_on(fetching).context("read deleted rows")?;
        marked(&rows, &deleted.iter().map(|row| times.get(&row.index).copied()).collect::<Vec<_>>())
    }

    /// Commits what was applied, with the position up to which the table has the changes of the log.
    pub fn commit(&mut self, position: Lsn) -> Result<Applied> {
        self.finish_files()?;
        if let Some(history) = &mut self.history {
            history.commit(position)?;
        }
        self.commit_at(vec![(STREAM.to_owned(), position.to_i64())])
    }

    /// Reads the table again, where another process may have committed it. No rows may wait for a commit.
    pub fn reload(&mut self) -> Result<()> {
        let table = self.runtime.block_on(self.table.reload()).context("open the table in the lake")?;
        self.loaded_at = Instant::now();
        let waiting = self.uncommitted.schema.take();
        self.set_table(table)?;
        let Some(waiting) = waiting else { return Ok(()) };
        // The other process may have added columns, too.
        let present = Arc::clone(&self.schema);
        let added = waiting.fields().iter().filter(|field| present.column_with_name(field.name()).is_none());
        let fields: Vec<_> = present.fields().iter().chain(added).cloned().collect();
        if fields.len() > present.fields().len() { self.add_columns(Arc::new(Schema::new(fields))) } else { Ok(()) }
    }

    /// Commits what was applied, with positions by their names. A table with a history has one position.
    pub fn commit_at(&mut self, positions: Vec<(String, i64)>) -> Result<Applied> {
        self.finish_files()?;
        let waiting = std::mem::take(&mut self.uncommitted);
        let applied = Applied {
            added: waiting.added,
            removed: waiting.hidden.rows(),
            bytes: waiting.files.iter().map(|file| file.bytes).sum(),
        };
        fail::fail_point!("before-commit");
        let mut commit = match waiting.truncates {
            true => self.table.replace_files(&self.run, "changes", Arc::clone(&self.schema)),
            false => self.table.commit(&self.run, "changes"),
        };
        commit = commit.files(waiting.files).hide(waiting.hidden);
        for (name, position) in positions {
            commit = commit.position(name, position);
        }
        if let Some(schema) = waiting.schema {
            commit = commit.schema(schema);
        }
        if let Some(origin) = &waiting.origin {
            commit = with_origin(commit, origin)?;
        }
        self.runtime.block_on(commit.write()).context("commit")?;
        fail::fail_point!("after-commit");
        self.table = self.runtime.block_on(self.table.reload()).context("open the table in the lake")?;
        self.table = self.upkeep.after_commit(&self.table, &self.run, &self.runtime);
        self.loaded_at = Instant::now();
        Ok(applied)
    }

    /// Closes the open file, so that its rows can be found.
    pub fn finish_files(&mut self) -> Result<()> {
        if let Some(writer) = self.writer.take() {
            self.uncommitted.files.extend(writer.finish().context("write rows to the lake")?);
        }
        self.history.as_mut().map_or(Ok(()), HistoryWriter::finish_files)
    }

    /// The rows that are there and are to be removed.
    fn find(&mut self, net: &NetEffect) -> Result<Vec<FoundRow>> {
        if net.removed.num_rows() == 0 {
            return Ok(Vec::new());
        }
        self.finish_files()?;
        let keys = KeySet::of(&net.removed, &self.matching.columns).context("look for rows")?;
        let (table, waiting, order) = (&self.table, &self.uncommitted, OrderColumns::default());
        let search = async {
            let mut found = match waiting.truncates {
                true => Vec::new(),
                false => table.find(&keys, &order, &waiting.hidden).await?,
            };
            found.extend(table.find_uncommitted(&waiting.files, &keys, &order, &waiting.hidden).await?);
            Ok::<_, lake::Error>(found)
        };
        let mut found = self.runtime.block_on(search).context("look for rows")?;
        if !self.matching.is_unique {
            // One of several equal rows for each that is removed.
            let mut left = net.counts.clone();
            found.retain(|row| {
                let has_left = left[row.index] > 0;
                left[row.index] = left[row.index].saturating_sub(1);
                has_left
            });
        }
        Ok(found)
    }

    /// The new rows with the values that updates did not change. Without a history, only those that are there after the
    /// chunk need them.
    fn complete_rows(&self, chunk: &Chunk, net: &NetEffect, found: &[FoundRow]) -> Result<RecordBatch> {
        if chunk.unchanged.is_empty() {
            return Ok(chunk.rows.clone());
        }
        let mut columns = Vec::with_capacity(chunk.rows.num_columns());
        for (at, column) in chunk.rows.columns().iter().enumerate() {
            let lacking: Vec<u32> =
                chunk.unchanged.iter().filter(|(_, column)| usize::from(*column) == at).map(|(row, _)| *row).collect();
            columns.push(match lacking.is_empty() {
                true => Arc::clone(column),
                false => self.filled(chunk, net, found, at, &lacking)?,
            });
        }
        RecordBatch::try_new(chunk.rows.schema(), columns).context("fill rows")
    }

    /// A column with the values that the updates of the rows `lacking` did not change.
    fn filled(
        &self,
        chunk: &Chunk,
        net: &NetEffect,
        found: &[FoundRow],
        at: usize,
        lacking: &[u32],
    ) -> Result<ArrayRef> {
        let column = chunk.rows.column(at);
        let field = chunk.rows.schema_ref().field(at).clone();
        let is_wanted = |row: u32| match &self.history {
            Some(_) => chunk.selected.as_ref().is_none_or(|selected| selected[row as usize]),
            None => net.kept.values().binary_search(&row).is_ok(),
        };
        let by_index: HashMap<usize, &FoundRow> = found.iter().map(|row| (row.index, row)).collect();
        let mut sources: Vec<u32> = (0..column.len() as u32).collect();
        let mut fetched: Vec<(&str, u64)> = Vec::new();
        for row in lacking.iter().filter(|row| is_wanted(**row)) {
            sources[*row as usize] = match origin_of(*row, lacking, &net.bases) {
                Some(Base::Row(other)) => other,
                Some(Base::Before(index)) => {
                    let before = by_index.get(&(index as usize)).ok_or_else(|| self.lost_value(field.name()))?;
                    fetched.push((&before.path, before.position));
                    (column.len() + fetched.len() - 1) as u32
                }
                None => return Err(self.lost_value(field.name())),
            };
        }
        let name = field.name().clone();
        let schema = Arc::new(Schema::new(vec![field]));
        let mut parts = vec![RecordBatch::try_new(Arc::clone(&schema), vec![Arc::clone(column)]).context("fill rows")?];
        if !fetched.is_empty() {
            let fetching = self.table.fetch_rows(&fetched, &schema, &self.uncommitted.files);
            let context = format!("read unchanged values of column {name:?}");
            parts.push(self.runtime.block_on(fetching).context(context)?);
        }
        let all = concat_batches(&schema, &parts).context("fill rows")?;
        take(all.column(0), &UInt32Array::from(sources), None).context("fill rows")
    }

    fn lost_value(&self, column: &str) -> Error {
        Error::input(format!(
            "apply an update to {}: the value of column {column:?} did not change, and the row is not in the lake",
            self.table.name()
        ))
        .state("row-missing")
    }
}

/// The new rows of a chunk that are kept, where those that it deletes again are marked with the time.
fn marked_rows(rows: RecordBatch, net: &NetEffect) -> Result<RecordBatch> {
    let mut times = vec![None; rows.num_rows()];
    for (base, at) in &net.deleted {
        if let Base::Row(row) = base
            && let Ok(place) = net.kept.values().binary_search(row)
        {
            times[place] = Some(*at);
        }
    }
    if times.iter().all(Option::is_none) { Ok(rows) } else { marked(&rows, &times) }
}

/// The row with the value that an update did not change, through the updates before it in the chunk.
fn origin_of(row: u32, lacking: &[u32], bases: &HashMap<u32, Base>) -> Option<Base> {
    let mut at = row;
    loop {
        match bases.get(&at)? {
            Base::Row(other) if lacking.binary_search(other).is_ok() => at = *other,
            base => return Some(*base),
        }
    }
}
