//! What a training job leaves beside its model: rows for tables of the lake, and pages for people.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::compute::concat_batches;
use chrono::{SubsecRound, Utc};
use config::{Training, TrainingTable};
use lake::TableName;
use ledger::Run;
use model::training::{output_file, output_pages};
use serde_json::{Value, json};

use crate::flows::{load, rows};
use crate::warehouse::Warehouse;

const OPERATION: &str = "training";

/// Adds the rows of the files of a job's tables, one commit a table, and copies its pages. Returns how many rows each
/// table got.
///
/// # Errors
/// A file is missing, or breaks its layout's rules: then no table has got rows.
pub async fn keep(warehouse: &Warehouse, run: &Run, training: &Training, job: &str, work: &Path) -> Result<Value> {
    let mut counts = json!({});
    let mut read_tables = Vec::new();
    for table in &training.tables {
        read_tables.push(read(table, job, work).await.with_context(|| format!("read {} of {job}", table.file))?);
    }
    for (table, batch) in training.tables.iter().zip(read_tables) {
        let name = TableName::new(&table.schema, &table.table);
        counts[name.to_string()] = json!(batch.num_rows());
        let (lake, schema) = (warehouse.lake().await?, batch.schema());
        let position = (format!("training/{job}/{name}"), 1);
        rows::append(&lake, &name, run.id(), OPERATION, &schema, vec![batch], vec![position]).await?;
    }
    if let Some(folder) = &training.reports {
        std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        for name in output_pages(work) {
            let mut page = output_file(work, Path::new(&name)).with_context(|| format!("read {name} of {job}"))?;
            let path = folder.join(format!("{job}-{name}"));
            let mut copy = std::fs::File::create(&path).with_context(|| format!("create {}", path.display()))?;
            std::io::copy(&mut page, &mut copy).with_context(|| format!("write {}", path.display()))?;
        }
    }
    Ok(counts)
}

async fn read(table: &TrainingTable, job: &str, work: &Path) -> Result<RecordBatch> {
    let file = output_file(work, Path::new(&table.file)).map_err(|error| {
        let error = base::Error::input(format!("the job left no file {}", table.file)).because(error);
        error.hint("the program writes it to /opt/ml/output/data")
    })?;
    let read = load::rows_of(file, "", &table.layout).await?;
    let batches: Vec<RecordBatch> = read.into_iter().map(|rows| rows.batch).collect();
    let batch = concat_batches(&table.layout.schema(), &batches).context("put the rows of a file together")?;
    let schema = batch.schema();
    let own = schema.fields().iter().zip(batch.columns());
    let own = own.map(|(field, column)| (field.name().clone(), Arc::clone(column), true));
    let count = batch.num_rows();
    let job: ArrayRef = Arc::new(StringArray::from_iter_values(std::iter::repeat_n(job, count)));
    let now = Utc::now().trunc_subsecs(6).timestamp_micros();
    let at: ArrayRef = Arc::new(TimestampMicrosecondArray::from_value(now, count).with_timezone("UTC"));
    let origin = [("training_job".to_owned(), job, true), ("recorded_at".to_owned(), at, true)];
    RecordBatch::try_from_iter_with_nullable(own.chain(origin)).context("add the columns of a training job")
}
