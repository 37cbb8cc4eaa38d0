//! A worker: it joins the others, takes its part of the shards, reads them, and begins again where the parts change or an
//! error may pass.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use stream::{Reader, ShardState, Start, StartPosition};
use tokio::runtime::Handle;

use super::ConsumeRequest;
use super::handler_session::{self, HandledShard, HandlerOptions};
use super::session::{Session, SessionEnd, SessionOptions, SessionShard};
use super::shard_record::ShardRecord;
use super::shard_task::ShardTask;
use super::workers::{self, assigned, is_free};
use crate::changes::{StreamObserver, StreamStore};
use crate::error::{Error, Kind, Result};

const WAIT_MIN: Duration = Duration::from_millis(500);
const WAIT_MAX: Duration = Duration::from_secs(60);
const HEALTHY: Duration = Duration::from_secs(30);
/// Between two looks at shards that others have not released yet.
const TAKE_WAIT: Duration = Duration::from_millis(300);
const POLL: Duration = Duration::from_millis(50);

/// States of errors that workers of a transfer cause each other, and how often they may follow one another.
const CONTENTION: [&str; 2] = ["shard-taken", "commit-lost"];
const CONTENDED_MAX: u32 = 50;

/// How long a worker runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsumeEnd {
    /// Until it is stopped.
    Never,
    /// Until the tables have all messages of its shards.
    CaughtUp,
}

/// From where, and how often, a transfer was asked to read its stream again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayRecord {
    /// The number of replays.
    pub epoch: u64,
    /// The instant from which the last one begins, in microseconds since 1970.
    #[serde(default)]
    pub from_micros: Option<i64>,
    /// The position of a shard from which the last one begins: those of other shards begin at their end.
    #[serde(default)]
    pub from_position: Option<(String, u64, String)>,
}

impl ReplayRecord {
    /// The record of a transfer.
    pub async fn read(store: StreamStore<'_>, transfer: &str) -> Result<ReplayRecord> {
        let Some(text) = store.read(&format!("{transfer}.replay")).await? else { return Ok(ReplayRecord::default()) };
        serde_json::from_slice(&text).map_err(|e| Error::setup("read the record of replays").because(e))
    }

    /// Has the stream read again by the next session of each worker.
    pub async fn write(&self, store: StreamStore<'_>, transfer: &str) -> Result<()> {
        let text = serde_json::to_vec(self).map_err(|e| Error::bug("write the record of replays").because(e))?;
        store.write(&format!("{transfer}.replay"), text).await
    }

