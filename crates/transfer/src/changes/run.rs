//! Runs a transfer by CHANGES: it makes the publication and the slot, reads the tables that have no position in the
//! log under the slot's snapshot, and streams. An error that may pass interrupts the stream, which begins again.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio_postgres::Client;

use super::capture::POLL;
use super::history_writer::HistoryWriter;
use super::session::{Session, SessionEnd, SessionOptions};
use super::slot::{SourceWatch, WatchedState, ensure_slot_is_ours, snapshot_at_position, watch_source};
use super::source::{self, Published, SelectedTables};
use super::status::StreamObserver;
use super::stream_record::{RereadRequest, StreamRecord};
use super::table_stream::{LogForm, TableStream, matching};
use super::table_writer::TableWriter;
use crate::checkpoint::{Origin, STREAM};
use crate::destination::history::generation_of;
use crate::destination::lake as to_lake;
use crate::error::{Context, Error, Kind, Result};
use crate::lsn::Lsn;
use crate::plan::{TablePlan, TransferPlan, plan};
use crate::postgres::replication::ReplicationConnection;
use crate::postgres::{Catalog, Identity, Snapshot};
use crate::request::Request;
use crate::resume::{Permission, keep_names};
use crate::run::{MarkedPlan, TransferReport, check_distinct_databases, retain_tables, transfer_under};
use crate::table_transfer::StreamStart;
use crate::timeline::{Continuity, Log, LogPosition};

/// The waits between an interruption and the next session.
const WAIT_MIN: Duration = Duration::from_millis(500);
const WAIT_MAX: Duration = Duration::from_secs(60);
/// A session of this length shows that the cause of the interruptions before it has passed.
const HEALTHY: Duration = Duration::from_secs(30);

/// What the server reports where a value of the log has no binary format.
const NO_BINARY: &str = "no binary output function";

/// How long a stream runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEnd {
    /// Until it is stopped. Interruptions are followed by a new session.
    Never,
    /// Until the lake has all that was committed at the source before the call.
    CaughtUp,
}

/// Streams until `observer` stops it or the end is reached. Tables of `request.tables` are read again first; with the
/// permission [`Permission::Replace`] in place of the lake's rows.
///
/// # Errors
/// Where the source or the lake is not set up for it; with [`StreamEnd::CaughtUp`] any error that ends a session.
pub async fn run(request: &Arc<Request>, end: StreamEnd, observer: &Arc<dyn StreamObserver>) -> Result<()> {
    let mut wait = WAIT_MIN;
    let mut rereads = Rereads { by_user: request.tables.iter().cloned().collect(), ..Rereads::default() };
    loop {
        let started = Instant::now();
        rereads.by_user.extend(RereadRequest::read(request).await?.tables);
        let ended = session(request, end, observer, &mut rereads).await;
        if started.elapsed() >= HEALTHY {
            wait = WAIT_MIN;
            rereads.done.clear();
        }
        match ended {
            Ok(SessionEnd::Stopped) => return Ok(()),
            Ok(SessionEnd::Replan) => wait = WAIT_MIN,
            Ok(SessionEnd::Reread(table)) => {
                wait = WAIT_MIN;
                rereads.automatic.insert(table.clone());
                rereads.done.insert(table);
            }
            Err(error) if !rereads.has_texts_only && base::chain(&error).contains(NO_BINARY) => {
                rereads.has_texts_only = true;
            }
            Err(error) if error.kind == Kind::Retry && end == StreamEnd::Never => {
                tracing::warn!("the stream was interrupted: {}", base::chain(&error));
                observer.interrupted(&error, wait);
                let until = Instant::now() + wait;
                while Instant::now() < until {
                    if observer.should_stop() {
                        return Ok(());
                    }
                    tokio::time::sleep(POLL).await;
                }
                wait = (wait * 2).min(WAIT_MAX);
            }
            Err(error) => return Err(error),
        }
    }
}

/// The tables that are read again.
#[derive(Default)]
struct Rereads {
    /// As a user asked for, until they were read.
    by_user: BTreeSet<String>,
    /// Where the log lacked values, until they were read.
    automatic: BTreeSet<String>,
    /// Those of `automatic` that were read: where it did not help, they fail.
    done: BTreeSet<String>,
    /// Some type has no binary format, so that the server sends texts.
    has_texts_only: bool,
}

