//! A table of the lake, or of another PostgreSQL, that messages change.

mod lake_table;
mod rows_writer;
mod widen;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lake::TableName;
use stream::message::{ColumnDefinition, Operation, TableDefinition, Values};
use tokio::runtime::Handle;

use super::definitions::{DefinedBy, Definitions, KnownTable, extended, unknown_columns};
use super::postgres_table::PostgresTable;
use super::replay::Epochs;
use super::rows::{RowsBuilder, schema_of};
use super::{ConsumeRequest, ConsumeTarget, LeftOut};
use crate::changes::table_writer::Applied;
use crate::changes::{ChangeCounts, StreamStore};
use crate::destination::deleted_rows::with_deleted_at;
use crate::destination::lake::with_origin;
use crate::error::{Context, Error, Result};
use crate::settings::Deletes;
use lake_table::{of_lake, origin, writer};
use rows_writer::RowsWriter;

/// Changes are committed at this number, or at this size, also before their time.
const CHUNK_CHANGES: usize = 100_000;
const CHUNK_BYTES: usize = 32 << 20;

/// How messages of a shard are known to a table: the positions of a replay are apart from those before it.
pub fn position_name(transfer: &str, epoch: u64, shard: &str) -> String {
    format!("wattlake.stream.{transfer}.{epoch}.{shard}")
}

/// A table.
pub struct ConsumedTable {
    /// `schema.table` of the messages.
    pub name: String,
    /// The table in the lake.
    pub target: TableName,
    /// What was received and committed.
    pub counts: ChangeCounts,
    /// Why it takes no more changes.
    pub error: Option<Error>,
    definition: TableDefinition,
    key: Vec<usize>,
    rows: RowsBuilder,
    /// See [`RowsBuilder::new`].
    is_exact: bool,
    writer: Option<RowsWriter>,
    /// The positions that the table has, by shard.
    committed: BTreeMap<String, u64>,
    /// The positions of the changes that are collected.
    collected: BTreeMap<String, u64>,
    /// For each shard, the position before the first change that is not committed.
    uncommitted_from: BTreeMap<String, u64>,
    /// When the oldest change that is not committed was made.
    pub oldest: Option<i64>,
    committed_at: Option<Instant>,
    lock: PathBuf,
    /// No control message has told its key.
    lacks_control: bool,
    /// That it was created is noted.
    is_noted: bool,
    runtime: Handle,
}

/// A change of a message.
pub struct MessageChange<'m, 'a> {
    /// What happened.
    pub operation: Operation,
    /// The row.
    pub values: &'m Values<'a>,
    /// The row before.
    pub before: Option<&'m Values<'a>>,
    /// Columns that the log did not have.
    pub unchanged: &'m [String],
    /// When, in microseconds since 1970.
    pub at_micros: i64,
    /// The size of the message.
    pub bytes: usize,
}

impl ConsumedTable {
    /// A table that takes no changes.
    pub fn refused(request: &ConsumeRequest, name: &str, target: TableName, error: Error, runtime: &Handle) -> Self {
        let mut table = ConsumedTable::new(request, name, target, TableDefinition::default(), None, runtime);
        table.error = Some(error);
        table
    }

    /// Opens a table, as control messages have defined it, or as the lake has it.
    pub fn open(
        request: &ConsumeRequest,
        name: &str,
        target: TableName,
        known: Option<KnownTable>,
        whole_epoch: u64,
        runtime: &Handle,
    ) -> Result<ConsumedTable> {
        let opening = || runtime.block_on(request.lake.table(&target)).context(format!("open {target} in the lake"));
        let table = match &request.target {
            ConsumeTarget::Lake => opening()?,
            ConsumeTarget::Postgres(_) => None,
        };
        let (lacks_control, created_in) =
            known.as_ref().map_or((true, None), |known| (known.lacks_control, known.created_in));
        let mut definition = match (known, &table) {
            (Some(known), _) if !known.definition.columns.is_empty() => known.definition,
            (_, Some(table)) => of_lake(table)?,
            (_, None) => TableDefinition::default(),
        };
        if let Some(key) = request.settings.keys.get(name) {
            definition.primary_key.clone_from(key);
        }
        let writer = match (&request.target, table) {
            (ConsumeTarget::Postgres(server), _) => {
                let found = PostgresTable::find(request, server, name, &target, &definition.primary_key)?;
                found.map(|table| RowsWriter::Postgres(Box::new(table)))
            }
            (ConsumeTarget::Lake, Some(table)) => {
                Some(RowsWriter::Lake(Box::new(writer(request, table, name, &definition, runtime)?)))
            }
            (ConsumeTarget::Lake, None) => None,
        };
        // A later replay from the beginning fills it again.
        if writer.is_none() && created_in.is_some_and(|created_in| created_in >= whole_epoch) {
            let what = format!("apply changes to {name}: {target} is not there any more, and with it its earlier rows");
            return Err(Error::input(what).state("target-removed").hint("read all of it again"));
        }
        let mut table = ConsumedTable::new(request, name, target, definition, writer, runtime);
        (table.lacks_control, table.is_noted) = (lacks_control, created_in.is_some());
        Ok(table)
    }

