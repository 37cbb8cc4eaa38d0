//! The lake as a target. INITIAL replaces a table in one commit, INCREMENTAL adds rows to it in one commit.
//! The position is written in the commit of the rows.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use lake::{DataFile, FileWriter, Lake, Table, TableName};
use tokio::runtime::Handle;

use super::deleted_rows::{mark_all, with_deleted_at};
use super::evolve::{Evolution, evolve, schema_of};
use super::history::{HistoryLoad, HistorySink};
use super::increment::{Increment, IncrementSink, RowMatching, greatest};
use super::legacy;
use lake::row_history::HISTORY;

use crate::checkpoint::{Checkpoint, Origin, Position, STREAM, STREAM_RETENTION_HOURS};
use crate::cursor::Cursor;
use crate::error::{Context, Error, Result};
use crate::lsn::Lsn;
use crate::plan::TablePlan;
use crate::read::{Sink, TableReader};
use crate::resume::TargetState;

/// The properties of a table that hold its checkpoint.
const ORIGIN: &str = "wattlake.origin";
const POSITION: &str = "wattlake.position";

/// Adds an origin to a commit.
pub(crate) fn with_origin(commit: lake::Commit, origin: &Origin) -> Result<lake::Commit> {
    let text = |value: serde_json::Result<String>| value.map_err(|e| Error::bug("write the checkpoint").because(e));
    let commit = commit.property(ORIGIN, text(serde_json::to_string(origin))?);
    Ok(match &origin.history {
        Some(span) => commit.property(HISTORY, text(serde_json::to_string(span))?),
        None => commit,
    })
}

/// The state of the table in the lake.
pub async fn target_state(table: &Table, transfer: &str, plan: &TablePlan) -> Result<TargetState> {
    let read = |name: &str| table.property(name).context("read the table's checkpoint");
    let (origin, position) = (read(ORIGIN)?, read(POSITION)?);
    let has_rows = table.size().context("read the table's size")?.rows > 0;
    let checkpoint = match (parsed(origin)?, parsed(position)?) {
        (None, None) => legacy::lake_position(table, transfer, plan)
            .await?
            .map(|position| Checkpoint { origin: None, position: Some(position) }),
        (origin, position) => Some(Checkpoint { origin, position }),
    };
    Ok(TargetState { checkpoint, has_rows })
}

/// Where a table's rows come from; `None` where no transfer has filled it.
pub async fn origin_of(table: &Table) -> Result<Option<Origin>> {
    parsed(table.property(ORIGIN).context("read the table's checkpoint")?)
}

fn parsed<T: serde::de::DeserializeOwned>(text: Option<String>) -> Result<Option<T>> {
    let parse = |text: String| {
        serde_json::from_str::<Option<T>>(&text).map_err(|e| {
            let error = Error::setup("read the table's checkpoint").because(e);
            error.hint("a newer version of wattlake may have written it: use that version")
        })
    };
    Ok(text.map(parse).transpose()?.flatten())
}

/// Adds the checkpoint to a commit.
fn with_checkpoint(
    commit: lake::Commit,
    update: &CheckpointUpdate<'_>,
    position: Option<&Position>,
) -> Result<lake::Commit> {
    let text = |value: serde_json::Result<String>| value.map_err(|e| Error::bug("write the checkpoint").because(e));
    let mut commit = commit;
    let was_streamed = update.before.is_some_and(|before| before.stream.is_some());
    if let Some(stream) = update.stream {
        commit = commit.position(STREAM, stream.to_i64()).retention_hours(STREAM_RETENTION_HOURS);
    } else if was_streamed {
        commit = commit.default_retention();
    }
    if update.before != Some(&update.origin) {
        commit = with_origin(commit, &update.origin)?;
    }
    Ok(commit.property(POSITION, text(serde_json::to_string(&position))?))
}

