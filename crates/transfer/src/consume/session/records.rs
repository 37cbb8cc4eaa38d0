//! Up to where the shards are applied.

use std::sync::Arc;
use std::time::Instant;

use super::super::replay::record_name;
use super::{RECORD_INTERVAL, Session, SessionShard};
use crate::changes::StreamStore;
use crate::error::Result;

impl Session {
    /// Records up to where the shards are applied, at intervals or `now`.
    pub(super) fn record(&mut self, now: bool) -> Result<()> {
        if !now && self.recorded_at.elapsed() < RECORD_INTERVAL {
            return Ok(());
        }
        self.recorded_at = Instant::now();
        self.write_records(false)
    }

    pub(super) fn write_records(&mut self, is_release: bool) -> Result<()> {
        let request = Arc::clone(&self.part.request);
        let (store, transfer, epoch) =
            (StreamStore::Lake(&request.lake), &request.settings.name, self.part.replay.epoch);
        let durable: Vec<u64> = self.shards.iter().map(|shard| self.durable(shard)).collect();
        for (shard, durable) in self.shards.iter_mut().zip(durable) {
            let before = shard.record.clone();
            while let Some((position, sequence)) = shard.ends.pop_front_if(|(position, _)| *position <= durable) {
                (shard.record.position, shard.record.sequence) = (position, sequence);
            }
            shard.record.is_finished = shard.is_end && durable == shard.received && shard.held.is_empty();
            shard.record.barrier = shard.barrier.as_ref().map(|barrier| barrier.id.clone());
            (shard.record.lag_messages, shard.record.lag_millis) = (shard.lag.messages, shard.lag.millis);
            shard.record.worker = if is_release { String::new() } else { request.worker.clone() };
            shard.record.at_micros = before.at_micros;
            if shard.record != before || is_release {
                shard.record.at_micros = chrono::Utc::now().timestamp_micros();
                let name = record_name(epoch, &shard.id);
                self.runtime.block_on(shard.record.write(store, transfer, &name))?;
                shard.task.acknowledge(shard.record.position);
            }
        }
        Ok(())
    }

    /// The position of a shard before which the tables have all.
    pub(super) fn durable(&self, shard: &SessionShard) -> u64 {
        let waiting = self.tables.values().flatten().filter_map(|table| table.needs_from(&shard.id)).min();
        waiting.unwrap_or(shard.received).min(shard.received)
    }
}
