//! The rows of a table as messages, before its changes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, RecordBatch, StringArray};
use stream::message::{ControlOperation, MessageWriter, Operation};
use stream::{Destination, Record};
use tokio::runtime::Handle;

use super::encoder::{ChangePlace, TableEncoder, check_plan};
use super::record::PublishedTable;
use super::target::StreamTarget;
use crate::changes::pgoutput::Field;
use crate::destination::lake::WriteSummary;
use crate::error::{Error, Result};
use crate::plan::{PlanColumn, TablePlan};
use crate::postgres::{Column, quote};
use crate::read::{Sink, TableReader, whole_table_queries};
use crate::request::Request;
use crate::table_transfer::{ReadContext, TableMode, TransferOutcome};
use crate::type_map::ColumnKind;

/// The messages that are sent together.
const BATCH_MESSAGES: usize = 2000;
const BATCH_BYTES: usize = 1 << 20;
/// The batches that are sent before the first is stored.
const BATCHES_AHEAD: usize = 4;
/// Between two notes of the ends of the shards.
const NOTE_INTERVAL: Duration = Duration::from_secs(2);

/// Stores the rows of a table in the stream. Its changes follow from the snapshot's position on.
///
/// Where the process is killed meanwhile, the next one begins with the table again. Readers that may have rows of it remove
/// them by the control message drop-table, which comes before create-table.
pub async fn into_stream(
    request: &Request,
    context: &ReadContext<'_>,
    table: &TablePlan,
    target: &StreamTarget,
) -> Result<TransferOutcome> {
    let stream = context.stream.as_ref().ok_or_else(|| Error::bug("publish rows without a position in the log"))?;
    let transfer = &request.settings.name;
    check_plan(table)?;
    target.connect(transfer, &stream.id).await?;
    let plan = Arc::new(as_texts(table));
    let names: Vec<String> =
        plan.columns.iter().filter_map(|column| Some(column.source.as_ref()?.name.clone())).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let encoder = TableEncoder::new(table, &names, target.message_bytes_max().await)?;
    let writer = MessageWriter { settings: target.messages };
    let at = MessageWriter::timestamp(context.snapshot.at_micros);
    let before = target.read_record(transfer).await?;
    let may_have_rows = before.is_new_stream || before.tables.contains_key(&table.source.oid);
    let begun = PublishedTable {
        stream: stream.id.clone(),
        from: None,
        name: Some(encoder.name().to_owned()),
        definition: encoder.definition.clone(),
        refusal: None,
    };
    let published = PublishedTable { from: Some(stream.position.to_i64()), ..begun.clone() };
    target.update_record(transfer, |record| drop(record.tables.insert(table.source.oid, begun))).await?;
    if target.messages.include_control_details {
        let mut controls = vec![encoder.control(&writer, ControlOperation::CreateTable, &at, None)];
        if may_have_rows {
            controls.insert(0, encoder.control(&writer, ControlOperation::DropTable, &at, None));
        }
        target.send(controls).await?.await?;
    }
    fail::fail_point!("publish-load");
    let _permit = context.large.acquire().await;
    let (queries, _) = whole_table_queries(&plan, context.version, 1);
    let reader = TableReader::new(&context.pool, plan, queries, request.progress(), None);
    let sink = LoadSink {
        target: target.clone(),
        encoder,
        writer,
        timestamp: at,
        records: Vec::new(),
        bytes: 0,
        sent: Vec::new(),
        total: 0,
        transfer: transfer.clone(),
        noted_at: Instant::now(),
        runtime: Handle::current(),
    };
    let bytes: u64 = reader.run(vec![sink]).await?.into_iter().sum();
    target.update_record(transfer, |record| drop(record.tables.insert(table.source.oid, published))).await?;
    target.note_shards(transfer).await?;
    let written = WriteSummary { rows: reader.rows(), bytes, ..WriteSummary::default() };
    Ok(TransferOutcome { mode: TableMode::Initial, written, bytes_read: reader.bytes(), position: None })
}

/// The plan with the text of every value.
fn as_texts(table: &TablePlan) -> TablePlan {
    let text = |column: &PlanColumn| {
        let name = column.source.as_ref().map_or(&column.name, |source| &source.name);
        let is_padded = |known: &&Column| known.name == *name && known.input_type.starts_with("character(");
        let expression = match table.source.columns.iter().find(is_padded) {
            // A cast would remove the blanks at the end, which the log has.
            Some(_) => format!("CASE WHEN {0} IS NOT NULL THEN format('%s', {0}) END", quote(name)),
            None => format!("{}::text", quote(name)),
        };
        PlanColumn { expression, kind: ColumnKind::Text, ..column.clone() }
    };
    TablePlan { columns: table.columns.iter().map(text).collect(), ..table.clone() }
}

struct LoadSink {
    target: StreamTarget,
    encoder: TableEncoder,
    writer: MessageWriter,
    timestamp: String,
    records: Vec<Record>,
    bytes: usize,
    sent: Vec<futures::future::BoxFuture<'static, Result<()>>>,
    total: u64,
    transfer: String,
    noted_at: Instant,
    runtime: Handle,
}

impl LoadSink {
    fn send(&mut self) -> Result<()> {
        self.total += self.bytes as u64;
        self.bytes = 0;
        let records = std::mem::take(&mut self.records);
        if !records.is_empty() {
            self.sent.push(self.runtime.block_on(self.target.send(records))?);
        }
        if self.sent.len() >= BATCHES_AHEAD {
            self.runtime.block_on(self.sent.remove(0))?;
        }
        if self.noted_at.elapsed() >= NOTE_INTERVAL {
            self.noted_at = Instant::now();
            self.runtime.block_on(self.target.note_shards(&self.transfer))?;
        }
        Ok(())
    }
}

impl Sink for LoadSink {
    type Done = u64;

    fn take(&mut self, batch: RecordBatch) -> Result<()> {
        let columns: Option<Vec<&StringArray>> =
            batch.columns().iter().map(|column| column.as_any().downcast_ref::<StringArray>()).collect();
        let columns = columns.ok_or_else(|| Error::bug("publish rows: a column is no text"))?;
        let mut row: Vec<Field<'_>> = Vec::with_capacity(columns.len());
        for index in 0..batch.num_rows() {
            row.clear();
            row.extend(columns.iter().map(|column| match column.is_null(index) {
                true => Field::Null,
                false => Field::Text(column.value(index).as_bytes()),
            }));
            let place = ChangePlace { timestamp: &self.timestamp, transaction: None };
            let record = self.encoder.row(&self.writer, Operation::Load, &row, None, place)?;
            debug_assert!(matches!(record.destination, Destination::Key(_)));
            self.bytes += record.data.len();
            self.records.push(record);
            if self.records.len() >= BATCH_MESSAGES || self.bytes >= BATCH_BYTES {
                self.send()?;
            }
        }
        Ok(())
    }

    fn done(mut self) -> Result<u64> {
        self.send()?;
        for sent in std::mem::take(&mut self.sent) {
            self.runtime.block_on(sent)?;
        }
        Ok(self.total)
    }
}