/// The new checkpoint of a table, without its position.
pub struct CheckpointUpdate<'a> {
    /// The run's id.
    pub run: &'a str,
    /// The origin to write.
    pub origin: Origin,
    /// The origin that the table has; the same origin is not written again.
    pub before: Option<&'a Origin>,
    /// The position in the log that the rows are of.
    pub stream: Option<Lsn>,
    /// The history in which the rows are recorded.
    pub history: Option<&'a HistoryLoad>,
}

/// What the transfer of a table has written.
#[derive(Debug, Clone, Copy, Default)]
pub struct WriteSummary {
    /// The number of rows.
    pub rows: u64,
    /// The number of these rows that replaced an earlier version of themselves.
    pub replaced: u64,
    /// The number of bytes.
    pub bytes: u64,
    /// The version of the lake's table; none where nothing was committed, and in PostgreSQL.
    pub version: Option<u64>,
}

/// Writes the batches of one stream to files, and remembers the greatest value of an integer cursor.
pub struct InitialSink {
    writer: FileWriter,
    schema: SchemaRef,
    cursor: Option<Cursor>,
    top: Option<i64>,
}

impl InitialSink {
    /// A sink for rows of `schema` in files of the run.
    pub fn new(lake: &Lake, target: &TableName, run: &str, schema: &SchemaRef, cursor: Option<&Cursor>) -> Self {
        let writer = lake.writer(target, run, Arc::clone(schema), Handle::current());
        InitialSink { writer, schema: Arc::clone(schema), cursor: cursor.cloned(), top: None }
    }
}

impl Sink for InitialSink {
    type Done = (Vec<DataFile>, Option<i64>);

    fn take(&mut self, batch: RecordBatch) -> Result<()> {
        if let Some(cursor) = &self.cursor {
            self.top = self.top.max(greatest(&batch, cursor)?);
        }
        // Of a table whose deleted rows are marked, the source has one column less.
        let batch = match batch.num_columns() == self.schema.fields().len() {
            true => batch,
            false => lake::conform(&batch, &self.schema).context("write rows to the lake")?,
        };
        self.writer.write(&batch).context("write rows to the lake")
    }

    fn done(self) -> Result<Self::Done> {
        Ok((self.writer.finish().context("write rows to the lake")?, self.top))
    }
}

/// Reads the source's table whole and replaces the lake's table in one commit. A crash before the commit leaves the
/// lake's table unchanged.
pub async fn replace(
    lake: &Lake,
    reading: &Arc<TableReader>,
    streams: usize,
    update: &CheckpointUpdate<'_>,
    position: Option<Position>,
) -> Result<WriteSummary> {
    let (plan, run) = (&reading.plan, update.run);
    let schema = if update.origin.marks { with_deleted_at(&schema_of(plan)) } else { schema_of(plan) };
    let sink = |_| {
        let sink = InitialSink::new(lake, &plan.target, run, &schema, plan.cursor.as_ref());
        HistoryLoad::sink(update.history, sink)
    };
    let parts = without_history(reading.run((0..streams).map(sink).collect()).await?, update.history).await?;
    let top = parts.iter().filter_map(|(_, top)| *top).max();
    let files: Vec<DataFile> = parts.into_iter().flat_map(|(files, _)| files).collect();
    fail::fail_point!("before-commit");
    let (rows, bytes) = (files.iter().map(|f| f.rows).sum(), files.iter().map(|f| f.bytes).sum());
    let commit = lake.replace(&plan.target, schema, run, "initial").await.context("start the commit")?.files(files);
    let position = position.map(|position| Position { top, ..position });
    let commit = with_checkpoint(commit.order(&plan.key), update, position.as_ref())?;
    let version = commit.write().await.context("commit")?;
    fail::fail_point!("after-commit");
    Ok(WriteSummary { rows, replaced: 0, bytes, version: Some(version) })
}

/// Commits the entries that sinks have written to a history, before the rows; returns what the sinks have of the rows.
async fn without_history<T>(parts: Vec<(T, Vec<DataFile>)>, history: Option<&HistoryLoad>) -> Result<Vec<T>> {
    let (parts, files): (Vec<T>, Vec<Vec<DataFile>>) = parts.into_iter().unzip();
    if let Some(history) = history {
        history.commit(files.into_iter().flatten().collect()).await?;
        fail::fail_point!("after-history");
    }
    Ok(parts)
}

