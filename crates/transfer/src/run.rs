//! A transfer from start to end: plan, mark, cut, carry each table, report. One table in error
//! does not stop the others.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt;
use lake::Lake;
use tokio_postgres::Client;

use crate::error::{Context, Error, Result};
use crate::late::{self, Mark, Marks, Position};
use crate::plan::{Mode, Plan, Refused, Settings, TablePlan, plan};
use crate::postgres::{Catalog, Endpoint, Snapshot, TableKind};
use crate::read::{Progress, Reading, whole};
use crate::target::lake::Written;
use crate::target::{lake as to_lake, postgres as to_postgres};

/// Where rows go.
#[derive(Clone)]
pub enum Target {
    Lake(Lake),
    Postgres(Endpoint),
}

/// What to run.
pub struct Request {
    pub settings: Settings,
    /// The live server: planned and marked on.
    pub source: Endpoint,
    pub target: Target,
    /// The run's id; part of the names of the files that it writes.
    pub run: String,
    /// Only these, by `schema.table`; all when empty.
    pub tables: Vec<String>,
    pub progress: Arc<dyn Progress>,
}

/// How a table was carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    Initial,
    Incremental,
    /// Whole, because it has no cursor.
    Reload,
}

impl How {
    pub fn as_str(self) -> &'static str {
        match self {
            How::Initial => "initial",
            How::Incremental => "incremental",
            How::Reload => "reload",
        }
    }
}

/// What became of one table.
#[derive(Debug)]
pub struct TableReport {
    pub source: String,
    pub target: String,
    pub how: How,
    pub rows: u64,
    /// Of them, rows that took the place of an earlier version of theirs.
    pub replaced: u64,
    pub bytes_read: u64,
    pub bytes_written: u64,
    pub seconds: f64,
    pub position: Option<Position>,
    pub version: Option<u64>,
    pub error: Option<Error>,
}

#[derive(Debug)]
pub struct Report {
    pub tables: Vec<TableReport>,
    pub seconds: f64,
    /// The source's clock at the cut, in microseconds since 1970.
    pub at_micros: i64,
}

/// A plan with what was seen of its tables before the cut.
pub struct Marked {
    plan: Plan,
    marks: HashMap<u32, Mark>,
}

/// Plans on the live server and marks its tables: first of all, also when rows come from a copy.
pub async fn mark(request: &Request) -> Result<Marked> {
    let client = request.source.connect().await?;
    let catalog = Catalog::read(&client).await?;
    let mut plan = plan(&client, &catalog, &request.settings).await?;
    if !request.tables.is_empty() {
        for name in &request.tables {
            let known = plan.tables.iter().any(|t| t.source.display() == *name)
                || plan.refused.iter().any(|r| r.table == *name);
            if !known {
                return Err(Error::setup(format!("transfer {}: it carries no table {name}", request.settings.name)));
            }
        }
        plan.tables.retain(|t| request.tables.contains(&t.source.display()));
        plan.refused.retain(|r| request.tables.contains(&r.table));
    }
    let tables: Vec<&TablePlan> = plan.tables.iter().collect();
    let Marks { marks, failed } = late::mark(&client, &tables).await?;
    plan.tables.retain(|table| !failed.contains_key(&table.source.oid));
    for (oid, error) in failed {
        if let Some(table) = catalog.tables.iter().find(|table| table.oid == oid) {
            plan.refused.push(Refused { table: table.display(), error });
        }
    }
    Ok(Marked { plan, marks })
}

/// Carries what was marked; rows come from `data`, which is the source itself or a copy of it.
pub async fn carry(request: &Request, marked: Marked, data: &Endpoint) -> Result<Report> {
    let started = Instant::now();
    let version = server_version(data).await?;
    let snapshot = Snapshot::export(data).await.context("cut all tables at one moment")?;
    if let Target::Postgres(endpoint) = &request.target {
        to_postgres::prepare(&endpoint.connect().await?).await?;
    }
    let cut = Cut { data, snapshot: &snapshot, version, marks: &marked.marks };
    let mut reports: Vec<TableReport> = marked.plan.refused.into_iter().map(refused).collect();
    let carried = futures::stream::iter(marked.plan.tables)
        .map(|table| carry_table(request, &cut, table))
        .buffer_unordered(request.settings.parallel_tables.max(1));
    reports.extend(carried.collect::<Vec<_>>().await);
    reports.sort_by(|a, b| a.source.cmp(&b.source));
    Ok(Report { tables: reports, seconds: started.elapsed().as_secs_f64(), at_micros: snapshot.at_micros })
}

/// The usual way: all from the source itself.
pub async fn run(request: &Request) -> Result<Report> {
    let marked = mark(request).await?;
    carry(request, marked, &request.source).await
}

async fn server_version(endpoint: &Endpoint) -> Result<u32> {
    let client = endpoint.connect().await?;
    let row = client.query_one("SELECT current_setting('server_version_num')::int", &[]).await;
    Ok(row.context("ask for the server's version")?.get::<_, i32>(0).unsigned_abs())
}

fn refused(refused: Refused) -> TableReport {
    TableReport {
        source: refused.table,
        target: String::new(),
        how: How::Initial,
        rows: 0,
        replaced: 0,
        bytes_read: 0,
        bytes_written: 0,
        seconds: 0.0,
        position: None,
        version: None,
        error: Some(refused.error),
    }
}

/// The moment at which all tables are read.
struct Cut<'a> {
    data: &'a Endpoint,
    snapshot: &'a Snapshot,
    version: u32,
    marks: &'a HashMap<u32, Mark>,
}

