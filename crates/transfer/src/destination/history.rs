//! The history of a table that is read whole: an entry for each of its rows, in a generation of their own. They are
//! committed before the rows, so that no table is ahead of its history.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Field, Schema, SchemaRef};
use lake::row_history::{
    COMMITTED_AT, GENERATION, HistorySpan, HistoryState, LAST_GENERATION, LSN, OF_LOAD, OPERATION, RowOperation,
    SEQUENCE, TRANSACTION, history_schema,
};
use lake::{DataFile, FileWriter, Lake, Table, TableName};
use tokio::runtime::Handle;

use super::evolve::{Evolution, evolve, schema_of};
use crate::changes::{ReachedTimes, StreamRecord};
use crate::checkpoint::{Origin, STREAM, STREAM_RETENTION_HOURS};
use crate::error::{Context, Error, Result};
use crate::lsn::Lsn;
use crate::plan::TablePlan;
use crate::read::Sink;
use crate::request::Request;
use crate::resume::Permission;

const CONTEXT: &str = "write the history";

/// The entry of a history beside a row: its columns apart from the row's.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// What it says about the row.
    pub operation: RowOperation,
    /// When the source committed it, in microseconds since 1970.
    pub at_micros: i64,
    /// The position of the commit, or of the snapshot.
    pub lsn: Lsn,
    /// Its number in the transaction.
    pub sequence: i64,
    /// The number of the copy that it belongs to.
    pub generation: i64,
    /// The transaction; `None` for rows that were read whole.
    pub xid: Option<u32>,
}

/// The columns of entries.
pub fn entry_columns(entries: &[Entry]) -> Vec<(&'static str, ArrayRef)> {
    let integers = |of: fn(&Entry) -> i64| Arc::new(entries.iter().map(of).collect::<Int64Array>()) as ArrayRef;
    let operations: StringArray = entries.iter().map(|entry| Some(entry.operation.as_str())).collect();
    let instants = TimestampMicrosecondArray::from_iter_values(entries.iter().map(|entry| entry.at_micros));
    let transactions: Int64Array = entries.iter().map(|entry| entry.xid.map(i64::from)).collect();
    vec![
        (OPERATION, Arc::new(operations)),
        (COMMITTED_AT, Arc::new(instants.with_timezone("UTC"))),
        (LSN, integers(|entry| entry.lsn.to_i64())),
        (SEQUENCE, integers(|entry| entry.sequence)),
        (GENERATION, integers(|entry| entry.generation)),
        (TRANSACTION, Arc::new(transactions)),
    ]
}

/// Rows with an entry each, by the history's schema.
pub fn with_entries(rows: &[(&str, ArrayRef)], entries: &[Entry], schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = rows.iter().cloned().chain(entry_columns(entries));
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) =
        columns.map(|(name, array)| (Field::new(name, array.data_type().clone(), true), array)).unzip();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).context(CONTEXT)?;
    lake::conform(&batch, schema).context(CONTEXT)
}

/// What the transfer of a table does to its history.
#[derive(Default)]
pub struct HistoryUpdate {
    /// The history in which the table's rows are recorded.
    pub load: Option<HistoryLoad>,
    /// Up to when the table has had all changes, in microseconds since 1970.
    reached: Option<i64>,
}

impl HistoryUpdate {
    /// For a table that is read by a snapshot at a time in microseconds since 1970. With `stream`, its changes follow from
    /// that position on; before, it had those up to a time.
    pub async fn of(
        request: &Request,
        lake: &Lake,
        plan: &TablePlan,
        before: Option<&Origin>,
        at_micros: i64,
        stream: Option<(Lsn, &ReachedTimes)>,
    ) -> Result<HistoryUpdate> {
        let Some((position, reached)) = stream else {
            // The transfer, or another mode of it, does not follow the log any more.
            let is_open = before.and_then(|before| before.history.as_ref()).is_some_and(|state| state.open().is_some());
            let record = match is_open {
                true => StreamRecord::read(request.stream_store(), &request.settings.name).await?,
                false => None,
            };
            let reached = record.and_then(|record| record.reached.of(plan.source.oid));
            return Ok(HistoryUpdate { load: None, reached });
        };
        let replaces = request.permission == Permission::Replace;
        let load = match request.settings.changes.history {
            true => Some(HistoryLoad::open(lake, plan, &request.run, position, at_micros, replaces).await?),
            false => None,
        };
        Ok(HistoryUpdate { load, reached: reached.of(plan.source.oid) })
    }

    /// What is known of the table's history afterwards. The changes between the time that it had reached and the copy are
    /// not in it.
    pub fn state(&self, before: Option<&Origin>, now: &Origin) -> Option<HistoryState> {
        let ended = before.and_then(|before| before.ended_history(self.reached.unwrap_or_default()));
        let columns = Some(now.source_columns());
        let Some(load) = &self.load else { return ended.map(|state| HistoryState { columns, ..state }) };
        let mut state = ended.filter(|_| !load.is_new()).unwrap_or_default();
        let Entry { generation, at_micros: since, .. } = load.entry;
        state.spans.push(HistorySpan { generation, key: load.key.clone(), since, until: None, columns: None });
        Some(HistoryState { columns, ..state })
    }
}

/// The history of a table that is being read whole.
pub struct HistoryLoad {
    lake: Lake,
    name: TableName,
    present: Option<Table>,
    schema: SchemaRef,
    evolution: Evolution,
    run: String,
    key: Vec<String>,
    entry: Entry,
}

