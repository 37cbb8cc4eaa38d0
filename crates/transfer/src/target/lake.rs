//! The lake as a target: INITIAL replaces a table in one commit, INCREMENTAL adds to it in one.
//! The position lies in the same commit as the rows.

use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::{cast, concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use lake::{DataFile, FileWriter, Hidden, Keys, Lake, Orders, Table, TableName};
use tokio::runtime::Handle;

use super::evolve::{Evolution, evolve};
use super::legacy;
use crate::checkpoint::{Checkpoint, Origin, Position};
use crate::cursor::Cursor;
use crate::error::{Context, Error, Result};
use crate::plan::TablePlan;
use crate::read::{Reading, Sink};
use crate::resume::TargetState;

/// Rows that are looked up together, and their bytes: what the look-up's memory grows with. One row more may come on top.
const CHUNK_ROWS: usize = 262_144;
const CHUNK_BYTES: usize = 64 << 20;

/// The properties of a table that hold its checkpoint.
const ORIGIN: &str = "wattlake.origin";
const POSITION: &str = "wattlake.position";

/// What the lake has of the table.
pub async fn target_state(table: &Table, transfer: &str, plan: &TablePlan) -> Result<TargetState> {
    let read = |name: &str| table.property(name).context("read the table's checkpoint");
    let (origin, position) = (read(ORIGIN)?, read(POSITION)?);
    let has_rows = table.size().context("read the table's size")?.rows > 0;
    let checkpoint = match (parsed(origin)?, parsed(position)?) {
        (None, None) => legacy::position(table, transfer, plan)
            .await?
            .map(|position| Checkpoint { origin: None, position: Some(position) }),
        (origin, position) => Some(Checkpoint { origin, position }),
    };
    Ok(TargetState { checkpoint, has_rows })
}

fn parsed<T: serde::de::DeserializeOwned>(text: Option<String>) -> Result<Option<T>> {
    let parse = |text: String| {
        serde_json::from_str::<Option<T>>(&text).map_err(|e| {
            let error = Error::setup("read the table's checkpoint").because(e);
            error.hint("a newer Wattlake may have written it: use that one")
        })
    };
    Ok(text.map(parse).transpose()?.flatten())
}

fn keep(commit: lake::Commit, kept: &CheckpointUpdate<'_>, position: Option<&Position>) -> Result<lake::Commit> {
    let text = |value: serde_json::Result<String>| value.map_err(|e| Error::bug("write the checkpoint").because(e));
    let mut commit = commit;
    if kept.before != Some(&kept.origin) {
        commit = commit.property(ORIGIN, text(serde_json::to_string(&kept.origin))?);
    }
    Ok(commit.property(POSITION, text(serde_json::to_string(&position))?))
}

/// What goes into a commit beside the rows.
pub struct CheckpointUpdate<'a> {
    pub run: &'a str,
    pub origin: Origin,
    /// The origin that the table has already.
    pub before: Option<&'a Origin>,
}

/// What a table's transfer into the lake left.
#[derive(Debug, Clone, Copy, Default)]
pub struct Written {
    pub rows: u64,
    /// Rows that took the place of an earlier version of theirs.
    pub replaced: u64,
    pub bytes: u64,
    pub version: Option<u64>,
}

/// Writes a stream's batches and remembers the greatest integer of the cursor.
pub struct InitialSink {
    writer: FileWriter,
    cursor: Option<Cursor>,
    top: Option<i64>,
}

impl InitialSink {
    pub fn new(lake: &Lake, target: &TableName, run: &str, schema: &SchemaRef, cursor: Option<&Cursor>) -> Self {
        let writer = lake.writer(target, run, Arc::clone(schema), Handle::current());
        InitialSink { writer, cursor: cursor.cloned(), top: None }
    }
}

impl Sink for InitialSink {
    type Done = (Vec<DataFile>, Option<i64>);

    fn take(&mut self, batch: RecordBatch) -> Result<()> {
        if let Some(cursor) = &self.cursor {
            self.top = self.top.max(greatest(&batch, cursor)?);
        }
        self.writer.write(&batch).context("write rows to the lake")
    }

    fn done(self) -> Result<Self::Done> {
        Ok((self.writer.finish().context("write rows to the lake")?, self.top))
    }
}