/// How rows are added to a table.
pub struct Addition<'a> {
    /// The new checkpoint.
    pub update: &'a CheckpointUpdate<'a>,
    /// How rows are matched with the table's.
    pub matching: RowMatching,
    /// The position of the last run; none where the table is read again.
    pub before: Option<&'a Position>,
    /// The position of this run, without its greatest value.
    pub after: Option<Position>,
    /// The values of new columns in rows that are older than the columns.
    pub defaults: Option<RecordBatch>,
    /// The columns that are set to NULL in all of the table's rows.
    pub cleared: Vec<String>,
    /// All of the source's rows are read: the table's others are marked as deleted at this time, in microseconds since 1970.
    pub marked_at: Option<i64>,
    /// The number of streams to read with.
    pub streams: usize,
    /// The name of the operation in the commit.
    pub operation: &'static str,
}

/// Reads rows and adds them in one commit, in which the earlier versions of replaced rows are hidden. Nothing is
/// committed where there is nothing new. Changes of the schema and cleared columns may be committed before.
pub async fn add(table: Table, reading: &Arc<TableReader>, addition: Addition<'_>) -> Result<WriteSummary> {
    let (plan, run) = (&reading.plan, addition.update.run);
    let table = clear_columns(table, run, &addition.cleared).await?;
    let (table, schema, evolved) = fit(table, plan, run, addition.defaults.as_ref()).await?;
    let (schema, evolved) = match addition.marked_at.map(|_| with_deleted_at(&schema)) {
        Some(marked) if marked != schema => (marked, true),
        _ => (schema, evolved),
    };
    let history = addition.update.history;
    let sink = |_| {
        let sink = IncrementSink::new(&table, plan, &addition.matching, &schema, run);
        HistoryLoad::sink(history, sink)
    };
    let mut whole = Increment::default();
    let parts = reading.run((0..addition.streams).map(sink).collect::<Vec<HistorySink<_>>>()).await?;
    for part in without_history(parts, history).await? {
        whole.files.extend(part.files);
        whole.hidden.merge(part.hidden);
        whole.top = whole.top.max(part.top);
        whole.rows += part.rows;
    }
    if let Some(at_micros) = addition.marked_at {
        whole = mark_others(&table, whole, at_micros, &schema, run).await?;
    }
    fail::fail_point!("before-commit");
    let after = addition.after.map(|after| Position { top: after.top.max(whole.top), ..after });
    // A position with an open transaction, before or after the run, must be written also without rows.
    let xid = |position: Option<&Position>| position.and_then(|position| position.xid).is_none();
    let has_news = !xid(addition.before) || !xid(after.as_ref()) || addition.before.is_none();
    // So must a changed list of partitions.
    let has_news =
        has_news || addition.update.before.is_none_or(|before| before.storage != addition.update.origin.storage);
    if whole.files.is_empty() && whole.hidden.is_empty() && !evolved && !has_news {
        return Ok(WriteSummary::default());
    }
    let bytes = whole.files.iter().map(|f| f.bytes).sum();
    let replaced = whole.hidden.rows();
    let mut commit = table.commit(run, addition.operation).files(whole.files).hide(whole.hidden);
    if evolved {
        commit = commit.schema(schema);
    }
    let version = with_checkpoint(commit, addition.update, after.as_ref())?.write().await.context("commit")?;
    fail::fail_point!("after-commit");
    Ok(WriteSummary { rows: whole.rows, replaced, bytes, version: Some(version) })
}

