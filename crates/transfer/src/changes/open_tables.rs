//! The tables that take part in a stream, as their target has them. Those without a position in the log are read whole
//! before the stream begins.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::history_writer::HistoryWriter;
use super::slot::snapshot_at_position;
use super::source::{self, SelectedTables};
use super::status::StreamObserver;
use super::stream_record::{RereadRequest, StreamRecord};
use super::table_stream::{TableStream, matching};
use super::table_writer::TableWriter;
use crate::checkpoint::{Checkpoint, Origin, STREAM};
use crate::destination::deleted_rows::with_deleted_at;
use crate::destination::history::generation_of;
use crate::destination::{lake as to_lake, postgres as to_postgres};
use crate::error::{Context, Error, Kind, Result};
use crate::lsn::Lsn;
use crate::plan::{TablePlan, TransferPlan, plan};
use crate::postgres::{Catalog, Endpoint, Identity, Snapshot};
use crate::publish::{self, StreamTarget};
use crate::request::{Request, Target};
use crate::resume::{Permission, keep_names};
use crate::run::{MarkedPlan, TransferReport, transfer_under};
use crate::table_transfer::StreamStart;

/// How often a table is read again by itself within a time. Where its source gives no other values, this would go on for
/// ever, and each time hold up the other tables.
const REREADS_MAX: usize = 5;
const REREADS_WITHIN: Duration = Duration::from_secs(600);

/// What is known of a table before the stream begins.
pub struct PresentTable {
    /// Its plan, with the names that its columns have in the target.
    pub plan: TablePlan,
    /// The table in the lake.
    table: Option<lake::Table>,
    /// The position up to which the table has the log, and its origin; `None` where the table is to be read.
    pub ready: Option<(Lsn, Origin)>,
    /// The table's history, with its position, where it is recorded.
    history: Option<(lake::Table, Lsn)>,
}

/// The tables of a session, and what it knows of the source.
pub struct Prepared {
    /// The tables that are not opened yet, and those that were refused.
    pub plan: TransferPlan,
    /// The source.
    pub identity: Identity,
    /// `server_version_num` of the source.
    pub version: u32,
    /// The record of the stream.
    pub record: StreamRecord,
    /// The tables that the transfer may select.
    pub selected: SelectedTables,
}

/// The tables that are read again.
#[derive(Default)]
pub struct Rereads {
    /// As a user asked for, until they were read.
    pub by_user: BTreeSet<String>,
    /// A user asked for all tables, and they are not among `by_user` yet.
    pub all_by_user: bool,
    /// Where the log lacked values, until they were read.
    pub automatic: BTreeSet<String>,
    /// When those of `automatic` were read.
    pub done: BTreeMap<String, Vec<Instant>>,
    /// Some type has no binary format, so that the server sends texts.
    pub has_texts_only: bool,
    /// The server has failed to decode a transaction before its commit, so that it sends them after it.
    pub has_whole_transactions: bool,
}

/// The tables that take part in the stream. Those without a position in the log are read first.
pub async fn ready_tables(
    request: &Arc<Request>,
    observer: &Arc<dyn StreamObserver>,
    prepared: &mut Prepared,
    rereads: &mut Rereads,
) -> Result<Vec<PresentTable>> {
    let plans = std::mem::take(&mut prepared.plan.tables);
    if std::mem::take(&mut rereads.all_by_user) {
        rereads.by_user.extend(plans.iter().map(|plan| plan.source.display()));
    }
    let (mut ready, mut to_copy) = (Vec::new(), Vec::new());
    for plan in plans {
        let name = plan.source.display();
        let must_read = rereads.by_user.contains(&name) || rereads.automatic.contains(&name);
        match look_at(request, prepared, plan, must_read).await {
            Ok(present) if present.ready.is_some() => ready.push(present),
            Ok(present) => to_copy.push(present.plan),
            Err((_, error)) if error.kind == Kind::Retry => return Err(error),
            Err((plan, error)) => prepared.plan.refused.push(crate::plan::RefusedTable { table: plan, error }),
        }
    }
    if !to_copy.is_empty() || prepared.record.start.is_none() {
        let copied = copy(request, observer, prepared, to_copy, &rereads.by_user).await?;
        for plan in copied {
            rereads.automatic.remove(&plan.source.display());
            match look_at(request, prepared, plan, false).await {
                Ok(present) if present.ready.is_some() => ready.push(present),
                Ok(present) => {
                    let name = present.plan.source.display();
                    return Err(Error::bug(format!("open {name}: it was read, and has no position in the log")));
                }
                Err((_, error)) => return Err(error),
            }
        }
    } else if !prepared.plan.refused.is_empty() {
        let plan = TransferPlan { refused: std::mem::take(&mut prepared.plan.refused), ..TransferPlan::default() };
        let refused = MarkedPlan::without_marks(plan, prepared.identity);
        observer.copied(&refused.refusals());
    }
    if !rereads.by_user.is_empty() {
        // Also those that can't be read: their errors are reported.
        RereadRequest::finish(request, &std::mem::take(&mut rereads.by_user)).await?;
    }
    Ok(ready)
}