    fn new(
        request: &ConsumeRequest,
        name: &str,
        target: TableName,
        definition: TableDefinition,
        writer: Option<RowsWriter>,
        runtime: &Handle,
    ) -> ConsumedTable {
        let key = key_places(&definition);
        let is_exact = matches!(request.target, ConsumeTarget::Postgres(_));
        let lock = request.scratch.join(format!("{}.{target}.lock", request.settings.name));
        ConsumedTable {
            name: name.to_owned(),
            target,
            counts: ChangeCounts::default(),
            error: None,
            rows: RowsBuilder::new(&definition, &key, is_exact),
            is_exact,
            definition,
            key,
            writer,
            committed: BTreeMap::new(),
            collected: BTreeMap::new(),
            uncommitted_from: BTreeMap::new(),
            oldest: None,
            committed_at: None,
            lock,
            lacks_control: true,
            is_noted: false,
            runtime: runtime.clone(),
        }
    }

    /// The replay whose positions count.
    fn epoch(&self, epochs: Epochs) -> u64 {
        if self.has_key() { epochs.keyed } else { epochs.keyless }
    }

    /// The position up to which the table has a shard's changes.
    pub fn position(&mut self, transfer: &str, epochs: Epochs, shard: &str) -> Result<u64> {
        let epoch = self.epoch(epochs);
        if let Some(position) = self.committed.get(shard) {
            return Ok(*position);
        }
        let position = match &self.writer {
            Some(writer) => {
                let name = position_name(transfer, epoch, shard);
                writer.position(&name, &self.runtime)?.unwrap_or_default().cast_unsigned()
            }
            None => 0,
        };
        self.committed.insert(shard.to_owned(), position);
        Ok(position)
    }

    /// Whether its columns are known.
    pub fn is_defined(&self) -> bool {
        !self.definition.columns.is_empty()
    }

    /// Whether its rows can be told apart: a table without a key has all columns as its key.
    pub fn has_key(&self) -> bool {
        !self.definition.primary_key.is_empty()
    }

    /// Whether a delete can't be applied: the key is not known, and the message does not have all columns.
    pub fn lacks_columns_of_rows(&self, values: &Values<'_>) -> bool {
        let has = |(at, column): (usize, &ColumnDefinition)| values.get(&column.name, at).is_some();
        self.lacks_control && !self.has_key() && !self.definition.columns.iter().enumerate().all(has)
    }

    /// Whether a row with further columns can be applied.
    ///
    /// # Errors
    /// What is wrong with the message.
    pub fn try_with(
        &self,
        further: &TableDefinition,
        operation: Operation,
        values: &Values<'_>,
        before: Option<&Values<'_>>,
    ) -> std::result::Result<(), String> {
        let Some(all) = extended(&self.definition, further, DefinedBy::Row)? else { return Ok(()) };
        let rows = RowsBuilder::new(&all, &key_places(&all), self.is_exact);
        rows.read(operation, values, before, LeftOut::Null, &[]).map(drop)
    }

    /// Follows a definition. Returns it where it is another one.
    ///
    /// # Errors
    /// A column whose type has changed so that the values before do not fit into it.
    pub fn define(
        &mut self,
        request: &ConsumeRequest,
        epochs: Epochs,
        now: &TableDefinition,
        by: DefinedBy,
    ) -> Result<Option<TableDefinition>> {
        self.lacks_control &= by == DefinedBy::Row;
        let all = extended(&self.definition, now, by).map_err(|what| {
            let hint = "have the transfer that publishes carry it by another name, which a table mapping gives it";
            Error::input(format!("follow the columns of {}: {what}", self.name)).state("columns-changed").hint(hint)
        })?;
        let Some(mut all) = all else { return Ok(None) };
        if let Some(key) = request.settings.keys.get(&self.name) {
            all.primary_key.clone_from(key);
        }
        let (before, now) = (schema_of(&self.definition), schema_of(&all));
        let changed = before.fields().iter().zip(now.fields()).filter(|(before, now)| before != now);
        let wider: Vec<String> = changed.map(|(_, now)| now.name().clone()).collect();
        let is_rekeyed = self.is_defined() && all.primary_key != self.definition.primary_key;
        if (is_rekeyed || !wider.is_empty()) && self.has_changes() {
            self.commit(request, epochs)?;
        } else if !self.rows.is_empty() {
            self.ensure_writer(request)?;
            self.apply()?;
        }
        let was_defined = self.is_defined();
        self.definition = all;
        self.key = key_places(&self.definition);
        self.rows = RowsBuilder::new(&self.definition, &self.key, self.is_exact);
        if !wider.is_empty() {
            self.widen(request)?;
        }
        if let Some(writer) = &mut self.writer {
            writer.define(&self.definition, &wider, is_rekeyed, request.settings.deletes)?;
        }
        self.counts.ddls += u64::from(was_defined);
        Ok(Some(self.definition.clone()))
    }

