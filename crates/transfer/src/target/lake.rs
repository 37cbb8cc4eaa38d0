//! The lake as a target: INITIAL replaces a table in one commit, INCREMENTAL adds to it in one.
//! The position lies in the same commit as the rows.

use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{cast, concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use lake::{DataFile, FileWriter, Hidden, Keys, Lake, Table, TableName};
use tokio::runtime::Handle;

use super::evolve::{Evolution, evolve};
use crate::decode::INFINITE_MICROS;
use crate::error::{Context, Result};
use crate::late::Position;
use crate::plan::{Cursor, CursorKind, TablePlan};
use crate::read::{Reading, Sink};

/// Rows that are looked up together: what the look-up's memory grows with.
const CHUNK_ROWS: usize = 262_144;

/// The parts of a position, as the numbers that a Delta table keeps for an application.
struct AppIds {
    high: String,
    low: String,
    xid: String,
}

/// Stands for "no unended writer": a transaction's number is never negative.
const NO_XID: i64 = -1;

impl AppIds {
    fn of(transfer: &str) -> Self {
        let id = |part: &str| format!("wattlake/{transfer}/{part}");
        AppIds { high: id("high"), low: id("low"), xid: id("xid") }
    }
}

pub async fn position(table: &Table, transfer: &str) -> Result<Option<Position>> {
    let ids = AppIds::of(transfer);
    let read = async |id: &str| table.position(id).await.context("read the position");
    let (Some(high), Some(low)) = (read(&ids.high).await?, read(&ids.low).await?) else { return Ok(None) };
    let xid = read(&ids.xid).await?.filter(|xid| *xid != NO_XID);
    Ok(Some(Position { high, low, xid }))
}

fn keep(commit: lake::Commit, transfer: &str, position: Option<Position>) -> lake::Commit {
    let Some(Position { high, low, xid }) = position else { return commit };
    let ids = AppIds::of(transfer);
    commit.position(ids.high, high).position(ids.low, low).position(ids.xid, xid.unwrap_or(NO_XID))
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

/// Writes a stream's batches and remembers the greatest cursor.
pub struct InitialSink {
    writer: FileWriter,
    cursor: Option<Cursor>,
    high: Option<i64>,
}

impl InitialSink {
    pub fn new(lake: &Lake, target: &TableName, run: &str, schema: &SchemaRef, cursor: Option<&Cursor>) -> Self {
        let writer = lake.writer(target, run, Arc::clone(schema), Handle::current());
        InitialSink { writer, cursor: cursor.cloned(), high: None }
    }
}

impl Sink for InitialSink {
    type Done = (Vec<DataFile>, Option<i64>);

    fn take(&mut self, batch: RecordBatch) -> Result<()> {
        if let Some(cursor) = &self.cursor {
            self.high = self.high.max(greatest(&batch, cursor)?);
        }
        self.writer.write(&batch).context("write rows to the lake")
    }

    fn done(self) -> Result<Self::Done> {
        Ok((self.writer.finish().context("write rows to the lake")?, self.high))
    }
}

/// The cursor as integers, NULL where it names no place in the order.
fn order(batch: &RecordBatch, cursor: &Cursor) -> Result<arrow::array::Int64Array> {
    let column = batch
        .column_by_name(&cursor.name)
        .ok_or_else(|| crate::Error::bug(format!("read the cursor {:?}, which is not carried", cursor.name)))?;
    let integers = cast(column, &DataType::Int64).context("read the cursor")?;
    Ok(integers.as_primitive::<Int64Type>().clone())
}

fn greatest(batch: &RecordBatch, cursor: &Cursor) -> Result<Option<i64>> {
    let values = order(batch, cursor)?;
    Ok(match cursor.kind {
        CursorKind::Integer => arrow::compute::max(&values),
        // `infinity` is no place from which to go on.
        CursorKind::Instant { .. } => values.iter().flatten().filter(|at| !INFINITE_MICROS.contains(at)).max(),
    })
}

/// Reads again from where rows may have come late, and tells by key what is there already.
pub struct IncrementSink {
    table: Table,
    writer: FileWriter,
    schema: SchemaRef,
    cursor: Cursor,
    key: Vec<String>,
    before: Position,
    waiting: Vec<RecordBatch>,
    waiting_rows: usize,
    hidden: Hidden,
    high: Option<i64>,
    rows: u64,
    runtime: Handle,
}

/// What an increment comes to.
pub struct Increment {
    pub files: Vec<DataFile>,
    pub hidden: Hidden,
    pub high: Option<i64>,
    pub rows: u64,
}

impl IncrementSink {
    pub fn new(
        table: &Table,
        plan: &TablePlan,
        cursor: &Cursor,
        schema: &SchemaRef,
        before: Position,
        run: &str,
    ) -> Self {
        IncrementSink {
            writer: table.writer(run, Arc::clone(schema), Handle::current()),
            table: table.clone(),
            schema: Arc::clone(schema),
            cursor: cursor.clone(),
            key: plan.key.clone(),
            before,
            waiting: Vec::new(),
            waiting_rows: 0,
            hidden: Hidden::default(),
            high: None,
            rows: 0,
            runtime: Handle::current(),
        }
    }

    fn flush(&mut self) -> Result<()> {
        let Some(first) = self.waiting.first() else { return Ok(()) };
        let batch = concat_batches(&first.schema(), &self.waiting).context("join batches")?;
        self.waiting.clear();
        self.waiting_rows = 0;
        let orders = order(&batch, &self.cursor)?;
        // Ids are never given twice: above what was seen there is nothing to look up.
        let is_new = |order: Option<i64>| {
            matches!(self.cursor.kind, CursorKind::Integer) && order.is_some_and(|order| order > self.before.high)
        };
        let (mut known, mut known_at) = (Vec::new(), Vec::new());
        for at in 0..batch.num_rows() {
            let order = orders.is_valid(at).then(|| orders.value(at));
            known.push(!is_new(order));
            if !is_new(order) {
                known_at.push(at);
            }
        }
        let mut keep = vec![true; batch.num_rows()];
        if !known_at.is_empty() {
            let looked_for = filter_record_batch(&batch, &BooleanArray::from(known)).context("select rows")?;
            let keys = Keys::of(&looked_for, &self.key).context(format!("look for rows of {}", self.table.name()))?;
            let search = self.table.find(&keys, Some(&self.cursor.name), &self.hidden);
            let found = self.runtime.block_on(search).context("look for rows")?;
            for row in found {
                let at = known_at[row.index];
                if row.order.is_some() && row.order == orders.is_valid(at).then(|| orders.value(at)) {
                    keep[at] = false;
                } else {
                    self.hidden.row(&row.path, row.position);
                }
            }
        }
        let batch = filter_record_batch(&batch, &BooleanArray::from(keep)).context("select rows")?;
        self.rows += batch.num_rows() as u64;
        let batch = lake::conform(&batch, &self.schema).context("write rows to the lake")?;
        self.writer.write(&batch).context("write rows to the lake")
    }
}

impl Sink for IncrementSink {
    type Done = Increment;

    fn take(&mut self, batch: RecordBatch) -> Result<()> {
        self.high = self.high.max(greatest(&batch, &self.cursor)?);
        self.waiting_rows += batch.num_rows();
        self.waiting.push(batch);
        if self.waiting_rows >= CHUNK_ROWS { self.flush() } else { Ok(()) }
    }

    fn done(mut self) -> Result<Increment> {
        self.flush()?;
        let files = self.writer.finish().context("write rows to the lake")?;
        Ok(Increment { files, hidden: self.hidden, high: self.high, rows: self.rows })
    }
}

/// Reads the table whole and replaces what the lake has of it.
pub async fn initial(
    lake: &Lake,
    reading: &Arc<Reading>,
    streams: usize,
    transfer: &str,
    run: &str,
    position: impl FnOnce(Option<i64>) -> Option<Position>,
) -> Result<Written> {
    let plan = &reading.plan;
    let schema = schema_of(plan);
    let sinks =
        (0..streams).map(|_| InitialSink::new(lake, &plan.target, run, &schema, plan.cursor.as_ref())).collect();
    let parts = reading.run(sinks).await?;
    let high = parts.iter().filter_map(|(_, high)| *high).max();
    let files: Vec<DataFile> = parts.into_iter().flat_map(|(files, _)| files).collect();
    fail::fail_point!("before-commit");
    let (rows, bytes) = (files.iter().map(|f| f.rows).sum(), files.iter().map(|f| f.bytes).sum());
    let commit = lake.replace(&plan.target, schema, run, "initial").await.context("start the commit")?.files(files);
    let commit = commit.order(&plan.key);
    let version = keep(commit, transfer, position(high)).write().await.context("commit")?;
    fail::fail_point!("after-commit");
    Ok(Written { rows, replaced: 0, bytes, version: Some(version) })
}

/// Reads what is new and adds it.
pub async fn increment(
    table: Table,
    reading: &Arc<Reading>,
    transfer: &str,
    run: &str,
    before: Position,
    position: impl FnOnce(i64) -> Position,
) -> Result<Written> {
    let plan = &reading.plan;
    let cursor = plan.cursor.as_ref().ok_or_else(|| crate::Error::bug("increment a table without a cursor"))?;
    let (table, schema, evolved) = fit(table, plan, run).await?;
    let sink = IncrementSink::new(&table, plan, cursor, &schema, before, run);
    let Some(increment) = reading.run(vec![sink]).await?.pop() else { return Ok(Written::default()) };
    let after = position(increment.high.map_or(before.high, |high| high.max(before.high)));
    fail::fail_point!("before-commit");
    // A writer that was remembered, or has to be from now on, is news of its own.
    let same_writers = before.xid.is_none() && after.xid.is_none();
    if increment.files.is_empty() && increment.hidden.is_empty() && !evolved && same_writers {
        return Ok(Written::default());
    }
    let bytes = increment.files.iter().map(|f| f.bytes).sum();
    let replaced = increment.hidden.rows();
    let mut commit = table.commit(run, "incremental").files(increment.files).hide(increment.hidden);
    if evolved {
        commit = commit.schema(schema);
    }
    let version = keep(commit, transfer, Some(after)).write().await.context("commit")?;
    fail::fail_point!("after-commit");
    Ok(Written { rows: increment.rows, replaced, bytes, version: Some(version) })
}

/// Makes the table fit the source: wider types are taken over in a commit of their own, new
/// columns with the rows that bring them.
async fn fit(table: Table, plan: &TablePlan, run: &str) -> Result<(Table, SchemaRef, bool)> {
    let present = table.schema().context("read the table's schema")?;
    match evolve(&plan.source.display(), &present, &schema_of(plan))? {
        Evolution::Same => Ok((table, present, false)),
        Evolution::Add(schema) => Ok((table, schema, true)),
        Evolution::Rewrite(schema) => {
            let files = table.rewrite(run, Arc::clone(&schema)).await.context("take wider types over")?;
            let commit = table.widen(run, Arc::clone(&schema)).files(files);
            commit.write().await.context("take wider types over")?;
            let table = table.reload().await.context("take wider types over")?;
            Ok((table, schema, false))
        }
    }
}

pub fn schema_of(plan: &TablePlan) -> SchemaRef {
    let fields: Vec<arrow::datatypes::Field> =
        plan.columns.iter().map(|c| arrow::datatypes::Field::new(&c.name, c.kind.arrow(), true)).collect();
    Arc::new(arrow::datatypes::Schema::new(fields))
}