impl Rereads {
    /// The tables that were read again so often that another time would not help: they fail.
    pub fn exhausted(&self) -> BTreeSet<String> {
        let is_recent = |at: &&Instant| at.elapsed() < REREADS_WITHIN;
        let is_exhausted = |times: &Vec<Instant>| times.iter().filter(is_recent).count() >= REREADS_MAX;
        self.done.iter().filter(|(_, times)| is_exhausted(times)).map(|(table, _)| table.clone()).collect()
    }
}

/// The streams of tables of the lake, by their OIDs at the source.
pub async fn lake_streams(
    request: &Request,
    record: &StreamRecord,
    ready: Vec<PresentTable>,
) -> Result<HashMap<u32, TableStream>> {
    let mut streams = HashMap::new();
    for present in ready {
        let (Some(table), Some((position, origin))) = (present.table, present.ready) else { continue };
        let plan = present.plan;
        let oid = plan.source.oid;
        let matching = matching(&plan, &origin, &request.settings);
        let marks = request.settings.marks_deleted();
        let table = if marks { ensure_deleted_at(table, &request.run).await? } else { table };
        let generation = origin.history.as_ref().and_then(|state| state.open()).map_or(0, |span| span.generation);
        let history = present
            .history
            .map(|(table, at)| HistoryWriter::new(table, &request.run, at, generation, Handle::current()));
        let mut writer = TableWriter::new(table, history.transpose()?, &request.run, matching, Handle::current())?;
        let before = origin;
        let mut origin = before.clone();
        origin.mirrors &= request.settings.has_deletes();
        origin.marks = marks;
        if !request.settings.changes.history {
            origin.history = origin.ended_history(record.reached.of(oid).unwrap_or_default());
        }
        if origin != before {
            writer.set_origin(origin.clone());
        }
        streams.insert(oid, TableStream::new(plan, origin, position, writer));
    }
    Ok(streams)
}

/// The table with the column for the times of deletes, which is committed where it is missing.
async fn ensure_deleted_at(table: lake::Table, run: &str) -> Result<lake::Table> {
    let context = "add the column for deleted rows";
    let present = table.schema().context(context)?;
    let schema = with_deleted_at(&present);
    if schema == present {
        return Ok(table);
    }
    table.commit(run, "mark").schema(schema).write().await.context(context)?;
    table.reload().await.context(context)
}

/// What the target has of a table.
async fn look_at(
    request: &Request,
    prepared: &Prepared,
    plan: TablePlan,
    must_read: bool,
) -> std::result::Result<PresentTable, (String, Error)> {
    let name = plan.source.display();
    let looked = match &request.target {
        Target::Lake(lake) => look_in_lake(request, prepared, lake, plan, must_read).await,
        Target::Postgres(endpoint) => look_in_postgres(request, prepared, endpoint, plan, must_read).await,
        Target::Stream(target) => look_in_stream(request, prepared, target, plan, must_read).await,
    };
    looked.map_err(|error| (name.clone(), error.within(format!("open {name}"))))
}