    /// The definition with the columns of a message that no control message has defined; `None` where all are known.
    pub fn with_columns_of(&self, values: &Values<'_>) -> Option<TableDefinition> {
        if values.0.len() <= self.definition.columns.len()
            && values.0.iter().zip(&self.definition.columns).all(|((name, _), column)| *name == column.name)
        {
            return None;
        }
        let columns = unknown_columns(&self.definition, values);
        (!columns.is_empty()).then(|| TableDefinition { columns, primary_key: Vec::new() })
    }

    /// Collects a change, whose message is at a position of a shard.
    ///
    /// # Errors
    /// What is wrong with the message.
    pub fn collect(
        &mut self,
        change: &MessageChange<'_, '_>,
        (shard, position): (&str, u64),
        left_out: LeftOut,
    ) -> std::result::Result<(), String> {
        let row = self.rows.read(change.operation, change.values, change.before, left_out, change.unchanged)?;
        self.rows.push(row, change.at_micros, change.bytes);
        match change.operation {
            Operation::Load | Operation::Insert => self.counts.inserts += 1,
            Operation::Update => self.counts.updates += 1,
            Operation::Delete => self.counts.deletes += 1,
        }
        self.note(shard, position, change.at_micros);
        Ok(())
    }

    /// Collects the removal of all rows.
    pub fn truncate(&mut self, positions: &[(String, u64)], at_micros: i64) {
        self.rows.truncate(at_micros);
        self.counts.truncates += 1;
        for (shard, position) in positions {
            self.note(shard, *position, at_micros);
        }
    }

    fn note(&mut self, shard: &str, position: u64, at_micros: i64) {
        match self.collected.get_mut(shard) {
            Some(collected) => *collected = position,
            None => {
                self.collected.insert(shard.to_owned(), position);
                self.uncommitted_from.entry(shard.to_owned()).or_insert(position - 1);
            }
        }
        self.oldest.get_or_insert(at_micros);
    }

    /// The position before the first change of a shard that is not committed.
    pub fn needs_from(&self, shard: &str) -> Option<u64> {
        self.uncommitted_from.get(shard).copied()
    }

    /// Has it take no more changes; what it has collected is given up.
    pub fn refuse(&mut self, error: Error) {
        self.rows = RowsBuilder::new(&self.definition, &self.key, self.is_exact);
        self.collected.clear();
        self.uncommitted_from.clear();
        (self.oldest, self.writer, self.error) = (None, None, Some(error));
    }

    /// The size of what is collected.
    pub fn bytes(&self) -> usize {
        self.rows.bytes()
    }

    /// Whether the collected changes are to be committed, so that memory does not grow.
    pub fn is_full(&self) -> bool {
        self.rows.len() >= CHUNK_CHANGES || self.rows.bytes() >= CHUNK_BYTES
    }

    /// Whether there is something to commit.
    pub fn has_changes(&self) -> bool {
        !self.collected.is_empty() || self.writer.as_ref().is_some_and(RowsWriter::has_uncommitted)
    }

    /// Whether it is to be committed.
    pub fn is_due(&self, interval: Duration) -> bool {
        self.has_changes() && self.committed_at.is_none_or(|at| at.elapsed() >= interval)
    }