    /// Where a shard begins of which nothing was read.
    fn start(&self, shard: &str, settings: Start) -> StartPosition {
        if self.epoch == 0 {
            return StartPosition::From(settings);
        }
        match (&self.from_position, self.from_micros) {
            (Some((of, position, sequence)), _) if of == shard => {
                StartPosition::After { position: *position, sequence: sequence.clone() }
            }
            (Some(_), _) => StartPosition::From(Start::New),
            (None, Some(at)) => {
                StartPosition::From(Start::At(chrono::DateTime::from_timestamp_micros(at).unwrap_or_default()))
            }
            (None, None) => StartPosition::From(Start::Beginning),
        }
    }
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

async fn session(
    request: &Arc<ConsumeRequest>,
    end: ConsumeEnd,
    observer: &Arc<dyn StreamObserver>,
) -> Result<SessionEnd> {
    let (store, transfer) = (StreamStore::Lake(&request.lake), request.settings.name.as_str());
    let reader = Reader::connect(&request.address, &format!("wattlake-{transfer}"), &request.credentials).await?;
    let replay = ReplayRecord::read(store, transfer).await?;
    let alive = workers::heartbeat(store, transfer, &request.worker).await?;
    let all = reader.shards().await?;
    let mut records: BTreeMap<String, Option<ShardRecord>> = BTreeMap::new();
    for shard in &all {
        let record = ShardRecord::read(store, transfer, &record_name(replay.epoch, &shard.id)).await?;
        records.insert(shard.id.clone(), record);
    }
    let readable = readable(&all, &records);
    let (mut shards, mut waits) = (Vec::new(), false);
    for id in assigned(&request.worker, &alive, &readable) {
        let record = records.get(&id).cloned().flatten();
        if !is_free(record.as_ref(), &request.worker, &alive) {
            waits = true;
            continue;
        }
        let start = match &record {
            Some(record) if record.position > 0 => {
                StartPosition::After { position: record.position, sequence: record.sequence.clone() }
            }
            // A shard that continues another one is read whole.
            _ if all
                .iter()
                .any(|shard| shard.id == id && shard.parents.iter().any(|parent| records.contains_key(parent))) =>
            {
                StartPosition::From(Start::Beginning)
            }
            _ => replay.start(&id, request.settings.start),
        };
        let record = ShardRecord { worker: request.worker.clone(), ..record.unwrap_or_default() };
        record.write(store, transfer, &record_name(replay.epoch, &id)).await?;
        let task = ShardTask::start(&reader, &id, &start).await?;
        shards.push((id, record, task, start));
    }
    if shards.is_empty() {
        // Of few shards, a worker may have none; it takes them over where another one ends.
        return idle(request, end, observer, waits).await;
    }
    if let Some(settings) = request.handler.clone() {
        let options = HandlerOptions {
            request: Arc::clone(request),
            settings,
            observer: Arc::clone(observer),
            end,
            replay,
            alive,
            readable,
            waits,
            started_at: Instant::now(),
        };
        let shards = shards.into_iter().map(|(id, record, task, start)| HandledShard::new(id, record, task, &start));
        return handler_session::run(Arc::new(options), shards.collect()).await;
    }
    let shards =
        shards.into_iter().map(|(id, record, task, start)| SessionShard::new(id, record, task, &start)).collect();
    let options = SessionOptions {
        request: Arc::clone(request),
        observer: Arc::clone(observer),
        end,
        replay,
        alive,
        readable,
        waits,
        runtime: Handle::current(),
    };
    let running = tokio::task::spawn_blocking(move || Session::new(options, shards)?.run());
    let ended = running.await.map_err(|e| Error::bug("apply the messages of a stream").because(e))?;
    // Its tasks have ended with their channels.
    drop(reader);
    ended
}

/// The shards that can be read: those that are not finished, and whose parents are.
fn readable(all: &[ShardState], records: &BTreeMap<String, Option<ShardRecord>>) -> Vec<String> {
    let is_finished =
        |id: &String| records.get(id).is_none_or(|record| record.as_ref().is_some_and(|record| record.is_finished));
    let is_readable = |shard: &&ShardState| {
        !records.get(&shard.id).is_some_and(|record| record.as_ref().is_some_and(|record| record.is_finished))
            && shard.parents.iter().all(is_finished)
    };
    all.iter().filter(is_readable).map(|shard| shard.id.clone()).collect()
}

/// The name of a shard's record: a replay has records of its own.
pub fn record_name(epoch: u64, shard: &str) -> String {
    if epoch == 0 { shard.to_owned() } else { format!("{epoch}.{shard}") }
}

async fn idle(
    request: &ConsumeRequest,
    end: ConsumeEnd,
    observer: &Arc<dyn StreamObserver>,
    waits: bool,
) -> Result<SessionEnd> {
    if end == ConsumeEnd::CaughtUp && !waits {
        return Ok(SessionEnd::Stopped);
    }
    observer.report(&crate::changes::StreamStatus::default());
    let until = Instant::now() + if waits { TAKE_WAIT } else { workers::HEARTBEAT };
    while Instant::now() < until {
        if observer.should_stop() {
            return Ok(SessionEnd::Stopped);
        }
        tokio::time::sleep(POLL).await;
    }
    let _ = request;
    Ok(SessionEnd::Changed)
}
