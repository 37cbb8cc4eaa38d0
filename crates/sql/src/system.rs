//! The schema `system`: tables that describe the warehouse itself. `system.tables` and `system.versions` are computed
//! here, from the lake; the others come from an implementation of [`SystemTables`]. Each is computed when a query names
//! it, and has the present state, whatever instant the session reads.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use chrono::{DateTime, Utc};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use futures::{StreamExt, TryStreamExt, stream};
use lake::{HistoryEntry, Table, TableSize};

use crate::error::{Context, Error, Kind, Result};
use crate::row_model::RowModel;

/// The name of the schema.
pub const SCHEMA: &str = "system";
const TABLES: &str = "tables";
const VERSIONS: &str = "versions";
const HISTORIES_AT_ONCE: usize = 8;

/// System tables that are computed outside this crate, such as the ledger's runs.
pub trait SystemTables: Send + Sync {
    /// The tables' names without schema. `tables` and `versions` must not be among them.
    fn names(&self) -> Vec<&'static str>;

    /// All rows of a table, one of [`SystemTables::names`]. The columns must be the same each time, also without rows.
    /// It is called on a thread that may block.
    ///
    /// # Errors
    /// Where the table's source can't be read.
    fn scan(&self, name: &str) -> Result<RecordBatch>;

    /// The model of an endpoint, for `predict`.
    ///
    /// # Errors
    /// Where there is none, or it can't be used in a query.
    fn model(&self, endpoint: &str) -> Result<Arc<dyn RowModel>> {
        Err(Error::input(format!("there is no endpoint {endpoint:?}")))
    }
}

/// The names of all system tables, without schema: those of this module, then those of `others`.
pub fn names(others: &dyn SystemTables) -> Vec<String> {
    let own = [TABLES, VERSIONS].into_iter();
    own.chain(others.names()).map(str::to_owned).collect()
}

/// A system table with its rows. `opening` opens the tables of the lake, where the rows are about them; it is not
/// started for a table of `others`.
///
/// # Errors
/// Where there is no such table, or its source can't be read.
pub async fn table(
    name: &str,
    opening: impl Future<Output = Result<Vec<Table>>>,
    others: &Arc<dyn SystemTables>,
) -> Result<Arc<dyn TableProvider>> {
    match name {
        TABLES => in_memory(tables(opening.await?).await?),
        VERSIONS => in_memory(versions(opening.await?).await?),
        _ => in_memory(scan(name, others).await?),
    }
}

/// A system table of which only the columns matter: `tables` and `versions` are empty, the others may have rows.
///
/// # Errors
/// As [`table`].
pub async fn schema_only_table(name: &str, others: &Arc<dyn SystemTables>) -> Result<Arc<dyn TableProvider>> {
    match name {
        TABLES => in_memory(RecordBatch::new_empty(tables_schema())),
        VERSIONS => in_memory(RecordBatch::new_empty(versions_schema())),
        _ => in_memory(scan(name, others).await?),
    }
}

fn in_memory(batch: RecordBatch) -> Result<Arc<dyn TableProvider>> {
    let table = MemTable::try_new(batch.schema(), vec![vec![batch]]).context("read a system table")?;
    Ok(Arc::new(table))
}

async fn scan(name: &str, others: &Arc<dyn SystemTables>) -> Result<RecordBatch> {
    let Some(name) = others.names().into_iter().find(|known| *known == name) else {
        let known = names(others.as_ref()).join(", ");
        let context = format!("find {SCHEMA}.{name}: there is no such table; the system tables are {known}");
        return Err(Error::new(Kind::FixInput, context));
    };
    let others = Arc::clone(others);
    let scanned = tokio::task::spawn_blocking(move || others.scan(name)).await;
    scanned.map_err(|e| Error::new(Kind::Bug, format!("read {SCHEMA}.{name}")).because(e))?
}

fn instants() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// A column of a system table of this module: its name, type and nullability, and what a value means.
type ColumnDeclaration = (&'static str, fn() -> DataType, bool, &'static str);

fn text() -> DataType {
    DataType::Utf8
}

fn integer() -> DataType {
    DataType::Int64
}

fn number() -> DataType {
    DataType::Float64
}

const TABLES_COLUMNS: &[ColumnDeclaration] = &[
    ("schema", text, false, "The table's schema."),
    ("table", text, false, "Its name in the schema."),
    ("version", integer, false, "Its newest version."),
    ("files", integer, false, "Data files of that version."),
    ("bytes", integer, false, "Their size."),
    ("rows", integer, false, "Rows that a query sees."),
    ("bytes_per_row", number, true, "`bytes` by `rows`; NULL without rows."),
    ("rows_hidden", integer, false, "Rows that were replaced or deleted, and are still in the files."),
    ("changed_at", instants, true, "When the newest version was written."),
    ("files_small", integer, false, "Files that `wattlake lake optimize` would pack."),
    ("packed_at", instants, true, "When it was last packed."),
];

