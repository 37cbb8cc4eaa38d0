//! The history of a table that is read whole: an entry for each of its rows, after one that removes the earlier rows.
//! It is committed before the rows themselves, so that no position is ahead of the history.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Field, Schema, SchemaRef};
use lake::row_history::{
    BEFORE_LOAD, COMMITTED_AT, HistoryState, LSN, OPERATION, RowOperation, SEQUENCE, TRANSACTION, history_schema,
};
use lake::{DataFile, FileWriter, Lake, Table, TableName};
use tokio::runtime::Handle;

use super::evolve::{Evolution, evolve, schema_of};
use crate::checkpoint::{Origin, STREAM, STREAM_RETENTION_HOURS};
use crate::error::{Context, Result};
use crate::lsn::Lsn;
use crate::plan::TablePlan;
use crate::read::Sink;

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
        let entry = Entry { operation: RowOperation::Load, at_micros, lsn, sequence: 0, xid: None };
        let (lake, run, key) = (lake.clone(), run.to_owned(), plan.key.clone());
        Ok(HistoryLoad { lake, name, present, schema, evolution, run, key, entry })
    }

    /// Whether it begins with this load.
    pub fn is_new(&self) -> bool {
        self.present.is_none()
    }

    /// What is known of a table's history from this load on, or from the end of its history. The changes between
    /// `reached_micros`, when the last transaction was committed that the stream has received, and the load are not in it.
    pub fn state(
        load: Option<&HistoryLoad>,
        before: Option<&Origin>,
        reached_micros: Option<i64>,
    ) -> Option<HistoryState> {
        let before = before.and_then(|origin| origin.history.clone());
        let closed = before.map(|state| state.closed(reached_micros.unwrap_or_default()));
        let Some(load) = load else { return closed };
        let kept = closed.filter(|state| state.key == load.key && !load.is_new());
        let kept = kept.unwrap_or_else(|| HistoryState { key: load.key.clone(), spans: Vec::new() });
        Some(kept.continued(load.entry.at_micros))
    }

    /// A sink that writes the rows of one stream of several, and passes them on to `inner`.
    pub fn sink<S>(load: Option<&HistoryLoad>, inner: S, stream: usize) -> HistorySink<S> {
        let writer = load.map(|load| {
            let writer = load.lake.writer(&load.name, &load.run, Arc::clone(&load.schema), Handle::current());
            let first = (stream == 0 && !load.is_new()).then_some(Entry {
                operation: RowOperation::Truncate,
                sequence: BEFORE_LOAD,
                ..load.entry
            });
            EntryWriter { writer, schema: Arc::clone(&load.schema), entry: load.entry, first }
        });
        HistorySink { inner, writer }
    }

    /// Commits the entries, with the position that the snapshot shows.
    pub async fn commit(&self, files: Vec<DataFile>) -> Result<()> {
        let commit = match (&self.present, &self.evolution) {
            (None, _) => {
                let schema = Arc::clone(&self.schema);
                let order: Vec<String> = self.key.iter().cloned().chain([LSN, SEQUENCE].map(str::to_owned)).collect();
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
    /// The entry that removes the earlier rows, until it is written.
    first: Option<Entry>,
}

impl EntryWriter {
    fn write_first(&mut self) -> Result<()> {
        let Some(first) = self.first.take() else { return Ok(()) };
        self.writer.write(&with_entries(&[], &[first], &self.schema)?).context(CONTEXT)
    }
}

impl<S: Sink> Sink for HistorySink<S> {
    type Done = (S::Done, Vec<DataFile>);

    fn take(&mut self, batch: RecordBatch) -> Result<()> {
        if let Some(writer) = &mut self.writer {
            writer.write_first()?;
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
            Some(mut writer) => {
                writer.write_first()?;
                writer.writer.finish().context(CONTEXT)?
            }
            None => Vec::new(),
        };
        Ok((self.inner.done()?, files))
    }
}