/// The tables of a session, and what it knows of the source.
struct Prepared {
    plan: TransferPlan,
    identity: Identity,
    version: u32,
    record: StreamRecord,
    selected: SelectedTables,
}

async fn session(
    request: &Arc<Request>,
    end: StreamEnd,
    observer: &Arc<dyn StreamObserver>,
    rereads: &mut Rereads,
) -> Result<SessionEnd> {
    let client = request.source.connect().await?;
    let until = match end {
        StreamEnd::Never => None,
        StreamEnd::CaughtUp => Some(source::write_log_mark(&client).await?),
    };
    let mut prepared = prepare(request, &client, rereads).await?;
    let tables = open_tables(request, observer, &mut prepared, rereads).await?;
    if !check_history(request, &client, &mut prepared, &tables).await? {
        return Ok(SessionEnd::Replan);
    }
    prepared.record.set_tables(tables.keys().copied().collect());
    prepared.record.write(request.lake()?, &request.settings.name).await?;
    let slot = request.settings.changes.slot.clone();
    let publication = request.settings.changes.publication.clone();
    let (request, observer, version) = (Arc::clone(request), Arc::clone(observer), prepared.version);
    let record = prepared.record;
    let (runtime, reread) = (Handle::current(), rereads.done.clone());
    let has_texts_only = rereads.has_texts_only;
    drop(client);
    let watch = Arc::new(SourceWatch::new(until));
    let before =
        WatchedState { publication: record.publication.clone().unwrap_or_default(), tables: prepared.selected };
    let watching = tokio::spawn(watch_source(Arc::clone(&request), before, Arc::clone(&watch)));
    let streaming = tokio::task::spawn_blocking(move || {
        let connection = ReplicationConnection::connect(&request.source, version)?;
        let form =
            LogForm { has_binary: connection.has_binary() && !has_texts_only, has_bytes: connection.has_bytes() };
        let stream = connection.start(&slot, &publication, form.has_binary, POLL)?;
        let (observer, until) = (observer.as_ref(), until.map(|mark| mark.position));
        let options =
            SessionOptions { request: &request, form, until, observer, reread: &reread, watch: &watch, runtime };
        Session::new(options, tables, record).run(stream)
    });
    let ended = streaming.await.map_err(|e| Error::bug("stream the log").because(e));
    watching.abort();
    ended?
}

/// Whether the source's log has all that the tables have. Otherwise the source was restored or failed over to a standby
/// that lacks a part of it: the slot is dropped, so that the tables are read again.
async fn check_history(
    request: &Request,
    client: &Client,
    prepared: &mut Prepared,
    tables: &HashMap<u32, TableStream>,
) -> Result<bool> {
    let Some(log) = Log::of(client).await? else { return Ok(true) };
    let timeline = prepared.record.timeline.unwrap_or(log.now.timeline);
    let reached = tables.values().map(|table| table.durable).max().unwrap_or_default();
    let before = LogPosition { timeline, lsn: reached.to_i64() };
    if log.continuity(before) == Continuity::Complete {
        prepared.record.timeline = Some(log.now.timeline);
        return Ok(true);
    }
    if log.is_standby && log.continuity(before) == Continuity::Diverged(log.now) {
        return Err(Error::retry(format!("stream changes: the standby is at {}, and the lake has {before}", log.now))
            .hint("run it again when the standby has caught up, or stream from the primary"));
    }
    let slot = &request.settings.changes.slot;
    tracing::warn!(
        slot,
        "the tables are read again: the source was restored or failed over, its log is at {}, and the lake has {before}",
        log.now
    );
    let drop = "SELECT pg_drop_replication_slot($1)";
    client.execute(drop, &[slot]).await.context(format!("drop the slot {slot}"))?;
    prepared.record.without_slot().write(request.lake()?, &request.settings.name).await?;
    Ok(false)
}

