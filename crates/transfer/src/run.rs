//! A run of a transfer: it plans the tables, marks them, takes a snapshot, transfers each table and reports.
//! A table that fails does not stop the others.

use std::collections::HashMap;
use std::time::Instant;

use futures::StreamExt;
use tokio::sync::Semaphore;
use tokio_postgres::SimpleQueryMessage;

use crate::changes::StreamRecord;
use crate::checkpoint::Position;
use crate::destination::postgres as to_postgres;
use crate::error::{Context, Error, Result};
use crate::late::{self, Mark, Marks};
use crate::plan::{RefusedTable, TablePlan, TransferPlan, plan};
use crate::postgres::{Catalog, Endpoint, Identity, Snapshot, quote};
use crate::publish;
use crate::read::Pool;
use crate::table_transfer::{self, ReadContext, StreamStart};
use crate::timeline::Log;

pub use crate::request::{Request, Target};
pub use crate::table_transfer::TableMode;

/// The number of small tables that are transferred at a time. The transfer's `parallel_tables` limits the large ones.
const TABLES_AT_ONCE: usize = 4;

/// The number of tables that are opened in the lake before their turn.
const TABLES_OPENED_AHEAD: usize = 8;

/// The number of tables that one transaction queries: each takes a lock at the source, and one for each of its indexes.
const TABLES_PER_TRANSACTION: usize = 100;

/// The number of queries that are sent on one connection before their results are read.
const QUERIES_AT_ONCE: usize = 32;

/// The result of one table.
#[derive(Debug)]
pub struct TableReport {
    /// The table at the source, as `schema.table`.
    pub source: String,
    /// The table in the target, as `schema.table`; empty where the table was refused.
    pub target: String,
    /// How the table was read; `Initial` where it failed.
    pub mode: TableMode,
    /// The number of rows written.
    pub rows: u64,
    /// The number of these rows that replaced an earlier version of themselves.
    pub replaced: u64,
    /// The number of bytes received from the source.
    pub bytes_read: u64,
    /// The number of bytes written to the target.
    pub bytes_written: u64,
    /// The duration of the table's transfer.
    pub seconds: f64,
    /// The position after the run.
    pub position: Option<Position>,
    /// The version of the lake's table that the run has committed; none where there was nothing new.
    pub version: Option<u64>,
    /// Why the table failed or was refused.
    pub error: Option<Error>,
}

/// The result of a run.
#[derive(Debug)]
pub struct TransferReport {
    /// The tables, failed and refused ones included, by their names at the source.
    pub tables: Vec<TableReport>,
    /// The run's duration.
    pub seconds: f64,
    /// The source's clock at the snapshot, in microseconds since 1970.
    pub at_micros: i64,
}

/// A plan with the marks of its tables, which were read before the snapshot.
pub struct MarkedPlan {
    plan: TransferPlan,
    marks: HashMap<u32, Mark>,
    identity: Identity,
}

impl MarkedPlan {
    /// A plan for tables that continue with the log, and need no marks.
    pub(crate) fn without_marks(plan: TransferPlan, identity: Identity) -> MarkedPlan {
        MarkedPlan { plan, marks: HashMap::new(), identity }
    }

    /// A report of the tables that are refused, where none is read.
    pub(crate) fn refusals(self) -> TransferReport {
        let tables = self.plan.refused.into_iter().map(refused_report).collect();
        TransferReport { tables, seconds: 0.0, at_micros: 0 }
    }

    /// Refuses unlogged tables, which are empty in a base backup.
    pub(crate) fn refuse_unlogged(&mut self) {
        let (unlogged, logged) = std::mem::take(&mut self.plan.tables).into_iter().partition(|t| t.source.unlogged);
        self.plan.tables = logged;
        let unlogged: Vec<TablePlan> = unlogged;
        self.plan.refused.extend(unlogged.into_iter().map(|table| {
            let table = table.source.display();
            let error = Error::setup(format!("carry {table}: it is unlogged, and empty in a base backup"))
                .hint("transfer it with via = \"direct\" in a transfer of its own, or exclude it");
            RefusedTable { table, error }
        }));
    }
}

