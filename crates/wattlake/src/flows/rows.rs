//! Rows added to a table of the lake, in one commit; the table is made by its first rows, and has
//! more columns when rows bring more. What it holds never changes.

use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use futures::StreamExt;
use lake::{DataFile, Lake, TableName};
use sql::Session;
use tokio::runtime::Handle;

use crate::system::LedgerTables;
use crate::warehouse::Warehouse;

/// Nothing is written where there are no rows and the table is there. Of two commits with the same
/// name among their `positions`, made at once, one fails.
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

/// Rows of later runs may lack a value that the first ones had.
fn nullable(field: &Arc<Field>) -> Field {
    field.as_ref().clone().with_nullable(true)
}

fn merged(name: &TableName, there: &SchemaRef, new: &SchemaRef) -> Result<SchemaRef> {
    let mut fields: Vec<Field> = there.fields().iter().map(|field| field.as_ref().clone()).collect();
    for field in new.fields() {
        match there.field_with_name(field.name()) {
            Ok(old) if lake::widens(field.data_type(), old.data_type()) => {}
            Ok(old) => {
                let (column, old, new) = (field.name(), old.data_type(), field.data_type());
                let context = format!(
                    "add rows to {name}: its column {column:?} is {old} and theirs is {new}; \
                     give the layout the table's type, or load into another table"
                );
                return Err(sql::Error::new(sql::Kind::FixInput, context).into());
            }
            Err(_) => fields.push(nullable(field)),
        }
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// A session that sees all of the lake.
pub fn session(warehouse: &Warehouse, lake: &Lake) -> Result<Session> {
    let system = Arc::new(LedgerTables::of(&warehouse.ledger));
    Ok(Session::new(lake.clone(), system, None)?.with_views(warehouse.config.views()))
}

/// All rows of a query, which are few.
pub async fn asked(session: &Session, query: &str) -> Result<Vec<RecordBatch>> {
    let mut stream = session.run(query).await?;
    let mut batches = Vec::new();
    while let Some(batch) = stream.next().await {
        batches.push(batch.map_err(sql::Error::from_query)?);
    }
    Ok(batches)
}

/// A column of texts, whatever form it has.
pub fn texts(batches: &[RecordBatch], column: usize) -> Result<Vec<Option<String>>> {
    let mut found = Vec::new();
    for batch in batches {
        let cast = arrow::compute::cast(batch.column(column), &arrow::datatypes::DataType::Utf8)?;
        let cast = cast.as_any().downcast_ref::<arrow::array::StringArray>().context("a column of texts")?;
        found.extend((0..cast.len()).map(|row| cast.is_valid(row).then(|| cast.value(row).to_owned())));
    }
    Ok(found)
}
