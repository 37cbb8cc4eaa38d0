//! Documents, such as bills: rows that belong together and are corrected by entries. All of a load
//! in one commit; a document that is no longer there at all is taken back like its rows.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use arrow::array::{Array, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use ingest::layout::Layout;
use ingest::load::{Document, Roles, entries_schema, plan};
use sql::Session;

use super::{Desk, OPERATION, sql_name};
use crate::flows::rows;

/// What the rows were made of.
pub struct Made {
    pub inputs: String,
    pub code: String,
    pub again: bool,
    /// The rows are all that there is of what the first of a document's columns names, such as a
    /// period: a document of it that they lack is taken back. With the period that they are for.
    pub whole: Option<Option<String>>,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    pub new: usize,
    pub same: usize,
    pub changed: usize,
    pub withdrawn: usize,
}

impl Counts {
    pub fn add(&mut self, other: Counts) {
        self.new += other.new;
        self.same += other.same;
        self.changed += other.changed;
        self.withdrawn += other.withdrawn;
    }
}

#[derive(Debug, Default)]
pub struct Entered {
    pub rows: u64,
    pub documents: u64,
    pub counts: Counts,
}

pub async fn enter(
    desk: &Desk<'_>,
    session: &Session,
    layout: &Layout,
    made: &Made,
    batches: Vec<RecordBatch>,
) -> Result<Entered> {
    let schema = layout.schema();
    let whole = concat_batches(&schema, &batches).context("put the rows together")?;
    let mut documents = split(&whole, &desk.load.document)?;
    let target = entries_schema(&schema)?;
    let is_there = desk.lake.table(&desk.target()).await?.is_some();
    if let (true, Some(period)) = (is_there, &made.whole) {
        for name in gone(desk, session, &documents, period.as_deref()).await? {
            documents.insert(name, RecordBatch::new_empty(std::sync::Arc::clone(&schema)));
        }
    }
    let roles: &Roles = &desk.load.roles;
    let (mut entered, mut entries, mut positions) = (Entered::default(), Vec::new(), Vec::new());
    for (name, rows) in documents {
        let before = if is_there { entries_of(desk, session, &name).await? } else { Vec::new() };
        let document = Document {
            name: name.clone(),
            inputs: made.inputs.clone(),
            code: made.code.clone(),
            recorded_at: desk.recorded_at,
            again: made.again,
        };
        let plan = plan(&document, roles, &schema, &[rows], &before).with_context(|| format!("enter {name}"))?;
        entered.documents += 1;
        let counts = plan.counts;
        entered.counts.add(Counts {
            new: counts.new,
            same: counts.same,
            changed: counts.changed,
            withdrawn: counts.withdrawn,
        });
        if plan.entries.num_rows() > 0 {
            entered.rows += plan.entries.num_rows() as u64;
            positions.push((format!("load/{}/{name}", desk.load.name), plan.version));
            entries.push(plan.entries);
        }
    }
    #[cfg(feature = "failpoints")]
    fail::fail_point!("load-before-commit");
    rows::append(&desk.lake, &desk.target(), desk.run.id(), OPERATION, &target, entries, positions).await?;
    #[cfg(feature = "failpoints")]
    fail::fail_point!("load-after-commit");
    Ok(entered)
}

/// Documents that share their first column's value with some of these, and are not among them.
async fn gone(
    desk: &Desk<'_>,
    session: &Session,
    documents: &BTreeMap<String, RecordBatch>,
    period: Option<&str>,
) -> Result<Vec<String>> {
    let mut firsts: BTreeSet<&str> = documents.keys().filter_map(|name| name.split('/').next()).collect();
    // An answer without any row says so of its period, too.
    firsts.extend(period.filter(|_| desk.load.document.first().is_some_and(|column| column == "period")));
    let firsts: Vec<String> = firsts.into_iter().map(|first| format!("'{}'", first.replace('\'', "''"))).collect();
    if firsts.is_empty() || desk.load.document.len() < 2 {
        return Ok(Vec::new());
    }
    let (table, firsts) = (sql_name(&desk.target()), firsts.join(", "));
    let query =
        format!("SELECT DISTINCT document FROM {table} WHERE split_part(document, '/', 1) IN ({firsts}) ORDER BY 1");
    let batches = rows::asked(session, &query).await.with_context(|| format!("ask what documents {table} has"))?;
    Ok(rows::texts(&batches, 0)?.into_iter().flatten().filter(|name| !documents.contains_key(name)).collect())
}

async fn entries_of(desk: &Desk<'_>, session: &Session, name: &str) -> Result<Vec<RecordBatch>> {
    let table = sql_name(&desk.target());
    let query = format!("SELECT * FROM {table} WHERE document = '{}'", name.replace('\'', "''"));
    rows::asked(session, &query).await.with_context(|| format!("ask for the entries of {name}"))
}

/// By the document's columns, as `2026-03/PRD0042`.
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
    let taken = |places: Vec<u32>| take_record_batch(rows, &UInt32Array::from(places));
    let split = places.into_iter().map(|(name, places)| Ok((name, taken(places)?)));
    split.collect::<Result<_>>().context("part the rows by document")
}
