//! A worker: it joins the others, takes its part of the shards, reads them, and begins again where the parts change or an
//! error may pass.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use stream::{Reader, ShardState, Start, StartPosition};
use tokio::runtime::Handle;

use super::ConsumeRequest;
use super::end::{ConsumeEnd, SessionEnd};
use super::handler_session::{self, HandledShard, HandlerOptions};
use super::removals::last_removals;
use super::replay::{ReplayRecord, record_name};
use super::session::{Session, SessionShard};
use super::shard_record::ShardRecord;
use super::shard_states::ShardStates;
use super::shard_task::ShardTask;
use super::worker_part::WorkerPart;
use super::workers::{self, assigned, is_free};
use crate::changes::{StreamObserver, StreamStatus, StreamStore};
use crate::error::{Error, Kind, Result};
use crate::postgres::{Endpoint, Identity};
use crate::run::check_distinct;

const WAIT_MIN: Duration = Duration::from_millis(500);
const WAIT_MAX: Duration = Duration::from_secs(60);
const HEALTHY: Duration = Duration::from_secs(30);
/// Between two looks at shards that others have not released yet.
const TAKE_WAIT: Duration = Duration::from_millis(300);
const POLL: Duration = Duration::from_millis(50);

/// States of errors that workers of a transfer cause each other, and how often they may follow one another.
const CONTENTION: [&str; 2] = ["shard-taken", "commit-lost"];
const CONTENDED_MAX: u32 = 50;

/// Refuses a target that is the database whose changes are in the stream. A source that can't be reached is not compared.
pub async fn check_target(transfer: &str, target: &Endpoint, source: &Endpoint) -> Result<()> {
    let Ok(client) = source.connect().await else { return Ok(()) };
    check_distinct(transfer, target, (Identity::of(&client).await?, source)).await
}

/// Reads the stream until `observer` stops it or the end is reached.
///
/// # Errors
/// Where the stream or the lake is not set up for it; with [`ConsumeEnd::CaughtUp`] any error that ends a session.
pub async fn run(request: &Arc<ConsumeRequest>, end: ConsumeEnd, observer: &Arc<dyn StreamObserver>) -> Result<()> {
    let (mut wait, mut contended) = (WAIT_MIN, 0);
    let ended = loop {
        let started = Instant::now();
        let ended = session(request, end, observer).await;
        if started.elapsed() >= HEALTHY {
            (wait, contended) = (WAIT_MIN, 0);
        }
        match ended {
            Ok(SessionEnd::Stopped) => break Ok(()),
            Ok(SessionEnd::Changed) => wait = WAIT_MIN,
            // Another worker has taken a shard, or committed first: no fault.
            Err(error) if error.state.is_some_and(|state| CONTENTION.contains(&state)) && contended < CONTENDED_MAX => {
                contended += 1;
                tokio::time::sleep(TAKE_WAIT).await;
            }
            Err(error) if error.kind == Kind::Retry && end == ConsumeEnd::Never => {
                tracing::warn!("the stream was interrupted: {}", base::chain(&error));
                observer.interrupted(&error, wait);
                let until = Instant::now() + wait;
                while Instant::now() < until && !observer.should_stop() {
                    tokio::time::sleep(POLL).await;
                }
                wait = (wait * 2).min(WAIT_MAX);
            }
            Err(error) => break Err(error),
        }
        if observer.should_stop() {
            break Ok(());
        }
    };
    let left = workers::leave(StreamStore::Lake(&request.lake), &request.settings.name, &request.worker).await;
    ended.and(left)
}

/// The reader's name at the broker: another warehouse may have a transfer of the same name.
fn reader_name(request: &ConsumeRequest) -> String {
    let lake = xxhash_rust::xxh3::xxh3_64(request.lake.url().as_str().as_bytes());
    format!("wattlake-{}-{lake:016x}", request.settings.name)
}

/// A shard that is read.
struct OpenedShard {
    id: String,
    record: ShardRecord,
    task: ShardTask,
    start: StartPosition,
    /// See [`last_removals`].
    removals: HashMap<String, u64>,
}