impl HistoryLoad {
    /// The history of a plan's table, which is read by a snapshot at this position and time. Where the rows may be
    /// replaced by others of any type (`replaces`), so may the history.
    ///
    /// # Errors
    /// Where a column has the name of one of the history's, or a type that does not hold the earlier values.
    pub async fn open(
        lake: &Lake,
        plan: &TablePlan,
        run: &str,
        lsn: Lsn,
        at_micros: i64,
        replaces: bool,
    ) -> Result<HistoryLoad> {
        let name = plan.target.history();
        let present = lake.table(&name).await.context("open the history")?;
        let wanted = history_schema(&schema_of(plan)).context(CONTEXT)?;
        let last = match &present {
            Some(table) => generation_of(table)?.ok_or_else(|| {
                let what = format!("record the history of {}: the lake has another table {name}", plan.target);
                Error::input(what).hint("rename that table, or one of the source's by a table mapping")
            })?,
            None => 0,
        };
        let evolution = match &present {
            Some(table) => {
                let present = table.schema().context("read the history's schema")?;
                match evolve(&name.to_string(), &present, &wanted, &plan.replace_command) {
                    Ok(evolution) => Some((present, evolution)),
                    Err(_) if replaces => None,
                    Err(error) => return Err(error),
                }
            }
            None => None,
        };
        let (present, schema, evolution) = match evolution {
            None => (None, wanted, Evolution::Same),
            Some((schema, Evolution::Same)) => (present, schema, Evolution::Same),
            Some((_, evolution)) => match &evolution {
                Evolution::Add(schema) | Evolution::Rewrite(schema) => (present, Arc::clone(schema), evolution),
                Evolution::Same => (present, wanted, evolution),
            },
        };
        let generation = last + 1;
        let entry = Entry { operation: RowOperation::Load, at_micros, lsn, sequence: OF_LOAD, generation, xid: None };
        let (lake, run, key) = (lake.clone(), run.to_owned(), plan.key.clone());
        Ok(HistoryLoad { lake, name, present, schema, evolution, run, key, entry })
    }

    /// Whether it begins with this load.
    pub fn is_new(&self) -> bool {
        self.present.is_none()
    }

    /// A sink that writes the rows of a stream, and passes them on to `inner`.
    pub fn sink<S>(load: Option<&HistoryLoad>, inner: S) -> HistorySink<S> {
        let writer = load.map(|load| EntryWriter {
            writer: load.lake.writer(&load.name, &load.run, Arc::clone(&load.schema), Handle::current()),
            schema: Arc::clone(&load.schema),
            entry: load.entry,
        });
        HistorySink { inner, writer }
    }

    /// Commits the entries, with the position that the snapshot shows.
    pub async fn commit(&self, files: Vec<DataFile>) -> Result<()> {
        let commit = match (&self.present, &self.evolution) {
            (None, _) => {
                let schema = Arc::clone(&self.schema);
                let order: Vec<String> =
                    self.key.iter().cloned().chain([GENERATION, LSN, SEQUENCE].map(str::to_owned)).collect();
                self.lake.replace(&self.name, schema, &self.run, "history").await.context(CONTEXT)?.order(&order)
            }
            (Some(table), Evolution::Same) => table.commit(&self.run, "history"),
            (Some(table), Evolution::Add(schema)) => table.commit(&self.run, "history").schema(Arc::clone(schema)),
            (Some(table), Evolution::Rewrite(schema)) => {
                let rewritten = table.rewrite(&self.run, Arc::clone(schema), None).await.context(CONTEXT)?;
                table.replace_files(&self.run, "history", Arc::clone(schema)).files(rewritten)
            }
        };
        let commit = commit.files(files).retention_hours(STREAM_RETENTION_HOURS);
        let commit = commit.property(LAST_GENERATION, self.entry.generation.to_string());
        commit.position(STREAM, self.entry.lsn.to_i64()).write().await.context(CONTEXT)?;
        Ok(())
    }
}

/// Writes entries for the rows of a stream, where a history is recorded, and passes the rows on.
pub struct HistorySink<S> {
    inner: S,
    writer: Option<EntryWriter>,
}

struct EntryWriter {
    writer: FileWriter,
    schema: SchemaRef,
    entry: Entry,
}

impl<S: Sink> Sink for HistorySink<S> {
    type Done = (S::Done, Vec<DataFile>);

    fn take(&mut self, batch: RecordBatch) -> Result<()> {
        if let Some(writer) = &mut self.writer {
            let schema = batch.schema();
            let names = schema.fields().iter().map(|field| field.name().as_str());
            let rows: Vec<(&str, ArrayRef)> = names.zip(batch.columns().iter().cloned()).collect();
            let entries = vec![writer.entry; batch.num_rows()];
            writer.writer.write(&with_entries(&rows, &entries, &writer.schema)?).context(CONTEXT)?;
        }
        self.inner.take(batch)
    }

    fn done(self) -> Result<Self::Done> {
        let files = match self.writer {
            Some(writer) => writer.writer.finish().context(CONTEXT)?,
            None => Vec::new(),
        };
        Ok((self.inner.done()?, files))
    }
}

/// The number of a history's last copy; `None` where the table is no history.
pub fn generation_of(table: &Table) -> Result<Option<i64>> {
    let generation = table.property(LAST_GENERATION).context("read the history's state")?;
    Ok(generation.and_then(|generation| generation.parse().ok()))
}