async fn prepare(request: &Request, client: &Client, rereads: &mut Rereads) -> Result<Prepared> {
    let settings = &request.settings;
    // Before the catalogue: a table that is created in between is found when the stream has begun.
    let selected = source::selected_tables(client, settings).await?;
    let catalog = Catalog::read(client).await?;
    let version = catalog.server_version;
    source::check_server(client, version).await?;
    check_distinct_databases(request, catalog.identity).await?;
    let mut plan = plan(client, &catalog, settings).await?;
    retain_tables(&mut plan, &[], &settings.name)?;
    check_known(request, &plan)?;
    source::plan_identities(client, &mut plan).await?;
    let identity = catalog.identity;
    let published = source::ensure_publication(client, &settings.changes, &plan.tables, version).await?;
    if let Published::Changed(tables) = &published {
        // What was written while they were not published is not in the log.
        rereads.automatic.extend(tables.iter().cloned());
    }
    let mut record = ensure_slot_is_ours(request, client, identity, version, published == Published::New).await?;
    let now = source::publication_state(client, &settings.changes.publication).await?;
    if let Some(before) = record.publication.replace(now.clone()) {
        let was_changed = |table: &&TablePlan| {
            let oid = table.source.oid;
            before.publication != now.publication || before.tables.get(&oid) != now.tables.get(&oid)
        };
        rereads.automatic.extend(plan.tables.iter().filter(was_changed).map(|table| table.source.display()));
    }
    let verified = record.reached.verified;
    for table in plan.tables.iter().filter(|table| rereads.automatic.contains(&table.source.display())) {
        // Their changes may be missing since the publication was last found unchanged.
        if published != Published::Unchanged || record.publication.is_some() {
            record.reached.leave(table.source.oid, verified);
        }
    }
    Ok(Prepared { plan, identity, version, record, selected })
}

/// Refuses tables to read again that the transfer does not have.
fn check_known(request: &Request, plan: &TransferPlan) -> Result<()> {
    let planned = plan.tables.iter().map(|table| table.source.display());
    let known: Vec<String> = planned.chain(plan.refused.iter().map(|refused| refused.table.clone())).collect();
    let Some(unknown) = request.tables.iter().find(|table| !known.contains(table)) else { return Ok(()) };
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let error = Error::input(format!("transfer {}: it has no table {unknown}", request.settings.name));
    Err(error.hint(base::suggestion("table", unknown, &known).unwrap_or_default()))
}

/// What is known of a table before the stream begins.
struct PresentTable {
    plan: TablePlan,
    table: Option<lake::Table>,
    /// The position up to which the table has the log, and its origin; `None` where the table is to be read.
    ready: Option<(Lsn, Origin)>,
    /// The table's history, with its position, where it is recorded.
    history: Option<(lake::Table, Lsn)>,
}

/// Opens the tables that take part in the stream. Those without a position in the log are read first.
async fn open_tables(
    request: &Arc<Request>,
    observer: &Arc<dyn StreamObserver>,
    prepared: &mut Prepared,
    rereads: &mut Rereads,
) -> Result<HashMap<u32, TableStream>> {
    let plans = std::mem::take(&mut prepared.plan.tables);
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
    let mut streams = HashMap::new();
    for present in ready {
        let (Some(table), Some((position, origin))) = (present.table, present.ready) else { continue };
        let plan = present.plan;
        let oid = plan.source.oid;
        let matching = matching(&plan, &origin, &request.settings);
        let generation = origin.history.as_ref().and_then(|state| state.open()).map_or(0, |span| span.generation);
        let history = present
            .history
            .map(|(table, at)| HistoryWriter::new(table, &request.run, at, generation, Handle::current()));
        let mut writer = TableWriter::new(table, history.transpose()?, &request.run, matching, Handle::current())?;
        let before = origin;
        let mut origin = before.clone();
        origin.mirrors &= request.settings.has_deletes();
        if !request.settings.changes.history {
            origin.history = origin.ended_history(prepared.record.reached.of(oid).unwrap_or_default());
        }
        if origin != before {
            writer.set_origin(origin.clone());
        }
        streams.insert(oid, TableStream::new(plan, origin, position, writer));
    }
    Ok(streams)
}