async fn session(
    request: &Arc<ConsumeRequest>,
    end: ConsumeEnd,
    observer: &Arc<dyn StreamObserver>,
) -> Result<SessionEnd> {
    let (store, transfer) = (StreamStore::Lake(&request.lake), request.settings.name.as_str());
    let reader = Arc::new(Reader::connect(&request.address, &reader_name(request), &request.credentials).await?);
    let replay = ReplayRecord::read(store, transfer).await?;
    let alive = workers::heartbeat(store, transfer, &request.worker).await?;
    let ShardStates { all, records, readable } = ShardStates::read(&reader, request, &replay).await?;
    let mine = assigned(&request.worker, &alive, &readable);
    // A session that has ended by an error has released nothing.
    for (id, record) in records.iter().filter(|(id, _)| !mine.contains(*id)) {
        if let Some(record) = record.as_ref().filter(|record| record.worker == request.worker) {
            let released = ShardRecord { worker: String::new(), ..record.clone() };
            released.write(store, transfer, &record_name(replay.epoch, id)).await?;
        }
    }
    let (shards, waits) = take(request, &reader, &replay, &alive, &all, mine, &records).await?;
    let part = WorkerPart {
        request: Arc::clone(request),
        observer: Arc::clone(observer),
        end,
        replay,
        alive,
        reader,
        readable,
        waits,
        started_at: Instant::now(),
    };
    if shards.is_empty() {
        // Of few shards, a worker may have none; it takes them over where another one ends.
        return idle(&part).await;
    }
    if let Some(settings) = request.handler.clone() {
        let handled = |shard: OpenedShard| HandledShard::new(shard.id, shard.record, shard.task, &shard.start);
        let shards = shards.into_iter().map(handled);
        return handler_session::run(Arc::new(HandlerOptions { part, settings }), shards.collect()).await;
    }
    let opened = |shard: OpenedShard| {
        SessionShard::new(shard.id, shard.record, shard.task, &shard.start).without_removed(shard.removals)
    };
    let shards = shards.into_iter().map(opened).collect();
    let runtime = Handle::current();
    let running = tokio::task::spawn_blocking(move || Session::new(part, shards, runtime)?.run());
    running.await.map_err(|e| Error::bug("apply the messages of a stream").because(e))?
}

/// The shards of a worker, opened, and whether others have not released some of them yet.
async fn take(
    request: &ConsumeRequest,
    reader: &Reader,
    replay: &ReplayRecord,
    alive: &[String],
    all: &[ShardState],
    mine: Vec<String>,
    records: &BTreeMap<String, Option<ShardRecord>>,
) -> Result<(Vec<OpenedShard>, bool)> {
    let (store, transfer) = (StreamStore::Lake(&request.lake), request.settings.name.as_str());
    let (mut shards, mut waits) = (Vec::new(), false);
    let identity = reader.identity().await?;
    for id in mine {
        let record = records.get(&id).cloned().flatten();
        if !is_free(record.as_ref(), &request.worker, alive) {
            waits = true;
            continue;
        }
        let mut record = match record {
            Some(record) => record,
            None => continued(store, transfer, replay, &id).await?.unwrap_or_default(),
        };
        if record.stream.as_ref().is_some_and(|before| *before != identity) {
            let what = format!("read {}: it was deleted and created again", request.address.display());
            let hint = format!(
                "{} transfer replay {transfer} --from beginning, and have the transfer that publishes read its tables again",
                request.settings.program
            );
            return Err(Error::input(what).state("messages-lost").hint(hint));
        }
        record.stream = Some(identity.clone());
        let has_parent = |shard: &ShardState| shard.parents.iter().any(|parent| records.contains_key(parent));
        let start = match record.position {
            // A shard that continues another one is read whole.
            0 if all.iter().any(|shard| shard.id == id && has_parent(shard)) => StartPosition::From(Start::Beginning),
            0 => match replay.start(&id, request.settings.start) {
                // The end of a shard is that of the first time.
                StartPosition::From(Start::New) => {
                    let now = || chrono::Utc::now().timestamp_micros();
                    let from = *record.from_micros.get_or_insert_with(now);
                    StartPosition::From(Start::At(chrono::DateTime::from_timestamp_micros(from).unwrap_or_default()))
                }
                start => start,
            },
            position => StartPosition::After { position, sequence: record.sequence.clone() },
        };
        record.worker.clone_from(&request.worker);
        record.write(store, transfer, &record_name(replay.epoch, &id)).await?;
        let removals = match replay.is_of_shard(&id) && request.handler.is_none() {
            true => last_removals(reader, replay, &id, &start).await?,
            false => HashMap::new(),
        };
        let task = ShardTask::start(reader, &id, &start).await?;
        shards.push(OpenedShard { id, record, task, start, removals });
    }
    Ok((shards, waits))
}

/// The record from which a shard goes on while another one is replayed.
async fn continued(
    store: StreamStore<'_>,
    transfer: &str,
    replay: &ReplayRecord,
    shard: &str,
) -> Result<Option<ShardRecord>> {
    match &replay.from_position {
        Some((of, ..)) if of != shard => {
            let before = ShardRecord::read(store, transfer, &record_name(replay.epoch - 1, shard)).await?;
            Ok(before.map(|record| ShardRecord { barrier: None, worker: String::new(), ..record }))
        }
        _ => Ok(None),
    }
}

/// Waits until the workers change, or a shard is released.
async fn idle(part: &WorkerPart) -> Result<SessionEnd> {
    if part.end == ConsumeEnd::CaughtUp && !part.waits {
        return Ok(SessionEnd::Stopped);
    }
    let shards = part.other_shards(&[]).await?;
    part.observer.report(&StreamStatus { shards, ..StreamStatus::default() });
    let until = Instant::now() + if part.waits { TAKE_WAIT } else { workers::HEARTBEAT };
    while Instant::now() < until {
        if part.observer.should_stop() {
            return Ok(SessionEnd::Stopped);
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(SessionEnd::Changed)
}
