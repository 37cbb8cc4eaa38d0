//! A transfer from start to end: plan, mark, cut, carry each table, report. One table in error
//! does not stop the others.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt;
use lake::Lake;
use tokio::sync::Semaphore;
use tokio_postgres::SimpleQueryMessage;

use crate::carry::{self, Cut};
use crate::checkpoint::Position;
use crate::error::{Context, Error, Result};
use crate::late::{self, Mark, Marks};
use crate::plan::{Plan, Refused, Settings, TablePlan, plan};
use crate::postgres::{Catalog, Endpoint, Identity, Snapshot, quote};
use crate::read::{Pool, Progress};
use crate::resume::Permission;
use crate::target::postgres as to_postgres;
use crate::timeline::Log;

/// Tables that are under way at a time, large ones aside: those take turns by the transfer's setting.
const TABLES_AT_ONCE: usize = 4;

/// Tables that are looked up in the lake ahead.
const TABLES_OPENED: usize = 8;

/// Tables that one transaction asks about: each takes a lock at the source, and one for each of its indexes.
const TABLES_LOCKED: usize = 100;

/// Questions that are under way at a time, on one connection.
const QUESTIONS_AT_ONCE: usize = 32;

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
    /// What may become of a table that holds rows.
    pub permission: Permission,
    /// Where a table is read again: columns whose mapping has changed become NULL in rows that the source no longer has.
    pub clears_changed: bool,
    pub progress: Arc<dyn Progress>,
}

/// How a table was carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    Initial,
    Incremental,
    /// Whole, because it has no cursor.
    Reload,
    /// Whole, and the rows that the source no longer has stay.
    Resync,
}

