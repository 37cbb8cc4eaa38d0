//! Runs a transfer by CHANGES: it makes the publication and the slot, reads the tables that have no position in the
//! log under the slot's snapshot, and streams. An error that may pass interrupts the stream, which begins again.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio_postgres::Client;

use super::applier::SessionEnd;
use super::capture::POLL;
use super::lake_applier::LakeApplier;
use super::open_tables::{Prepared, PresentTable, Rereads, lake_streams, ready_tables};
use super::postgres_applier::PostgresApplier;
use super::session::{Session, SessionOptions};
use super::slot::{SourceWatch, WatchedState, ensure_slot_is_ours, watch_source};
use super::source::{self, Published};
use super::status::StreamObserver;
use super::stream_record::{RereadRequest, StreamRecord};
use super::table_stream::{LogForm, TableStream};
use super::target_table::TargetTable;
use crate::checkpoint::Origin;
use crate::error::{Context, Error, Kind, Result};
use crate::lsn::Lsn;
use crate::plan::{TablePlan, TransferPlan, plan};
use crate::postgres::replication::ReplicationConnection;
use crate::postgres::{Catalog, Endpoint, Identity};
use crate::publish::{StreamApplier, StreamTarget};
use crate::request::{Request, Target};
use crate::resume::Permission;
use crate::run::{check_distinct_databases, retain_tables};
use crate::timeline::{Continuity, Log, LogPosition};

/// The waits between an interruption and the next session.
const WAIT_MIN: Duration = Duration::from_millis(500);
const WAIT_MAX: Duration = Duration::from_secs(60);
/// A session of this length shows that the cause of the interruptions before it has passed.
const HEALTHY: Duration = Duration::from_secs(30);

/// What the server reports where a value of the log has no binary format.
const NO_BINARY: &str = "no binary output function";

/// PostgreSQL's code of an internal error, in messages.
const INTERNAL_ERROR: &str = "[XX000]";

/// How long a stream runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEnd {
    /// Until it is stopped. Interruptions are followed by a new session.
    Never,
    /// Until the lake has all that was committed at the source before the call.
    CaughtUp,
}