/// The values of a single integer cursor.
fn integers(batch: &RecordBatch, cursor: &Cursor) -> Result<Option<Int64Array>> {
    let Some(column) = cursor.integer() else { return Ok(None) };
    let values = batch
        .column_by_name(&column.name)
        .ok_or_else(|| Error::bug(format!("read the cursor {:?}, which is not carried", column.name)))?;
    let integers = cast(values, &DataType::Int64).context("read the cursor")?;
    Ok(Some(integers.as_primitive::<Int64Type>().clone()))
}

fn greatest(batch: &RecordBatch, cursor: &Cursor) -> Result<Option<i64>> {
    Ok(integers(batch, cursor)?.and_then(|values| arrow::compute::max(&values)))
}

/// How rows are matched with those that the table has.
#[derive(Clone)]
pub struct RowMatching {
    pub key: Vec<String>,
    /// A row is the same version as the table's where its cursor is; `None`: the one that is read counts, always.
    pub cursor: Option<Cursor>,
    /// Keys above it are new: they need no look-up.
    pub top: Option<i64>,
    /// Where the cursor is the key: rows above it have come to the source since, whatever the table has under their key.
    /// `None` where rows below it have too.
    pub high: Option<i64>,
}

/// Matches rows with the table's by key, and lets those that were read take their places.
pub struct IncrementSink {
    table: Table,
    writer: FileWriter,
    schema: SchemaRef,
    matching: RowMatching,
    orders: Orders,
    cursor: Option<Cursor>,
    waiting: Vec<RecordBatch>,
    waiting_rows: usize,
    waiting_bytes: usize,
    hidden: Hidden,
    top: Option<i64>,
    rows: u64,
    runtime: Handle,
}

/// What an increment comes to.
#[derive(Default)]
pub struct Increment {
    pub files: Vec<DataFile>,
    pub hidden: Hidden,
    pub top: Option<i64>,
    pub rows: u64,
}

impl IncrementSink {
    pub fn new(table: &Table, plan: &TablePlan, matching: &RowMatching, schema: &SchemaRef, run: &str) -> Self {
        let names = matching.cursor.as_ref().map(Cursor::names).unwrap_or_default();
        let types = names.iter().filter_map(|name| Some(schema.field_with_name(name).ok()?.data_type().clone()));
        IncrementSink {
            writer: table.writer(run, Arc::clone(schema), Handle::current()),
            table: table.clone(),
            schema: Arc::clone(schema),
            orders: Orders { types: types.collect(), names },
            matching: matching.clone(),
            cursor: plan.cursor.clone(),
            waiting: Vec::new(),
            waiting_rows: 0,
            waiting_bytes: 0,
            hidden: Hidden::default(),
            top: None,
            rows: 0,
            runtime: Handle::current(),
        }
    }

    fn flush(&mut self) -> Result<()> {
        let Some(first) = self.waiting.first() else { return Ok(()) };
        let batch = concat_batches(&first.schema(), &self.waiting).context("join batches")?;
        self.waiting.clear();
        (self.waiting_rows, self.waiting_bytes) = (0, 0);
        let is_new = self.new_rows(&batch)?;
        let known_at: Vec<usize> = (0..batch.num_rows()).filter(|at| !is_new[*at]).collect();
        let mut keep = vec![true; batch.num_rows()];
        if !known_at.is_empty() {
            let known: BooleanArray = is_new.iter().map(|is_new| Some(!is_new)).collect();
            let looked_for = filter_record_batch(&batch, &known).context("select rows")?;
            self.match_rows(&looked_for, &known_at, &mut keep)?;
        }
        let batch = filter_record_batch(&batch, &BooleanArray::from(keep)).context("select rows")?;
        self.rows += batch.num_rows() as u64;
        let batch = lake::conform(&batch, &self.schema).context("write rows to the lake")?;
        self.writer.write(&batch).context("write rows to the lake")
    }

    /// Where the cursor is the key, values above all that were carried are of rows that the table can't have.
    fn new_rows(&self, batch: &RecordBatch) -> Result<Vec<bool>> {
        let values = match (&self.matching.cursor, self.matching.top) {
            (Some(cursor), Some(top)) if cursor.is_key => integers(batch, cursor)?.map(|values| (values, top)),
            _ => None,
        };
        Ok(match values {
            None => vec![false; batch.num_rows()],
            Some((values, top)) => values.iter().map(|value| value.is_some_and(|value| value > top)).collect(),
        })
    }

    /// Whether there are rows whose cursor, being their key, can't say if they are what the table has: of a table whose
    /// ids began again, and of ids far ahead.
    fn has_come_since(&self, looked_for: &RecordBatch) -> Result<bool> {
        Ok(match &self.matching.cursor {
            Some(cursor) if cursor.is_key => greatest(looked_for, cursor)? > self.matching.high,
            _ => false,
        })
    }