async fn look_in_lake(
    request: &Request,
    prepared: &Prepared,
    lake: &lake::Lake,
    plan: TablePlan,
    must_read: bool,
) -> Result<PresentTable> {
    let table = lake.table(&plan.target).await.context("open the table in the lake")?;
    let Some(present) = &table else { return Ok(PresentTable { plan, table: None, ready: None, history: None }) };
    let state = to_lake::target_state(present, &request.settings.name, &plan).await?;
    let position = present.position(STREAM).await.context("read the table's position")?.map(Lsn::from_i64);
    if must_read {
        return Ok(PresentTable { plan, table, ready: None, history: None });
    }
    let ready = continued(request, prepared, &plan, position, state.checkpoint.unwrap_or_default())?;
    let history = match request.settings.changes.history {
        true => history_of(lake, &plan).await?,
        false => None,
    };
    let has_history = |position: &Lsn, origin: &Origin| {
        let span = origin.history.as_ref().and_then(|state| state.open());
        // After an interruption between the commits of a copy, the history is one copy ahead.
        let is_of_copy = |(table, reached): &(lake::Table, Lsn)| {
            reached >= position
                && generation_of(table)
                    .ok()
                    .flatten()
                    .is_some_and(|last| span.is_some_and(|span| span.generation == last))
        };
        span.is_some_and(|span| span.key == plan.key) && history.as_ref().is_some_and(is_of_copy)
    };
    let ready = ready.filter(|(at, origin)| !request.settings.changes.history || has_history(at, origin));
    Ok(with_names(PresentTable { plan, table, ready, history }))
}

async fn look_in_postgres(
    request: &Request,
    prepared: &Prepared,
    endpoint: &Endpoint,
    plan: TablePlan,
    must_read: bool,
) -> Result<PresentTable> {
    let client = endpoint.connect().await?;
    to_postgres::prepare(&client).await?;
    let state = to_postgres::target_state(&client, &request.settings.name, &plan).await?;
    let position = to_postgres::stream_position(&client, &plan).await?;
    let ready = match must_read {
        true => None,
        false => continued(request, prepared, &plan, position, state.checkpoint.unwrap_or_default())?,
    };
    Ok(with_names(PresentTable { plan, table: None, ready, history: None }))
}

async fn look_in_stream(
    request: &Request,
    prepared: &Prepared,
    target: &StreamTarget,
    plan: TablePlan,
    must_read: bool,
) -> Result<PresentTable> {
    publish::check_plan(&plan)?;
    let published = target.connect(&request.settings.name, &prepared.record.id).await?;
    let of_table = published.tables.get(&plan.source.oid).filter(|table| table.stream == prepared.record.id);
    if let Some(refusal) = of_table.and_then(|table| table.refusal.as_ref()).filter(|_| !must_read) {
        let error = Error::input(format!("{refusal} (found by an earlier run)")).state("errored");
        return Err(error.hint(format!("read it again: {}", plan.resync_command)));
    }
    let position = of_table.and_then(|table| table.from).filter(|_| !must_read).map(Lsn::from_i64);
    let origin = Origin {
        stream: Some(prepared.record.id.clone()),
        ..Origin::of(&request.settings.name, prepared.identity, &plan)
    };
    let checkpoint = Checkpoint { origin: Some(origin), position: None };
    let ready = continued(request, prepared, &plan, position, checkpoint)?;
    Ok(PresentTable { plan, table: None, ready, history: None })
}

/// The position and the origin of a table that continues with the log.
///
/// # Errors
/// Where an earlier run has refused it.
fn continued(
    request: &Request,
    prepared: &Prepared,
    plan: &TablePlan,
    position: Option<Lsn>,
    checkpoint: Checkpoint,
) -> Result<Option<(Lsn, Origin)>> {
    if let Some(refusal) = checkpoint.position.as_ref().and_then(|position| position.refusal.as_ref()) {
        let error = Error::input(format!("{} (found by an earlier run)", refusal.context)).state("errored");
        return Err(error.hint(format!("read it again: {}", plan.resync_command)));
    }
    let is_same = |origin: &Origin| {
        let identity = prepared.identity;
        origin.table == plan.source.oid
            && (origin.system, origin.database) == (identity.system, identity.database)
            && origin.transfer == request.settings.name
            && origin.stream.as_ref() == Some(&prepared.record.id)
            // Rows that were deleted and kept without a mark can't be told from others.
            && (!request.settings.marks_deleted() || origin.marks || origin.mirrors)
            && origin.filter.as_deref().unwrap_or_default() == plan.filter.as_deref().unwrap_or_default()
    };
    // A table that was left out of an earlier session lacks the changes of it.
    let is_continuous = prepared.record.tables.as_ref().is_none_or(|tables| tables.contains(&plan.source.oid));
    let ready = position.zip(checkpoint.origin);
    Ok(ready.filter(|(_, origin)| is_continuous && is_same(origin)))
}

/// The table with the names that its columns have in the target, or to be read where they can't be kept.
fn with_names(mut present: PresentTable) -> PresentTable {
    let mut named = present.plan.clone();
    present.ready = present.ready.filter(|(_, origin)| keep_names(&mut named, origin).is_ok());
    if present.ready.is_some() {
        present.plan = named;
    }
    present
}