/// Streams until `observer` stops it or the end is reached. Tables of `request.tables`, or all with the permission
/// [`Permission::Resync`] and no names, are read again first; with [`Permission::Replace`] in place of the lake's rows.
///
/// # Errors
/// Where the source or the lake is not set up for it; with [`StreamEnd::CaughtUp`] any error that ends a session.
pub async fn run(request: &Arc<Request>, end: StreamEnd, observer: &Arc<dyn StreamObserver>) -> Result<()> {
    let mut wait = WAIT_MIN;
    let all_by_user = request.tables.is_empty() && request.permission == Permission::Resync;
    // Beyond that, a table is read again as it is read first.
    let request = &match request.permission {
        Permission::Resync => Arc::new(request.with_permission(Permission::AsConfigured)),
        _ => Arc::clone(request),
    };
    let mut rereads = Rereads { by_user: request.tables.iter().cloned().collect(), all_by_user, ..Rereads::default() };
    loop {
        let started = Instant::now();
        rereads.by_user.extend(RereadRequest::read(request).await?.tables);
        let ended = session(request, end, observer, &mut rereads).await;
        if started.elapsed() >= HEALTHY {
            wait = WAIT_MIN;
        }
        match ended {
            Ok(SessionEnd::Stopped) => return Ok(()),
            Ok(SessionEnd::Replan) => wait = WAIT_MIN,
            Ok(SessionEnd::Reread(table)) => {
                wait = WAIT_MIN;
                rereads.automatic.insert(table.clone());
                rereads.done.entry(table).or_default().push(Instant::now());
            }
            Err(error) if !rereads.has_texts_only && base::chain(&error).contains(NO_BINARY) => {
                rereads.has_texts_only = true;
            }
            // Of a transaction that is rolled back at the same time, the server may lack rows of the catalogue.
            Err(error) if !rereads.has_whole_transactions && base::chain(&error).contains(INTERNAL_ERROR) => {
                tracing::warn!(
                    "large transactions are received after their commit from now on: {}",
                    base::chain(&error)
                );
                rereads.has_whole_transactions = true;
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

/// The tables of a session, by their OIDs at the source.
enum SessionTables {
    Lake(HashMap<u32, TableStream>),
    Postgres(Box<Endpoint>, HashMap<u32, TargetTable>),
    Stream(Box<StreamTarget>, Vec<(TablePlan, Lsn, Origin)>),
}

impl SessionTables {
    async fn open(request: &Request, record: &StreamRecord, ready: Vec<PresentTable>) -> Result<SessionTables> {
        Ok(match &request.target {
            Target::Lake(_) => SessionTables::Lake(lake_streams(request, record, ready).await?),
            Target::Stream(target) => {
                let table = |table: PresentTable| {
                    let (position, origin) = table.ready?;
                    Some((table.plan, position, origin))
                };
                SessionTables::Stream(Box::new(target.clone()), ready.into_iter().filter_map(table).collect())
            }
            Target::Postgres(endpoint) => {
                // The changes before the confirmed position are there.
                let from = record.confirmed();
                let table = |table: PresentTable| {
                    let (position, origin) = table.ready?;
                    Some((table.plan.source.oid, TargetTable::new(table.plan, origin, position.max(from))))
                };
                SessionTables::Postgres(Box::new(endpoint.clone()), ready.into_iter().filter_map(table).collect())
            }
        })
    }

    fn oids(&self) -> BTreeSet<u32> {
        match self {
            SessionTables::Lake(tables) => tables.keys().copied().collect(),
            SessionTables::Postgres(_, tables) => tables.keys().copied().collect(),
            SessionTables::Stream(_, tables) => tables.iter().map(|(plan, ..)| plan.source.oid).collect(),
        }
    }
}

async fn session(
    request: &Arc<Request>,
    end: StreamEnd,
    observer: &Arc<dyn StreamObserver>,
    rereads: &mut Rereads,
) -> Result<SessionEnd> {
    if let Target::Stream(target) = &request.target {
        // What the stream has is looked up again: the session before may have stored more than it knew.
        target.disconnect().await;
    }
    let client = request.source.connect().await?;
    let until = match end {
        StreamEnd::Never => None,
        StreamEnd::CaughtUp => Some(source::write_log_mark(&client).await?),
    };
    let mut prepared = prepare(request, &client, rereads).await?;
    let tables = ready_tables(request, observer, &mut prepared, rereads).await?;
    let reached = tables.iter().filter_map(|table| Some(table.ready.as_ref()?.0)).max().unwrap_or_default();
    if !check_history(request, &client, &mut prepared, reached).await? {
        return Ok(SessionEnd::Replan);
    }
    let tables = SessionTables::open(request, &prepared.record, tables).await?;
    prepared.record.set_tables(tables.oids());
    prepared.record.write(request).await?;
    let slot = request.settings.changes.slot.clone();
    let publication = request.settings.changes.publication.clone();
    let (request, observer, version) = (Arc::clone(request), Arc::clone(observer), prepared.version);
    let record = prepared.record;
    let (runtime, reread) = (Handle::current(), rereads.exhausted());
    let (has_texts_only, is_early) = (rereads.has_texts_only, !rereads.has_whole_transactions);
    drop(client);
    let watch = Arc::new(SourceWatch::new(until));
    let before =
        WatchedState { publication: record.publication.clone().unwrap_or_default(), tables: prepared.selected };
    let watching = tokio::spawn(watch_source(Arc::clone(&request), before, Arc::clone(&watch)));
    let streaming = tokio::task::spawn_blocking(move || {
        let connection = ReplicationConnection::connect(&request.source, version)?;
        // Messages have texts.
        let has_texts_only = has_texts_only || matches!(tables, SessionTables::Stream(..));
        let form =
            LogForm { has_binary: connection.has_binary() && !has_texts_only, has_bytes: connection.has_bytes() };
        let stream = connection.start(&slot, &publication, form.has_binary, is_early, POLL)?;
        let (observer, until) = (observer.as_ref(), until.map(|mark| mark.position));
        let options =
            SessionOptions { request: &request, form, until, observer, reread: &reread, watch: &watch, runtime };
        let position = record.confirmed();
        match tables {
            SessionTables::Lake(tables) => {
                let applier = LakeApplier::new(options.clone(), tables, record);
                Session::new(options, applier, position).run(stream)
            }
            SessionTables::Postgres(endpoint, tables) => {
                let applier = PostgresApplier::new(options.clone(), &endpoint, tables, record)?;
                Session::new(options, applier, position).run(stream)
            }
            SessionTables::Stream(target, tables) => {
                let applier = StreamApplier::new(options.clone(), &target, tables, record)?;
                Session::new(options, applier, position).run(stream)
            }
        }
    });
    let ended = streaming.await.map_err(|e| Error::bug("stream the log").because(e));
    watching.abort();
    ended?
}

/// Whether the source's log has all that the tables have. Otherwise the source was restored or failed over to a standby
/// that lacks a part of it: the slot is dropped, so that the tables are read again.
async fn check_history(request: &Request, client: &Client, prepared: &mut Prepared, reached: Lsn) -> Result<bool> {
    let Some(log) = Log::of(client).await? else { return Ok(true) };
    let timeline = prepared.record.timeline.unwrap_or(log.now.timeline);
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
    prepared.record.without_slot().write(request).await?;
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

/// Drops what the transfer has at the source. Returns what was dropped. Of the stream's record, the times up to which
/// the tables have all changes are kept: their histories end there.
pub async fn drop_slot(request: &Request) -> Result<Vec<String>> {
    let settings = &request.settings;
    let client = request.source.connect().await?;
    let identity = Identity::of(&client).await?;
    let record = StreamRecord::read(request.stream_store(), &settings.name).await?;
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
    record.without_slot().write(request).await?;
    Ok(dropped)
}