/// Plans the transfer on the source's server and marks its tables: the first step of a run, also where the rows are
/// read from a copy of the server.
pub async fn plan_and_mark(request: &Request) -> Result<MarkedPlan> {
    let client = request.source.connect().await?;
    let catalog = Catalog::read(&client).await?;
    let mut plan = plan(&client, &catalog, &request.settings).await?;
    retain_tables(&mut plan, &request.tables, &request.settings.name)?;
    let tables: Vec<&TablePlan> = plan.tables.iter().collect();
    let Marks { marks, failed } = late::read_marks(&client, &tables).await?;
    plan.tables.retain(|table| !failed.contains_key(&table.source.oid));
    for (oid, error) in failed {
        if let Some(table) = catalog.tables.iter().find(|table| table.oid == oid) {
            plan.refused.push(RefusedTable { table: table.display(), error });
        }
    }
    Ok(MarkedPlan { plan, marks, identity: catalog.identity })
}

/// Removes the tables that are not in `tables` from the plan; none where `tables` is empty.
///
/// # Errors
/// Where the transfer does not have a table of `tables`, or has no table at all: a run that does nothing is no success.
pub(crate) fn retain_tables(plan: &mut TransferPlan, tables: &[String], transfer: &str) -> Result<()> {
    for name in tables {
        let known =
            plan.tables.iter().any(|t| t.source.display() == *name) || plan.refused.iter().any(|r| r.table == *name);
        if !known {
            let known: Vec<String> = plan.tables.iter().map(|table| table.source.display()).collect();
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            let error = Error::input(format!("transfer {transfer}: it has no table {name}"));
            return Err(error.hint(base::suggestion("table", name, &known).unwrap_or_default()));
        }
    }
    if !tables.is_empty() {
        plan.tables.retain(|t| tables.contains(&t.source.display()));
        plan.refused.retain(|r| tables.contains(&r.table));
    }
    if plan.tables.is_empty() && plan.refused.is_empty() {
        return Err(Error::setup(format!("transfer {transfer}: it takes no table of the source")).hint(
            "check include and exclude, and whether names have changed at the source; `*` stands for any characters",
        ));
    }
    Ok(())
}

/// Refuses a target that is the source's database, by whatever address it is reached.
pub(crate) async fn check_distinct_databases(request: &Request, identity: Identity) -> Result<()> {
    let Target::Postgres(endpoint) = &request.target else { return Ok(()) };
    check_distinct(&request.settings.name, endpoint, (identity, &request.source)).await
}

/// Refuses a target that is the database of a source.
pub(crate) async fn check_distinct(
    transfer: &str,
    target: &Endpoint,
    (identity, source): (Identity, &Endpoint),
) -> Result<()> {
    if Identity::of(&target.connect().await?).await? != identity {
        return Ok(());
    }
    let (target, source) = (target.display(), source.display());
    let context = format!("transfer {transfer}: its target, {target}, is the database of its source, {source}");
    Err(Error::setup(context).state("target-is-source").hint("give the target a database of its own"))
}

/// Transfers the tables of a marked plan. The rows are read from `data`, which is the source itself or a copy of it.
///
/// # Errors
/// Where no table can be transferred; the error of a single table is in its report.
pub async fn transfer_tables(request: &Request, marked: MarkedPlan, data: &Endpoint) -> Result<TransferReport> {
    check_distinct_databases(request, marked.identity).await?;
    let snapshot = Snapshot::export(data).await.context("take a snapshot of the source")?;
    transfer_under(request, marked, data, &snapshot, None).await
}

/// As [`transfer_tables`], under a snapshot of the source that shows the transactions before a position in its log.
pub(crate) async fn transfer_under(
    request: &Request,
    marked: MarkedPlan,
    data: &Endpoint,
    snapshot: &Snapshot,
    stream: Option<StreamStart>,
) -> Result<TransferReport> {
    let started = Instant::now();
    let version = server_version(data).await?;
    // After the snapshot, and of the source's server: all that the snapshot shows was written before this log position.
    let log = Log::of(&request.source.connect().await?).await?;
    if let Target::Postgres(endpoint) = &request.target {
        to_postgres::prepare(&endpoint.connect().await?).await?;
    }
    let pool = Pool::new(data, snapshot.join());
    let parallel = request.settings.parallel_tables.max(1);
    let context = ReadContext {
        greatest: greatest_keys(data, snapshot, &marked.plan.tables).await,
        pool,
        snapshot,
        version,
        marks: &marked.marks,
        identity: marked.identity,
        log,
        stream,
        large: Semaphore::new(parallel),
    };
    let mut reports: Vec<TableReport> = marked.plan.refused.into_iter().map(refused_report).collect();
    let carried = futures::stream::iter(marked.plan.tables)
        .map(|table| open_ahead(request, table))
        .buffered(TABLES_OPENED_AHEAD)
        .map(|(table, present)| transfer_table(request, &context, table, present))
        .buffer_unordered(parallel.max(TABLES_AT_ONCE));
    reports.extend(carried.collect::<Vec<_>>().await);
    reports.sort_by(|a, b| a.source.cmp(&b.source));
    Ok(TransferReport { tables: reports, seconds: started.elapsed().as_secs_f64(), at_micros: snapshot.at_micros })
}

