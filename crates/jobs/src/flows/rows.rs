//! Adds rows to a table of the lake, in one commit. The first rows create the table, and rows with
//! further columns add these to it. Rows that it holds never change.

use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use futures::StreamExt;
use lake::{DataFile, Lake, TableName};
use sql::Session;
use tokio::runtime::Handle;

use crate::flows::declared::declared_tables;
use crate::system::LedgerTables;
use crate::warehouse::Warehouse;

/// Adds rows in one commit. Returns the table's new version, or `None` where the table exists and
/// there are no rows, so that nothing was written. Of two concurrent commits that share a name among
/// their `positions`, one fails.
///
/// # Errors
/// A column has another type than the table's column of that name.
pub async fn append(
    lake: &Lake,
    name: &TableName,
    run: &str,
    operation: &'static str,
    schema: &SchemaRef,
    batches: Vec<RecordBatch>,
    positions: Vec<(String, i64)>,
) -> Result<Option<u64>> {
    let table = lake.table(name).await?;
    let schema = match &table {
        Some(table) => merged(name, &table.schema()?, schema)?,
        None => Arc::new(Schema::new(schema.fields().iter().map(nullable).collect::<Vec<_>>())),
    };
    if table.is_some() && batches.iter().all(|batch| batch.num_rows() == 0) {
        return Ok(None);
    }
    let batches: Vec<RecordBatch> =
        batches.iter().map(|batch| lake::conform(batch, &schema)).collect::<lake::Result<_>>()?;
    let mut writer = lake.writer(name, run, Arc::clone(&schema), Handle::current());
    let files = tokio::task::spawn_blocking(move || -> lake::Result<Vec<DataFile>> {
        for batch in &batches {
            writer.write(batch)?;
        }
        writer.finish()
    });
    let files = files.await.with_context(|| format!("write rows of {name}"))??;
    let commit = match table {
        Some(table) if table.schema()? == schema => table.commit(run, operation),
        Some(table) => table.commit(run, operation).schema(schema),
        None => lake.replace(name, schema, run, operation).await?,
    };
    let commit = positions.into_iter().fold(commit, |commit, (name, position)| commit.position(name, position));
    Ok(Some(commit.files(files).write().await?))
}

/// All columns are nullable: rows of later runs may lack a value that the first ones had.
fn nullable(field: &Arc<Field>) -> Field {
    field.as_ref().clone().with_nullable(true)
}

/// The table's schema with the columns that only the new rows have.
fn merged(name: &TableName, there: &SchemaRef, new: &SchemaRef) -> Result<SchemaRef> {
    let mut fields: Vec<Field> = there.fields().iter().map(|field| field.as_ref().clone()).collect();
    for field in new.fields() {
        match there.field_with_name(field.name()) {
            Ok(old) if lake::widens(field.data_type(), old.data_type()) => {}
            Ok(old) => {
                let (column, old, new) = (field.name(), old.data_type(), field.data_type());
                let context = format!(
                    "add rows to {name}: its column {column:?} has the type {old}, and the new rows have {new}; \
                     give the layout the table's type, or load into another table"
                );
                return Err(sql::Error::new(sql::Kind::FixInput, context).into());
            }
            Err(_) => fields.push(nullable(field)),
        }
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// A SQL session without a role's limits: it reads all tables of the lake, the system tables and the views. A table that
/// a job fills by a layout is empty before the job has run.
pub fn session(warehouse: &Warehouse, lake: &Lake) -> Result<Session> {
    let system = Arc::new(LedgerTables::of(&warehouse.ledger));
    let session = Session::new(lake.clone(), system, None)?.with_views(warehouse.config.views());
    Ok(session.with_declared(Arc::new(declared_tables(&warehouse.config))))
}

/// Runs a query, and returns all rows at once: for results that are small.
pub async fn query(session: &Session, sql: &str) -> Result<Vec<RecordBatch>> {
    let mut stream = session.run(sql).await?;
    let mut batches = Vec::new();
    while let Some(batch) = stream.next().await {
        batches.push(batch.map_err(|error| sql::error::query_error(error, "run the query"))?);
    }
    Ok(batches)
}

/// The values of one column, counted from 0, converted to texts.
pub fn texts(batches: &[RecordBatch], column: usize) -> Result<Vec<Option<String>>> {
    let mut texts = Vec::new();
    for batch in batches {
        let cast = arrow::compute::cast(batch.column(column), &arrow::datatypes::DataType::Utf8)?;
        let cast = cast.as_any().downcast_ref::<arrow::array::StringArray>().context("convert a column to texts")?;
        texts.extend((0..cast.len()).map(|row| cast.is_valid(row).then(|| cast.value(row).to_owned())));
    }
    Ok(texts)
}
