//! Documents, such as bills: rows that belong together and are corrected by entries. All of a load
//! is one commit. A document that the new rows lack is withdrawn: each of its rows is reversed.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use arrow::array::{Array, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use ingest::layout::Layout;
use ingest::load::{ColumnRoles, Document, entries_schema, plan};
use sql::Session;

use super::load_run::{LoadRun, OPERATION, sql_name};
use crate::flows::rows;

/// What the rows of a load come from.
pub struct Origin {
    /// The hash of the inputs: of an event, or of a file.
    pub inputs: String,
    /// The hash of the code: of a function's version, or of a layout.
    pub code: String,
    /// Loads also what was loaded before from the same inputs and code and was replaced since.
    pub again: bool,
    /// Set where the rows are complete for each value of the first of a document's columns, such as a
    /// period: documents with such a value that the rows lack are withdrawn. Holds the run's period.
    pub whole: Option<Option<String>>,
}

/// What became of the rows of documents, in rows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    pub new: usize,
    /// Unchanged.
    pub same: usize,
    pub changed: usize,
    /// In force before, and reversed now without a new entry.
    pub withdrawn: usize,
}

impl Counts {
    /// Adds the counts of another document.
    pub fn add(&mut self, other: Counts) {
        self.new += other.new;
        self.same += other.same;
        self.changed += other.changed;
        self.withdrawn += other.withdrawn;
    }
}

/// What a load of documents added.
#[derive(Debug, Default)]
pub struct DocumentCounts {
    /// Entries that were added, reversals included.
    pub rows: u64,
    /// Documents that were compared.
    pub documents: u64,
    pub counts: Counts,
}

/// Compares the documents of the rows with those in force, and adds the entries that make them equal, in one commit.
pub async fn enter(
    load_run: &LoadRun<'_>,
    session: &Session,
    layout: &Layout,
    origin: &Origin,
    batches: Vec<RecordBatch>,
) -> Result<DocumentCounts> {
    let schema = layout.schema();
    let whole = concat_batches(&schema, &batches).context("concatenate the rows")?;
    let mut documents = split(&whole, &load_run.load.document)?;
    let target = entries_schema(&schema)?;
    let is_there = load_run.lake.table(&load_run.target()).await?.is_some();
    if let (true, Some(period)) = (is_there, &origin.whole) {
        for name in missing_documents(load_run, session, &documents, period.as_deref()).await? {
            documents.insert(name, RecordBatch::new_empty(std::sync::Arc::clone(&schema)));
        }
    }
    let roles: &ColumnRoles = &load_run.load.roles;
    let (mut total, mut entries, mut positions) = (DocumentCounts::default(), Vec::new(), Vec::new());
    for (name, rows) in documents {
        let before = if is_there { entries_of(load_run, session, &name).await? } else { Vec::new() };
        let document = Document {
            name: name.clone(),
            inputs: origin.inputs.clone(),
            code: origin.code.clone(),
            recorded_at: load_run.recorded_at,
            again: origin.again,
        };
        let plan = plan(&document, roles, &schema, &[rows], &before).with_context(|| format!("enter {name}"))?;
        total.documents += 1;
        let counts = plan.counts;
        total.counts.add(Counts {
            new: counts.new,
            same: counts.same,
            changed: counts.changed,
            withdrawn: counts.withdrawn,
        });
        if plan.entries.num_rows() > 0 {
            total.rows += plan.entries.num_rows() as u64;
            positions.push((format!("load/{}/{name}", load_run.load.name), plan.version));
            entries.push(plan.entries);
        }
    }
    #[cfg(feature = "failpoints")]
    fail::fail_point!("load-before-commit");
    rows::append(&load_run.lake, &load_run.target(), load_run.run.id(), OPERATION, &target, entries, positions).await?;
    #[cfg(feature = "failpoints")]
    fail::fail_point!("load-after-commit");
    Ok(total)
}

/// Documents of the table that share their first column's value with some of these, and are not among them.
async fn missing_documents(
    load_run: &LoadRun<'_>,
    session: &Session,
    documents: &BTreeMap<String, RecordBatch>,
    period: Option<&str>,
) -> Result<Vec<String>> {
    let mut firsts: BTreeSet<&str> = documents.keys().filter_map(|name| name.split('/').next()).collect();
    // An answer without any row is complete for the run's period.
    firsts.extend(period.filter(|_| load_run.load.document.first().is_some_and(|column| column == "period")));
    let firsts: Vec<String> = firsts.into_iter().map(|first| format!("'{}'", first.replace('\'', "''"))).collect();
    if firsts.is_empty() || load_run.load.document.len() < 2 {
        return Ok(Vec::new());
    }
    let (table, firsts) = (sql_name(&load_run.target()), firsts.join(", "));
    let query =
        format!("SELECT DISTINCT document FROM {table} WHERE split_part(document, '/', 1) IN ({firsts}) ORDER BY 1");
    let batches = rows::query(session, &query).await.with_context(|| format!("read which documents {table} has"))?;
    Ok(rows::texts(&batches, 0)?.into_iter().flatten().filter(|name| !documents.contains_key(name)).collect())
}

/// All entries of one document that the table holds.
async fn entries_of(load_run: &LoadRun<'_>, session: &Session, name: &str) -> Result<Vec<RecordBatch>> {
    let table = sql_name(&load_run.target());
    let query = format!("SELECT * FROM {table} WHERE document = '{}'", name.replace('\'', "''"));
    rows::query(session, &query).await.with_context(|| format!("read the entries of {name}"))
}

/// Splits rows by document. A document's name is the values of its columns, such as `2026-03/PRD0042`.
fn split(rows: &RecordBatch, columns: &[String]) -> Result<BTreeMap<String, RecordBatch>> {
    let options = FormatOptions::default();
    let mut formatters = Vec::new();
    for column in columns {
        let values = rows.column_by_name(column).with_context(|| format!("the rows have no column {column:?}"))?;
        formatters.push((values.as_ref() as &dyn Array, ArrayFormatter::try_new(values.as_ref(), &options)?));
    }
    let mut places: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for row in 0..rows.num_rows() {
        let mut parts = Vec::new();
        for ((values, formatter), column) in formatters.iter().zip(columns) {
            if values.is_null(row) {
                anyhow::bail!("row {} has no {column:?}, which names its document", row + 1);
            }
            parts.push(formatter.value(row).to_string());
        }
        places.entry(parts.join("/")).or_default().push(u32::try_from(row).context("count the rows")?);
    }
    let select = |places: Vec<u32>| take_record_batch(rows, &UInt32Array::from(places));
    let split = places.into_iter().map(|(name, places)| Ok((name, select(places)?)));
    split.collect::<Result<_>>().context("split the rows by document")
}