    /// Rows are the same where all of their values are.
    fn whole_rows(&self) -> Orders {
        let fields = self.schema.fields();
        Orders {
            names: fields.iter().map(|field| field.name().clone()).collect(),
            types: fields.iter().map(|field| field.data_type().clone()).collect(),
        }
    }

    fn match_rows(&mut self, looked_for: &RecordBatch, known_at: &[usize], keep: &mut [bool]) -> Result<()> {
        let matching = &self.matching;
        let context = || format!("look for rows of {}", self.table.name());
        let keys = if matching.cursor.is_some() {
            Keys::of(looked_for, &matching.key)
        } else {
            Keys::any(looked_for, &matching.key)
        };
        let keys = keys.context(context())?;
        let orders = if self.has_come_since(looked_for)? { self.whole_rows() } else { self.orders.clone() };
        let search = self.table.find(&keys, &orders, &self.hidden);
        let found = self.runtime.block_on(search).context("look for rows")?;
        let orders = match orders.names.is_empty() || found.is_empty() {
            true => None,
            false => Some(lake::orders_of(looked_for, &orders.names, &orders.types).context("look for rows")?),
        };
        for row in found {
            let is_same = orders.as_ref().is_some_and(|orders| row.order == Some(orders[row.index]));
            if is_same {
                keep[known_at[row.index]] = false;
            } else {
                self.hidden.row(&row.path, row.position);
            }
        }
        Ok(())
    }
}

impl Sink for IncrementSink {
    type Done = Increment;

    fn take(&mut self, batch: RecordBatch) -> Result<()> {
        if let Some(cursor) = &self.cursor {
            self.top = self.top.max(greatest(&batch, cursor)?);
        }
        self.waiting_rows += batch.num_rows();
        self.waiting_bytes += batch.get_array_memory_size();
        self.waiting.push(batch);
        if self.waiting_rows >= CHUNK_ROWS || self.waiting_bytes >= CHUNK_BYTES { self.flush() } else { Ok(()) }
    }

    fn done(mut self) -> Result<Increment> {
        self.flush()?;
        let files = self.writer.finish().context("write rows to the lake")?;
        Ok(Increment { files, hidden: self.hidden, top: self.top, rows: self.rows })
    }
}

/// Reads the table whole and replaces what the lake has of it.
pub async fn initial(
    lake: &Lake,
    reading: &Arc<Reading>,
    streams: usize,
    keep: &CheckpointUpdate<'_>,
    position: Option<Position>,
) -> Result<Written> {
    let (plan, run) = (&reading.plan, keep.run);
    let schema = schema_of(plan);
    let sinks =
        (0..streams).map(|_| InitialSink::new(lake, &plan.target, run, &schema, plan.cursor.as_ref())).collect();
    let parts = reading.run(sinks).await?;
    let top = parts.iter().filter_map(|(_, top)| *top).max();
    let files: Vec<DataFile> = parts.into_iter().flat_map(|(files, _)| files).collect();
    fail::fail_point!("before-commit");
    let (rows, bytes) = (files.iter().map(|f| f.rows).sum(), files.iter().map(|f| f.bytes).sum());
    let commit = lake.replace(&plan.target, schema, run, "initial").await.context("start the commit")?.files(files);
    let position = position.map(|position| Position { top, ..position });
    let commit = self::keep(commit.order(&plan.key), keep, position.as_ref())?;
    let version = commit.write().await.context("commit")?;
    fail::fail_point!("after-commit");
    Ok(Written { rows, replaced: 0, bytes, version: Some(version) })
}

/// How rows are added to a table that is there.
pub struct Addition<'a> {
    pub update: &'a CheckpointUpdate<'a>,
    pub matching: RowMatching,
    /// The position before and after it; none before where the table is read again.
    pub before: Option<&'a Position>,
    pub after: Option<Position>,
    /// For columns that are new: the values of rows that are older than the column.
    pub defaults: Option<RecordBatch>,
    /// Columns that become NULL in all rows that the table has.
    pub cleared: Vec<String>,
    pub streams: usize,
    pub operation: &'static str,
}