/// What the lake has of a table.
async fn look_at(
    request: &Request,
    prepared: &Prepared,
    plan: TablePlan,
    must_read: bool,
) -> std::result::Result<PresentTable, (String, Error)> {
    let name = plan.source.display();
    let named = |error: Error| (name.clone(), error.within(format!("open {name}")));
    let lake = request.lake().map_err(named)?;
    let table = lake.table(&plan.target).await.context("open the table in the lake").map_err(named)?;
    let Some(present) = &table else { return Ok(PresentTable { plan, table: None, ready: None, history: None }) };
    let state = to_lake::target_state(present, &request.settings.name, &plan).await.map_err(named)?;
    let position = present.position(STREAM).await.context("read the table's position").map_err(named)?;
    let checkpoint = state.checkpoint.unwrap_or_default();
    if must_read {
        return Ok(PresentTable { plan, table, ready: None, history: None });
    }
    if let Some(refusal) = checkpoint.position.as_ref().and_then(|position| position.refusal.as_ref()) {
        let error = Error::input(format!("{} (found by an earlier run)", refusal.context)).state("errored");
        return Err((name, error.hint(format!("read it again: {}", plan.resync_command))));
    }
    let is_same = |origin: &Origin| {
        let identity = prepared.identity;
        origin.table == plan.source.oid
            && (origin.system, origin.database) == (identity.system, identity.database)
            && origin.transfer == request.settings.name
            && origin.stream.as_ref() == Some(&prepared.record.id)
            && origin.filter.as_deref().unwrap_or_default() == plan.filter.as_deref().unwrap_or_default()
    };
    let record = &prepared.record;
    // A table that was left out of an earlier session lacks the changes of it.
    let is_continuous = record.tables.as_ref().is_none_or(|tables| tables.contains(&plan.source.oid));
    let ready = match (position.map(Lsn::from_i64), checkpoint.origin) {
        (Some(position), Some(origin)) if is_continuous && is_same(&origin) => Some((position, origin)),
        _ => None,
    };
    let history = match request.settings.changes.history {
        true => history_of(lake, &plan).await.map_err(named)?,
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
    let mut named = plan.clone();
    let ready = ready.filter(|(_, origin)| keep_names(&mut named, origin).is_ok());
    let plan = if ready.is_some() { named } else { plan };
    Ok(PresentTable { plan, table, ready, history })
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
        prepared.record.write(request.lake()?, &settings.name).await?;
    }
    let name = match is_first {
        true => settings.changes.slot.clone(),
        false => format!("{}_copy_{}", settings.changes.slot.chars().take(40).collect::<String>(), std::process::id()),
    };
    let (snapshot, start) = snapshot_at_position(&request.source, prepared.version, name, !is_first).await?;
    if is_first {
        prepared.record.start = Some(start);
        prepared.record.confirmed = Some(start);
        prepared.record.write(request.lake()?, &settings.name).await?;
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

/// Drops what the transfer has at the source. Returns what was dropped. Of the stream's record, the times up to which
/// the tables have all changes are kept: their histories end there.
pub async fn drop_slot(request: &Request) -> Result<Vec<String>> {
    let (lake, settings) = (request.lake()?, &request.settings);
    let client = request.source.connect().await?;
    let identity = Identity::of(&client).await?;
    let record = StreamRecord::read(lake, &settings.name).await?;
    let Some(record) = record.filter(|record| record.is_of(&settings.changes.slot, identity)) else {
        // Its state is an error where it belongs to another database.
        let state = source::slot_state(&client, &settings.changes.slot, 0).await?;
        if state.is_none() {
            return Ok(Vec::new());
        }
        let slot = &settings.changes.slot;
        let what = format!("drop the slot {slot}: this warehouse has not created it");
        let hint = format!("where nothing uses it, at the source: SELECT pg_drop_replication_slot('{slot}')");
        return Err(Error::setup(what).state("slot").hint(hint));
    };
    let dropped = source::drop_slot(&request.source, &settings.changes).await?;
    record.without_slot().write(lake, &settings.name).await?;
    Ok(dropped)
}

/// What is done to tables that a user asked to read again.
fn reread_permission(request: &Request) -> Permission {
    match request.permission {
        Permission::Replace => Permission::Replace,
        _ => Permission::Resync,
    }
}