/// The history of a table, with its position in the log.
async fn history_of(lake: &lake::Lake, plan: &TablePlan) -> Result<Option<(lake::Table, Lsn)>> {
    let context = "open the table's history";
    let Some(history) = lake.table(&plan.target.history()).await.context(context)? else { return Ok(None) };
    let position = history.position(STREAM).await.context(context)?;
    Ok(position.map(|position| (history, Lsn::from_i64(position))))
}

/// Reads tables whole, under the snapshot of the slot, which is created where it does not exist, or of a temporary one.
/// Returns those that were read.
async fn copy(
    request: &Arc<Request>,
    observer: &Arc<dyn StreamObserver>,
    prepared: &mut Prepared,
    tables: Vec<TablePlan>,
    by_user: &BTreeSet<String>,
) -> Result<Vec<TablePlan>> {
    let settings = &request.settings;
    let is_first = prepared.record.start.is_none();
    if is_first {
        // Before the slot: where this process is killed in between, the next one knows that the slot is its own.
        prepared.record.write(request).await?;
    }
    let name = match is_first {
        true => settings.changes.slot.clone(),
        false => format!("{}_copy_{}", settings.changes.slot.chars().take(40).collect::<String>(), std::process::id()),
    };
    let (snapshot, start) = snapshot_at_position(&request.source, prepared.version, name, !is_first).await?;
    if is_first {
        prepared.record.start = Some(start);
        prepared.record.confirmed = Some(start);
        prepared.record.write(request).await?;
    }
    let tables = plan_under(request, &snapshot, &tables).await?;
    let plans = tables.clone();
    let (asked, others): (Vec<_>, Vec<_>) =
        tables.into_iter().partition(|plan| by_user.contains(&plan.source.display()));
    let refused = std::mem::take(&mut prepared.plan.refused);
    let mut report = TransferReport { tables: Vec::new(), seconds: 0.0, at_micros: snapshot.at_micros };
    for (tables, refused, permission) in
        [(others, refused, Permission::AsConfigured), (asked, Vec::new(), reread_permission(request))]
    {
        let marked =
            MarkedPlan::without_marks(TransferPlan { tables, refused, ..TransferPlan::default() }, prepared.identity);
        let request = request.with_permission(permission);
        let begin =
            StreamStart { id: prepared.record.id.clone(), position: start, reached: prepared.record.reached.clone() };
        let part = transfer_under(&request, marked, &request.source, &snapshot, Some(begin)).await?;
        report.tables.extend(part.tables);
        report.seconds += part.seconds;
    }
    observer.copied(&report);
    // The others are read again, too: none has missed a change.
    let retryable = |error: &&Error| error.kind == Kind::Retry;
    if let Some(error) = report.tables.iter().filter_map(|table| table.error.as_ref()).find(retryable) {
        return Err(Error::retry(base::chain(error)));
    }
    let is_read = |plan: &TablePlan| {
        let name = plan.source.display();
        report.tables.iter().any(|table| table.source == name && table.error.is_none())
    };
    let read: Vec<TablePlan> = plans.into_iter().filter(is_read).collect();
    for plan in &read {
        prepared.record.reached.of_left.remove(&plan.source.oid);
    }
    if let Some(tables) = &mut prepared.record.tables {
        tables.extend(read.iter().map(|plan| plan.source.oid));
    }
    Ok(read)
}

/// The plans of tables by the catalogue that the snapshot shows: a table that was changed since it was planned must be
/// read with the columns that it has at the snapshot's position in the log.
async fn plan_under(request: &Request, snapshot: &Snapshot, tables: &[TablePlan]) -> Result<Vec<TablePlan>> {
    let client = snapshot.client();
    let catalog = Catalog::read(client).await?;
    let mut planned = plan(client, &catalog, &request.settings).await?;
    source::plan_identities(client, &mut planned).await?;
    let find = |table: &TablePlan| planned.tables.iter().find(|now| now.source.oid == table.source.oid).cloned();
    let found: Option<Vec<TablePlan>> = tables.iter().map(find).collect();
    found.ok_or_else(|| Error::retry("read the tables: one was dropped or changed at the same time"))
}

/// What is done to tables that a user asked to read again.
fn reread_permission(request: &Request) -> Permission {
    match request.permission {
        Permission::Replace => Permission::Replace,
        _ => Permission::Resync,
    }
}