/// Reads rows and adds them: those that take the place of an earlier version of theirs hide it.
pub async fn add(table: Table, reading: &Arc<Reading>, addition: Addition<'_>) -> Result<Written> {
    let (plan, run) = (&reading.plan, addition.update.run);
    let table = clear(table, run, &addition.cleared).await?;
    let (table, schema, evolved) = fit(table, plan, run, addition.defaults.as_ref()).await?;
    let sink = |_| IncrementSink::new(&table, plan, &addition.matching, &schema, run);
    let mut whole = Increment::default();
    for part in reading.run((0..addition.streams).map(sink).collect()).await? {
        whole.files.extend(part.files);
        whole.hidden.merge(part.hidden);
        whole.top = whole.top.max(part.top);
        whole.rows += part.rows;
    }
    fail::fail_point!("before-commit");
    let after = addition.after.map(|after| Position { top: after.top.max(whole.top), ..after });
    // A writer that was remembered, or has to be from now on, is news of its own.
    let xid = |position: Option<&Position>| position.and_then(|position| position.xid).is_none();
    let has_news = !xid(addition.before) || !xid(after.as_ref()) || addition.before.is_none();
    // So is a partition that is gone or there again.
    let has_news =
        has_news || addition.update.before.is_none_or(|before| before.storage != addition.update.origin.storage);
    if whole.files.is_empty() && whole.hidden.is_empty() && !evolved && !has_news {
        return Ok(Written::default());
    }
    let bytes = whole.files.iter().map(|f| f.bytes).sum();
    let replaced = whole.hidden.rows();
    let mut commit = table.commit(run, addition.operation).files(whole.files).hide(whole.hidden);
    if evolved {
        commit = commit.schema(schema);
    }
    let version = keep(commit, addition.update, after.as_ref())?.write().await.context("commit")?;
    fail::fail_point!("after-commit");
    Ok(Written { rows: whole.rows, replaced, bytes, version: Some(version) })
}

/// Keeps what was found of the source, without a row.
pub async fn keep_position(table: &Table, run: &str, position: &Position) -> Result<()> {
    let text = serde_json::to_string(&Some(position)).map_err(|e| Error::bug("write the checkpoint").because(e))?;
    table.commit(run, "refuse").property(POSITION, text).write().await.context("keep what was found")?;
    Ok(())
}

/// Takes a table over without a row: from now on its checkpoint names another transfer, or another source.
pub async fn hand_over(table: &Table, run: &str, checkpoint: &Checkpoint) -> Result<()> {
    let Some(origin) = checkpoint.origin.clone() else { return Ok(()) };
    let kept = CheckpointUpdate { run, origin, before: None };
    let commit = keep(table.commit(run, "hand over"), &kept, checkpoint.position.as_ref())?;
    commit.write().await.context("commit")?;
    Ok(())
}

/// Makes columns NULL, in a commit of its own.
async fn clear(table: Table, run: &str, columns: &[String]) -> Result<Table> {
    if columns.is_empty() {
        return Ok(table);
    }
    let context = "clear the columns whose mapping has changed";
    let schema = table.schema().context(context)?;
    let files = table.clear(run, columns).await.context(context)?;
    // Without a position, whatever run comes next reads the table again: rows that the source has get their values.
    let commit = table.rewritten(run, "clear", schema).files(files).property(POSITION, "null");
    commit.write().await.context(context)?;
    table.reload().await.context(context)
}

/// Makes the table fit the source: wider types, and columns whose older rows have a value, are taken over in a commit
/// of their own, other new columns with the rows that bring them.
async fn fit(
    table: Table,
    plan: &TablePlan,
    run: &str,
    defaults: Option<&RecordBatch>,
) -> Result<(Table, SchemaRef, bool)> {
    let present = table.schema().context("read the table's schema")?;
    let schema = match evolve(&plan.source.display(), &present, &schema_of(plan), &plan.replace)? {
        Evolution::Same => return Ok((table, present, false)),
        Evolution::Add(schema) if defaults.is_none() => return Ok((table, schema, true)),
        Evolution::Add(schema) | Evolution::Rewrite(schema) => schema,
    };
    let context = "take the source's new types and columns over";
    let files = table.rewrite(run, Arc::clone(&schema), defaults).await.context(context)?;
    table.rewritten(run, "widen", Arc::clone(&schema)).files(files).write().await.context(context)?;
    Ok((table.reload().await.context(context)?, schema, false))
}

pub fn schema_of(plan: &TablePlan) -> SchemaRef {
    let fields: Vec<arrow::datatypes::Field> =
        plan.columns.iter().map(|c| arrow::datatypes::Field::new(&c.name, c.kind.arrow(), true)).collect();
    Arc::new(arrow::datatypes::Schema::new(fields))
}