/// Adds the table's rows that the increment does not replace, marked as deleted at a time.
async fn mark_others(
    table: &Table,
    mut whole: Increment,
    at_micros: i64,
    schema: &SchemaRef,
    run: &str,
) -> Result<Increment> {
    let runtime = Handle::current();
    let mut writer = table.writer(run, Arc::clone(schema), runtime.clone());
    let (table, schema) = (table.clone(), Arc::clone(schema));
    let marking = tokio::task::spawn_blocking(move || {
        mark_all(&table, &[], &mut whole.hidden, at_micros, (&mut writer, &schema), &runtime)?;
        whole.files.extend(writer.finish().context("write rows to the lake")?);
        Ok(whole)
    });
    marking.await.map_err(|e| Error::bug("mark deleted rows").because(e))?
}

/// Writes a position with a refusal, in a commit without rows.
pub async fn write_position(table: &Table, run: &str, position: &Position) -> Result<()> {
    let text = serde_json::to_string(&Some(position)).map_err(|e| Error::bug("write the checkpoint").because(e))?;
    table.commit(run, "refuse").property(POSITION, text).write().await.context("write the position")?;
    Ok(())
}

/// As [`write_position`], and ends the table's history, which does not get the changes after `reached_micros`.
pub async fn refuse(table: &Table, run: &str, position: &Position, reached_micros: Option<i64>) -> Result<()> {
    let origin = table.property(ORIGIN).context("read the table's checkpoint")?;
    let Some(origin) = parsed::<Origin>(origin)?.filter(|origin| origin.history.is_some()) else {
        return write_position(table, run, position).await;
    };
    let history = origin.ended_history(reached_micros.unwrap_or_default());
    let text = serde_json::to_string(&Some(position)).map_err(|e| Error::bug("write the checkpoint").because(e))?;
    let commit = table.commit(run, "refuse").property(POSITION, text);
    with_origin(commit, &Origin { history, ..origin })?.write().await.context("write the position")?;
    Ok(())
}

/// Writes a checkpoint in a commit without rows, which names another transfer or another source from now on.
pub async fn hand_over(table: &Table, run: &str, checkpoint: &Checkpoint) -> Result<()> {
    let Some(origin) = checkpoint.origin.clone() else { return Ok(()) };
    let update = CheckpointUpdate { run, origin, before: None, stream: None, history: None };
    let commit = with_checkpoint(table.commit(run, "hand over"), &update, checkpoint.position.as_ref())?;
    commit.write().await.context("commit")?;
    Ok(())
}

/// Sets columns to NULL in all rows of the table, in a commit of its own.
async fn clear_columns(table: Table, run: &str, columns: &[String]) -> Result<Table> {
    if columns.is_empty() {
        return Ok(table);
    }
    let context = "clear the columns whose mapping has changed";
    let schema = table.schema().context(context)?;
    let files = table.clear_columns(run, columns).await.context(context)?;
    // Without a position, the next run reads the table again, and rows that the source has get their values back.
    let commit = table.replace_files(run, "clear", schema).files(files).property(POSITION, "null");
    commit.write().await.context(context)?;
    table.reload().await.context(context)
}

/// Adapts the table's schema to the source's. Wider types, and new columns with a value in older rows, are committed
/// here; other new columns are committed with the rows. Returns the table, the schema to write with, and whether that
/// schema is to be committed with the rows.
async fn fit(
    table: Table,
    plan: &TablePlan,
    run: &str,
    defaults: Option<&RecordBatch>,
) -> Result<(Table, SchemaRef, bool)> {
    let present = table.schema().context("read the table's schema")?;
    let schema = match evolve(&plan.source.display(), &present, &schema_of(plan), &plan.replace_command)? {
        Evolution::Same => return Ok((table, present, false)),
        Evolution::Add(schema) if defaults.is_none() => return Ok((table, schema, true)),
        Evolution::Add(schema) | Evolution::Rewrite(schema) => schema,
    };
    let context = "apply the source's new types and columns";
    let files = table.rewrite(run, Arc::clone(&schema), defaults).await.context(context)?;
    table.replace_files(run, "widen", Arc::clone(&schema)).files(files).write().await.context(context)?;
    Ok((table.reload().await.context(context)?, schema, false))
}