const VERSIONS_COLUMNS: &[ColumnDeclaration] = &[
    ("schema", text, false, "The table's schema."),
    ("table", text, false, "Its name in the schema."),
    ("version", integer, false, "The version, for `\"table@vN\"`."),
    ("at", instants, true, "When it was written."),
    ("operation", text, false, "What wrote it: `transfer`, `mart`, `load`, `pack` and so on."),
    ("run", text, true, "The run that wrote it: `system.runs.id`."),
    ("rows_added", integer, true, "Rows that it added."),
    ("rows_removed", integer, true, "Rows that it hid or removed."),
];

fn schema(columns: &[ColumnDeclaration]) -> SchemaRef {
    let fields = columns.iter().map(|(name, data_type, nullable, _)| Field::new(*name, data_type(), *nullable));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn tables_schema() -> SchemaRef {
    schema(TABLES_COLUMNS)
}

fn versions_schema() -> SchemaRef {
    schema(VERSIONS_COLUMNS)
}

/// The documentation of a system table that this crate computes.
pub struct SystemTableReference {
    pub name: &'static str,
    /// What a row is.
    pub documentation: &'static str,
    /// Name, type and meaning of each column.
    pub columns: Vec<(&'static str, &'static str, &'static str)>,
}

/// The documentation of `system.tables` and `system.versions`.
pub fn system_table_reference() -> Vec<SystemTableReference> {
    let reference = |name, documentation, columns: &[ColumnDeclaration]| {
        let type_name = |data_type: &DataType| match data_type {
            DataType::Int64 => "bigint",
            DataType::Float64 => "double precision",
            DataType::Timestamp(..) => "timestamptz",
            _ => "text",
        };
        let columns =
            columns.iter().map(|(name, data_type, _, text)| (*name, type_name(&data_type()), *text)).collect();
        SystemTableReference { name, documentation, columns }
    };
    vec![
        reference(TABLES, "A table of the lake.", TABLES_COLUMNS),
        reference(VERSIONS, "A version of a table of the lake, the newest first.", VERSIONS_COLUMNS),
    ]
}

/// Each table with its versions, the newest first.
async fn histories(opened: Vec<Table>) -> Result<Vec<(Table, Vec<HistoryEntry>)>> {
    let reading = opened.into_iter().map(|table| async move {
        let history = table.history().await.context(&format!("read the history of {}", table.name()))?;
        Ok((table, history))
    });
    stream::iter(reading.collect::<Vec<_>>()).buffered(HISTORIES_AT_ONCE).try_collect().await
}

async fn tables(opened: Vec<Table>) -> Result<RecordBatch> {
    let mut rows = Vec::new();
    for (table, history) in histories(opened).await? {
        let size = table.size().context(&format!("measure {}", table.name()))?;
        let changed_at = history.first().and_then(|version| version.at);
        let packed_at = history.iter().find(|version| version.operation == "pack").and_then(|version| version.at);
        rows.push((table, size, [changed_at, packed_at]));
    }
    let count = |of: fn(&TableSize) -> u64| integers(rows.iter().map(|(_, size, _)| Some(of(size))));
    let per_row = |size: &TableSize| (size.rows > 0).then(|| size.bytes as f64 / size.rows as f64);
    batch(
        tables_schema(),
        vec![
            texts(rows.iter().map(|(table, ..)| Some(table.name().schema.as_str()))),
            texts(rows.iter().map(|(table, ..)| Some(table.name().table.as_str()))),
            integers(rows.iter().map(|(table, ..)| Some(table.version()))),
            count(|size| size.files),
            count(|size| size.bytes),
            count(|size| size.rows),
            Arc::new(rows.iter().map(|(_, size, _)| per_row(size)).collect::<Float64Array>()),
            count(|size| size.rows_hidden),
            times(rows.iter().map(|(.., [changed_at, _])| *changed_at)),
            count(|size| size.files_small),
            times(rows.iter().map(|(.., [_, packed_at])| *packed_at)),
        ],
    )
}

async fn versions(opened: Vec<Table>) -> Result<RecordBatch> {
    let histories = histories(opened).await?;
    let rows: Vec<_> = histories.iter().flat_map(|(table, of)| of.iter().map(move |v| (table.name(), v))).collect();
    batch(
        versions_schema(),
        vec![
            texts(rows.iter().map(|(name, _)| Some(name.schema.as_str()))),
            texts(rows.iter().map(|(name, _)| Some(name.table.as_str()))),
            integers(rows.iter().map(|(_, v)| Some(v.version))),
            times(rows.iter().map(|(_, v)| v.at)),
            texts(rows.iter().map(|(_, v)| Some(v.operation.as_str()))),
            texts(rows.iter().map(|(_, v)| v.run.as_deref())),
            integers(rows.iter().map(|(_, v)| v.rows_added)),
            integers(rows.iter().map(|(_, v)| v.rows_removed)),
        ],
    )
}

fn batch(schema: SchemaRef, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    RecordBatch::try_new(schema, columns).map_err(|e| Error::new(Kind::Bug, "make a system table").because(e))
}

fn texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

fn integers(values: impl Iterator<Item = Option<u64>>) -> ArrayRef {
    Arc::new(values.map(|value| value.map(|v| i64::try_from(v).unwrap_or(i64::MAX))).collect::<Int64Array>())
}

fn times(values: impl Iterator<Item = Option<DateTime<Utc>>>) -> ArrayRef {
    let micros = values.map(|at| at.map(|at| at.timestamp_micros()));
    Arc::new(micros.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}
