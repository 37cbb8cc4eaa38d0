//! A worker's part of the stream for the time of a session.

use std::sync::Arc;
use std::time::Instant;

use stream::{Broker, Reader};

use super::ConsumeRequest;
use super::end::ConsumeEnd;
use super::replay::ReplayRecord;
use super::shard_record::ShardRecord;
use super::shard_states::ShardStates;
use super::workers::{self, HEARTBEAT, assigned};
use crate::changes::{ShardStatus, StreamObserver, StreamStore};
use crate::error::Result;

/// What a worker is asked to do, and what it knew of the others when its session began.
pub struct WorkerPart {
    /// What the worker is asked to do.
    pub request: Arc<ConsumeRequest>,
    /// Receives the state, and decides how long it runs.
    pub observer: Arc<dyn StreamObserver>,
    /// How long it runs.
    pub end: ConsumeEnd,
    /// The replay whose positions count.
    pub replay: ReplayRecord,
    /// The workers.
    pub alive: Vec<String>,
    /// The stream.
    pub reader: Arc<Reader>,
    /// The shards that are read by some worker.
    pub readable: Vec<String>,
    /// Shards of this worker are not released yet.
    pub waits: bool,
    /// When the session began.
    pub started_at: Instant,
}

impl WorkerPart {
    /// Where the transfer's records are.
    pub fn store(&self) -> StreamStore<'_> {
        StreamStore::Lake(&self.request.lake)
    }

    /// The transfer's name.
    pub fn transfer(&self) -> &str {
        &self.request.settings.name
    }

    /// Whether the worker ends when it has all messages: not before it knows the others, since the shards of one that was
    /// killed are taken over first.
    pub fn ends_when_caught_up(&self) -> bool {
        let knows_workers = self.alive.len() <= 1 || self.started_at.elapsed() > workers::GONE_AFTER + HEARTBEAT;
        self.end == ConsumeEnd::CaughtUp && !self.waits && knows_workers
    }

    /// The shards that this worker does not read, as their records have them.
    pub async fn other_shards(&self, own: &[String]) -> Result<Vec<ShardStatus>> {
        let mut others = Vec::new();
        for id in self.readable.iter().filter(|id| !own.contains(id)) {
            let record = ShardRecord::of_replay(self.store(), self.transfer(), self.replay.epoch, id).await?;
            let ShardRecord { position, lag_messages, lag_millis, worker, .. } = record.unwrap_or_default();
            others.push(ShardStatus { id: id.clone(), position, lag_messages, lag_millis, worker });
        }
        Ok(others)
    }

    /// Writes the worker's record. Returns whether the workers, their shards or the replay are others than when the
    /// session began with the shards `own`.
    pub async fn has_changed(&self, own: &[String]) -> Result<bool> {
        let alive = workers::heartbeat(self.store(), self.transfer(), &self.request.worker).await?;
        let replay = ReplayRecord::read(self.store(), self.transfer()).await?;
        // Shards of Kinesis are split and merged, and a worker that has not read one of them is to know of it.
        if matches!(self.request.address.broker, Broker::Kinesis { .. })
            && ShardStates::read(&self.reader, &self.request, &replay).await?.readable != self.readable
        {
            return Ok(true);
        }
        let is_other = assigned(&self.request.worker, &alive, &self.readable) != own;
        Ok(replay != self.replay || (is_other && (alive != self.alive || self.waits)))
    }
}