/// Runs a transfer that reads all rows from the source itself.
///
/// # Errors
/// As [`plan_and_mark`] and [`transfer_tables`].
pub async fn run(request: &Request) -> Result<TransferReport> {
    warn_of_slot(request).await?;
    let marked = plan_and_mark(request).await?;
    transfer_tables(request, marked, &request.source).await
}

/// Warns where the transfer has streamed before and its slot was not dropped: the server keeps the log for it.
async fn warn_of_slot(request: &Request) -> Result<()> {
    let name = &request.settings.name;
    if let Some(slot) = StreamRecord::read(request.stream_store(), name).await?.and_then(|record| record.slot) {
        tracing::warn!(
            slot,
            "the source keeps its log for the replication slot of mode = \"changes\", which nothing reads now: where it \
             is not used any more, run `wattlake transfer drop-slot {name}`"
        );
    }
    Ok(())
}

/// Opens a table in the lake while earlier tables are transferred.
async fn open_ahead(request: &Request, table: TablePlan) -> (TablePlan, Result<Option<lake::Table>>) {
    let Target::Lake(lake) = &request.target else { return (table, Ok(None)) };
    let (lake, name) = (lake.clone(), table.target.clone());
    // In a task, which runs also while the stream of tables is not polled.
    let present = tokio::spawn(async move { lake.table(&name).await.context("open the table in the lake") }).await;
    (table, present.unwrap_or_else(|error| Err(Error::bug("open a table").because(error))))
}

/// The greatest key of each table whose cursor is its key, in the snapshot, by the table's OID. Where a query fails,
/// the table's own transfer repeats it.
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
    for chunk in queries.chunks(TABLES_PER_TRANSACTION) {
        if client.batch_execute(&snapshot.join()).await.is_err() {
            return greatest;
        }
        let client = &client;
        let mut results = futures::stream::iter(chunk)
            .map(async |(oid, sql)| (*oid, client.simple_query(sql).await))
            .buffered(QUERIES_AT_ONCE);
        while let Some((oid, Ok(messages))) = results.next().await {
            let row = messages.iter().find_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(row),
                _ => None,
            });
            greatest.insert(oid, row.and_then(|row| row.get(0)?.parse().ok()));
        }
        drop(results);
        // Also after a query that failed: the next ones are in a transaction of their own.
        if client.batch_execute("ROLLBACK").await.is_err() {
            return greatest;
        }
    }
    greatest
}

pub(crate) async fn server_version(endpoint: &Endpoint) -> Result<u32> {
    let client = endpoint.connect().await?;
    let row = client.query_one("SELECT current_setting('server_version_num')::int", &[]).await;
    Ok(row.context("read the server's version")?.get::<_, i32>(0).unsigned_abs())
}

fn refused_report(refused: RefusedTable) -> TableReport {
    TableReport {
        source: refused.table,
        target: String::new(),
        mode: TableMode::Initial,
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

async fn transfer_table(
    request: &Request,
    context: &ReadContext<'_>,
    table: TablePlan,
    present: Result<Option<lake::Table>>,
) -> TableReport {
    let started = Instant::now();
    let name = table.source.display();
    request.progress.started(&name, table.source.rows_estimate);
    let outcome = match &request.target {
        Target::Lake(lake) => match present {
            Ok(present) => table_transfer::into_lake(request, context, &table, lake, present).await,
            Err(error) => Err(error),
        },
        Target::Postgres(endpoint) => table_transfer::into_postgres(request, context, &table, endpoint).await,
        Target::Stream(target) => publish::into_stream(request, context, &table, target).await,
    };
    request.progress.finished(&name, outcome.is_err());
    let mut report = TableReport {
        source: name.clone(),
        target: table.target.to_string(),
        mode: TableMode::Initial,
        rows: 0,
        replaced: 0,
        bytes_read: 0,
        bytes_written: 0,
        seconds: started.elapsed().as_secs_f64(),
        position: None,
        version: None,
        error: None,
    };
    match outcome {
        Ok(carried) => {
            report.mode = carried.mode;
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
