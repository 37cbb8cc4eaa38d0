//! Shards that wait for the others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::super::barrier::{self, Barrier};
use super::super::replay::record_name;
use super::{BARRIER_POLL, Session};
use crate::changes::StreamStore;
use crate::error::Result;

impl Session {
    /// Lets shards go on that wait at a barrier which all have reached.
    pub(super) fn pass_barriers(&mut self) -> Result<()> {
        let Some(barrier) = self.shards.iter().find_map(|shard| shard.barrier.clone()) else { return Ok(()) };
        if self.barrier_at.is_some_and(|at| at.elapsed() < BARRIER_POLL) {
            return Ok(());
        }
        let request = Arc::clone(&self.part.request);
        let (store, transfer) = (StreamStore::Lake(&request.lake), request.settings.name.as_str());
        let runtime = self.runtime.clone();
        let own: BTreeMap<String, Option<Barrier>> =
            self.shards.iter().map(|shard| (shard.id.clone(), shard.barrier.clone())).collect();
        let is_alone = self.part.readable.iter().all(|shard| own.contains_key(shard));
        if !is_alone {
            // The others see by the records that these shards wait.
            self.barrier_at = Some(Instant::now());
            // What comes before the barrier is committed before anybody may pass it.
            self.commit_due(true)?;
            self.record(true)?;
        }
        if runtime.block_on(barrier::is_passed(store, transfer, &barrier))? {
            self.commit_due(true)?;
            return self.go_on(&barrier);
        }
        let epoch = self.part.replay.epoch;
        let names: Vec<String> = self.part.readable.iter().map(|shard| record_name(epoch, shard)).collect();
        let own_names: BTreeMap<String, Option<Barrier>> =
            own.iter().map(|(shard, barrier)| (record_name(epoch, shard), barrier.clone())).collect();
        let is_first = self.part.readable.first().is_some_and(|shard| own.contains_key(shard));
        if !is_first || !runtime.block_on(barrier::is_reached(store, transfer, &barrier, &names, &own_names))? {
            return Ok(());
        }
        self.commit_due(true)?;
        let positions: Vec<(String, u64)> =
            own.iter().filter_map(|(shard, at)| Some((shard.clone(), at.as_ref()?.position))).collect();
        if barrier.is_drop && self.is_refused(&barrier.table) {
            self.admit(&barrier.table)?;
        }
        if let Some(Some(table)) = self.tables.get_mut(&barrier.table)
            && table.is_defined()
        {
            table.truncate(&positions, barrier.at_micros);
            table.commit(&request, self.part.replay.epochs())?;
        }
        runtime.block_on(barrier::pass(store, transfer, &barrier))?;
        self.go_on(&barrier)
    }

    fn go_on(&mut self, barrier: &Barrier) -> Result<()> {
        for shard in &mut self.shards {
            if let Some(at) = shard.barrier.take_if(|at| at.id == barrier.id) {
                // The message is the first of those that are held.
                if let Some(delivery) = shard.held.pop_front() {
                    shard.received = at.position;
                    if shard.held.is_empty() {
                        shard.ends.push_back((delivery.position, delivery.sequence));
                    }
                }
            }
        }
        self.barrier_at = None;
        if barrier.is_drop && self.is_refused(&barrier.table) {
            // The first worker has admitted it; it is opened with its next message.
            self.tables.remove(&barrier.table);
            self.read_definitions()?;
        }
        Ok(())
    }
}