impl How {
    pub fn as_str(self) -> &'static str {
        match self {
            How::Initial => "initial",
            How::Incremental => "incremental",
            How::Reload => "reload",
            How::Resync => "resync",
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
    identity: Identity,
}

impl Marked {
    /// Takes tables out that a copy of the server has empty.
    pub(crate) fn refuse_unlogged(&mut self) {
        let (unlogged, logged) = std::mem::take(&mut self.plan.tables).into_iter().partition(|t| t.source.unlogged);
        self.plan.tables = logged;
        let unlogged: Vec<TablePlan> = unlogged;
        self.plan.refused.extend(unlogged.into_iter().map(|table| {
            let table = table.source.display();
            let error = Error::setup(format!("carry {table}: it is unlogged, and a base backup has it empty"))
                .hint("carry it with via = \"direct\" in a transfer of its own, or exclude it");
            Refused { table, error }
        }));
    }
}

/// Plans on the live server and marks its tables: first of all, also when rows come from a copy.
pub async fn mark(request: &Request) -> Result<Marked> {
    let client = request.source.connect().await?;
    let catalog = Catalog::read(&client).await?;
    let mut plan = plan(&client, &catalog, &request.settings).await?;
    only(&mut plan, &request.tables, &request.settings.name)?;
    let tables: Vec<&TablePlan> = plan.tables.iter().collect();
    let Marks { marks, failed } = late::mark(&client, &tables).await?;
    plan.tables.retain(|table| !failed.contains_key(&table.source.oid));
    for (oid, error) in failed {
        if let Some(table) = catalog.tables.iter().find(|table| table.oid == oid) {
            plan.refused.push(Refused { table: table.display(), error });
        }
    }
    Ok(Marked { plan, marks, identity: catalog.identity })
}

/// Leaves the tables that are named, all where none is.
///
/// # Errors
/// Where a table is named that the transfer does not carry, and where none is left: what does nothing is no success.
pub(crate) fn only(plan: &mut Plan, tables: &[String], transfer: &str) -> Result<()> {
    for name in tables {
        let known =
            plan.tables.iter().any(|t| t.source.display() == *name) || plan.refused.iter().any(|r| r.table == *name);
        if !known {
            return Err(Error::setup(format!("transfer {transfer}: it carries no table {name}")));
        }
    }
    if !tables.is_empty() {
        plan.tables.retain(|t| tables.contains(&t.source.display()));
        plan.refused.retain(|r| tables.contains(&r.table));
    }
    if plan.tables.is_empty() && plan.refused.is_empty() {
        return Err(Error::setup(format!("transfer {transfer}: it takes no table of the source"))
            .hint("look at include and exclude, and at names that have changed at the source; `*` stands for any run of characters"));
    }
    Ok(())
}

/// The target must not be the source, whatever name it is reached by.
async fn distinct(request: &Request, identity: Identity) -> Result<()> {
    let Target::Postgres(endpoint) = &request.target else { return Ok(()) };
    let client = endpoint.connect().await?;
    if Identity::of(&client).await? != identity {
        return Ok(());
    }
    let context = format!(
        "transfer {}: its target, {}, is the database of its source, {}",
        request.settings.name,
        endpoint.display(),
        request.source.display()
    );
    Err(Error::setup(context).state("target-is-source").hint("give the target a database of its own"))
}

/// Carries what was marked; rows come from `data`, which is the source itself or a copy of it.
pub async fn carry(request: &Request, marked: Marked, data: &Endpoint) -> Result<Report> {
    let started = Instant::now();
    let version = server_version(data).await?;
    distinct(request, marked.identity).await?;
    let snapshot = Snapshot::export(data).await.context("cut all tables at one moment")?;
    // After the snapshot, and of the live server: what the snapshot shows was written before this place of the log.
    let log = Log::of(&request.source.connect().await?).await?;
    if let Target::Postgres(endpoint) = &request.target {
        to_postgres::prepare(&endpoint.connect().await?).await?;
    }
    let pool = Pool::new(data, snapshot.join());
    let parallel = request.settings.parallel_tables.max(1);
    let cut = Cut {
        greatest: greatest_keys(data, &snapshot, &marked.plan.tables).await,
        pool,
        snapshot: &snapshot,
        version,
        marks: &marked.marks,
        identity: marked.identity,
        log,
        large: Semaphore::new(parallel),
    };
    let mut reports: Vec<TableReport> = marked.plan.refused.into_iter().map(refused).collect();
    let carried = futures::stream::iter(marked.plan.tables)
        .map(|table| opened(request, table))
        .buffered(TABLES_OPENED)
        .map(|(table, present)| carry_table(request, &cut, table, present))
        .buffer_unordered(parallel.max(TABLES_AT_ONCE));
    reports.extend(carried.collect::<Vec<_>>().await);
    reports.sort_by(|a, b| a.source.cmp(&b.source));
    Ok(Report { tables: reports, seconds: started.elapsed().as_secs_f64(), at_micros: snapshot.at_micros })
}

/// The usual way: all from the source itself.
pub async fn run(request: &Request) -> Result<Report> {
    let marked = mark(request).await?;
    carry(request, marked, &request.source).await
}

/// Looks a table up in the lake, ahead of the tables that are being carried.
async fn opened(request: &Request, table: TablePlan) -> (TablePlan, Result<Option<lake::Table>>) {
    let Target::Lake(lake) = &request.target else { return (table, Ok(None)) };
    let (lake, name) = (lake.clone(), table.target.clone());
    // A task of its own goes on while nobody asks for it.
    let present = tokio::spawn(async move { lake.table(&name).await.context("open the table in the lake") }).await;
    (table, present.unwrap_or_else(|error| Err(Error::bug("open a table").because(error))))
}

/// Of each table whose cursor is its key, the greatest under the snapshot. What could not be asked is asked again when
/// the table's turn comes.
async fn greatest_keys(data: &Endpoint, snapshot: &Snapshot, tables: &[TablePlan]) -> HashMap<u32, Option<i64>> {
    let queries: Vec<(u32, String)> = tables
        .iter()
        .filter_map(|table| {
            let column = quote(&table.cursor.as_ref().filter(|cursor| cursor.is_key)?.integer()?.column);
            Some((table.source.oid, format!("SELECT max({column})::text FROM {}", table.source.rows())))
        })
        .collect();
    let mut greatest = HashMap::new();
    let Ok(client) = data.connect().await else { return greatest };
    for some in queries.chunks(TABLES_LOCKED) {
        if client.batch_execute(&snapshot.join()).await.is_err() {
            return greatest;
        }
        let client = &client;
        let mut answers = futures::stream::iter(some)
            .map(async |(oid, sql)| (*oid, client.simple_query(sql).await))
            .buffered(QUESTIONS_AT_ONCE);
        while let Some((oid, Ok(messages))) = answers.next().await {
            let row = messages.iter().find_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(row),
                _ => None,
            });
            greatest.insert(oid, row.and_then(|row| row.get(0)?.parse().ok()));
        }
        drop(answers);
        // Also after a question that failed: the next ones are in a transaction of their own.
        if client.batch_execute("ROLLBACK").await.is_err() {
            return greatest;
        }
    }
    greatest
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

async fn carry_table(
    request: &Request,
    cut: &Cut<'_>,
    table: TablePlan,
    present: Result<Option<lake::Table>>,
) -> TableReport {
    let started = Instant::now();
    let name = table.source.display();
    request.progress.started(&name, table.source.rows_estimate);
    let carried = match &request.target {
        Target::Lake(lake) => match present {
            Ok(present) => carry::into_lake(request, cut, &table, lake, present).await,
            Err(error) => Err(error),
        },
        Target::Postgres(endpoint) => carry::into_postgres(request, cut, &table, endpoint).await,
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