    /// Applies what is collected; nothing is visible before the commit.
    fn apply(&mut self) -> Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let Some(writer) = &mut self.writer else {
            return Err(Error::bug(format!("apply changes to {}: it is not open", self.name)));
        };
        writer.apply(self.rows.take()?)
    }

    /// Applies what is collected, and commits it with its positions. Another worker may have committed the table since:
    /// what it has of other shards stays, and where it has a shard of this one, the shard was lost to it.
    pub fn commit(&mut self, request: &ConsumeRequest, epochs: Epochs) -> Result<Applied> {
        let (transfer, epoch) = (&request.settings.name, self.epoch(epochs));
        let _lock = TableLock::take(&self.lock)?;
        self.ensure_writer(request)?;
        if let Some(writer) = self.writer.as_mut() {
            writer.reload()?;
            for shard in self.collected.keys() {
                let found = writer.position(&position_name(transfer, epoch, shard), &self.runtime)?;
                let known = self.committed.get(shard).copied().unwrap_or_default();
                if found.unwrap_or_default().cast_unsigned() != known {
                    let what = format!("apply changes to {}: another worker reads shard {shard} now", self.name);
                    return Err(Error::retry(what).state("shard-taken"));
                }
            }
        }
        self.apply()?;
        let collected = std::mem::take(&mut self.collected);
        let position = |(shard, position): (&String, &u64)| {
            let before = self.committed.get(shard).copied().unwrap_or_default();
            (position_name(transfer, epoch, shard), position.cast_signed(), before.cast_signed())
        };
        let positions = collected.iter().map(position).collect();
        let writer = self.writer.as_mut().ok_or_else(|| Error::bug("commit a table that is not open"))?;
        let applied = writer.commit_at(positions)?;
        self.committed.extend(collected);
        self.uncommitted_from.clear();
        self.oldest = None;
        self.committed_at = Some(Instant::now());
        self.note_creation(request, epochs)?;
        self.counts.commits += 1;
        self.counts.added += applied.added;
        self.counts.removed += applied.removed;
        self.counts.bytes += applied.bytes;
        Ok(applied)
    }

    /// Creates the table, as a control message says, where it is not there.
    pub fn create(&mut self, request: &ConsumeRequest, epochs: Epochs) -> Result<()> {
        let _lock = TableLock::take(&self.lock)?;
        self.ensure_writer(request)?;
        self.note_creation(request, epochs)
    }

    /// Notes that the table is there: where it is not, later, somebody has removed it.
    fn note_creation(&mut self, request: &ConsumeRequest, epochs: Epochs) -> Result<()> {
        if self.is_noted {
            return Ok(());
        }
        let (store, transfer) = (StreamStore::Lake(&request.lake), &request.settings.name);
        let noted = Definitions::note_creation(store, transfer, &self.name, Some(epochs.keyed));
        self.runtime.block_on(noted)?;
        self.is_noted = true;
        Ok(())
    }

    /// Creates the table, where it is not there.
    fn ensure_writer(&mut self, request: &ConsumeRequest) -> Result<()> {
        if self.writer.is_some() {
            return Ok(());
        }
        if let ConsumeTarget::Postgres(server) = &request.target {
            let table = PostgresTable::create(request, server, &self.name, &self.target, &self.definition)?;
            self.writer = Some(RowsWriter::Postgres(Box::new(table)));
            return Ok(());
        }
        let (lake, name) = (&request.lake, self.name.clone());
        let schema = schema_of(&self.definition);
        let schema = if request.settings.deletes == Deletes::Mark { with_deleted_at(&schema) } else { schema };
        let origin = origin(request, &self.name, &self.definition);
        let context = format!("create {} in the lake", self.target);
        let table = self.runtime.block_on(async {
            if let Some(table) = lake.table(&self.target).await.context(context.clone())? {
                return Ok(table);
            }
            let commit = lake.replace(&self.target, schema, &request.run, "stream").await.context(context.clone())?;
            with_origin(commit, &origin)?.write().await.context(context.clone())?;
            let table = lake.table(&self.target).await.context(context.clone())?;
            table.ok_or_else(|| Error::bug(context.clone()))
        })?;
        let writer = writer(request, table, &name, &self.definition, &self.runtime)?;
        self.writer = Some(RowsWriter::Lake(Box::new(writer)));
        Ok(())
    }
}

/// Workers of one machine commit a table one after the other.
struct TableLock(#[expect(dead_code, reason = "the lock is released with the file")] File);

impl TableLock {
    fn take(path: &Path) -> Result<TableLock> {
        let context = || format!("lock {}", path.display());
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|e| Error::setup(context()).because(e))?;
        }
        let file = File::options().create(true).write(true).truncate(false).open(path);
        let file = file.map_err(|e| Error::setup(context()).because(e))?;
        file.lock().map_err(|e| Error::retry(context()).because(e))?;
        Ok(TableLock(file))
    }
}

fn key_places(definition: &TableDefinition) -> Vec<usize> {
    match definition.primary_key.is_empty() {
        true => (0..definition.columns.len()).collect(),
        false => definition.primary_key.iter().filter_map(|name| definition.place(name)).collect(),
    }
}

/// Keeps a definition, so that the next worker knows it.
pub fn keep(
    request: &ConsumeRequest,
    name: &str,
    definition: &TableDefinition,
    by: DefinedBy,
    runtime: &Handle,
) -> Result<()> {
    let store = StreamStore::Lake(&request.lake);
    runtime.block_on(Definitions::add(store, &request.settings.name, name, definition, by))
}