impl Cut<'_> {
    fn reading(&self, plan: &Arc<TablePlan>, queries: Vec<String>, progress: &Arc<dyn Progress>) -> Arc<Reading> {
        Reading::new(self.data, self.snapshot.join(), Arc::clone(plan), queries, Arc::clone(progress))
    }

    fn after(&self, plan: &TablePlan, high: i64) -> Position {
        let mark = self.marks.get(&plan.source.oid).copied().unwrap_or_default();
        let position = late::next(mark, high, plan.overlap);
        // A view and a foreign table show no transactions: their overlap must do.
        if plan.source.is_view() || plan.source.kind == TableKind::Foreign {
            return Position { xid: None, ..position };
        }
        position
    }
}

async fn carry_table(request: &Request, cut: &Cut<'_>, table: TablePlan) -> TableReport {
    let started = Instant::now();
    let name = table.source.display();
    request.progress.started(&name, table.source.rows_estimate);
    let table = Arc::new(table);
    let carried = match &request.target {
        Target::Lake(lake) => into_lake(request, cut, &table, lake).await,
        Target::Postgres(endpoint) => into_postgres(request, cut, &table, endpoint).await,
    };
    request.progress.finished(&name, carried.is_err());
    let mut report = TableReport {
        source: name.clone(),
        target: table.target.to_string(),
        how: How::Initial,
        rows: 0,
        replaced: 0,
        bytes_read: 0,
        bytes_written: 0,
        seconds: started.elapsed().as_secs_f64(),
        position: None,
        version: None,
        error: None,
    };
    match carried {
        Ok(carried) => {
            report.how = carried.how;
            report.rows = carried.written.rows;
            report.replaced = carried.written.replaced;
            report.bytes_read = carried.bytes_read;
            report.bytes_written = carried.written.bytes;
            report.version = carried.written.version;
            report.position = carried.position;
        }
        Err(error) => report.error = Some(error.within(format!("carry {name}"))),
    }
    report
}

struct Carried {
    how: How,
    written: Written,
    bytes_read: u64,
    position: Option<Position>,
}

/// INCREMENTAL goes on where it stopped; without a position, or a cursor, the table is read whole.
fn decide(request: &Request, table: &TablePlan, before: Option<Position>) -> (How, Option<Position>) {
    match (request.settings.mode, &table.cursor, before) {
        (Mode::Initial, ..) | (Mode::Incremental, Some(_), None) => (How::Initial, None),
        (Mode::Incremental, None, _) => (How::Reload, None),
        (Mode::Incremental, Some(_), before) => (How::Incremental, before),
    }
}

async fn into_lake(request: &Request, cut: &Cut<'_>, table: &Arc<TablePlan>, lake: &Lake) -> Result<Carried> {
    let present = lake.table(&table.target).await.context("open the table in the lake")?;
    let before = match &present {
        Some(present) => to_lake::position(present, &request.settings.name).await?,
        None => None,
    };
    let (transfer, run) = (request.settings.name.as_str(), request.run.as_str());
    if let ((How::Incremental, Some(before)), Some(present), Some(cursor)) =
        (decide(request, table, before), present, &table.cursor)
    {
        let query = table.select(&table.source.rows(), Some(&late::condition(before, cursor)));
        let reading = cut.reading(table, vec![query], &request.progress);
        let mut position = before;
        let written = to_lake::increment(present, &reading, transfer, run, before, |high| {
            position = cut.after(table, high);
            position
        })
        .await?;
        let position = if written.version.is_some() { position } else { before };
        return Ok(Carried { how: How::Incremental, written, bytes_read: reading.bytes(), position: Some(position) });
    }
    let (how, _) = decide(request, table, None);
    let (queries, streams) = whole(table, cut.version, request.settings.streams);
    let reading = cut.reading(table, queries, &request.progress);
    let mut position = None;
    let written = to_lake::initial(lake, &reading, streams, transfer, run, |high| {
        // An empty table starts at the very beginning.
        position = table.cursor.as_ref().map(|_| cut.after(table, high.unwrap_or(i64::MIN)));
        position
    })
    .await?;
    Ok(Carried { how, written, bytes_read: reading.bytes(), position })
}

async fn into_postgres(
    request: &Request,
    cut: &Cut<'_>,
    table: &Arc<TablePlan>,
    endpoint: &Endpoint,
) -> Result<Carried> {
    let mut client: Client = endpoint.connect().await?;
    let (transfer, run) = (request.settings.name.as_str(), request.run.as_str());
    let before = to_postgres::position(&client, transfer, table).await?;
    let high = match &table.cursor {
        Some(cursor) => to_postgres::greatest(cut.snapshot.client(), table, cursor).await?,
        None => None,
    };
    if let ((How::Incremental, Some(before)), Some(cursor)) = (decide(request, table, before), &table.cursor) {
        let query = table.select_plain(&table.source.rows(), Some(&late::condition(before, cursor)));
        let reading = cut.reading(table, vec![query], &request.progress);
        let after = cut.after(table, high.unwrap_or(before.high).max(before.high));
        let written = to_postgres::increment(endpoint, &client, &reading, transfer, run, after).await?;
        return Ok(Carried { how: How::Incremental, written, bytes_read: reading.bytes(), position: Some(after) });
    }
    let (how, _) = decide(request, table, None);
    let (queries, streams) = to_postgres::whole(table, cut.version, request.settings.streams);
    let reading = cut.reading(table, queries, &request.progress);
    let position = table.cursor.as_ref().map(|_| cut.after(table, high.unwrap_or(i64::MIN)));
    let written = to_postgres::initial(endpoint, &mut client, &reading, streams, transfer, run, position).await?;
    Ok(Carried { how, written, bytes_read: reading.bytes(), position })
}
