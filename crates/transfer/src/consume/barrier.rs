//! What concerns all rows of a table, such as TRUNCATE, is in every shard. A shard that comes to it waits until all others
//! have: then it happens once, after all changes before it and before all that follow.

use std::collections::BTreeMap;

use super::shard_record::ShardRecord;
use crate::changes::StreamStore;
use crate::error::Result;

/// A message at which a shard waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Barrier {
    /// The same in all shards.
    pub id: String,
    /// `schema.table` of the message.
    pub table: String,
    /// When it happened, in microseconds since 1970.
    pub at_micros: i64,
    /// The position of the message in the shard.
    pub position: u64,
    /// The table is read again, or was dropped.
    pub is_drop: bool,
}

/// Whether a barrier was passed by another worker.
pub async fn is_passed(store: StreamStore<'_>, transfer: &str, barrier: &Barrier) -> Result<bool> {
    store.read(&name(transfer, barrier)).await.map(|record| record.is_some())
}

/// Notes that a barrier was passed.
pub async fn pass(store: StreamStore<'_>, transfer: &str, barrier: &Barrier) -> Result<()> {
    store.write(&name(transfer, barrier), b"{}".to_vec()).await
}

/// Whether all shards have come to a barrier. `own` has the barriers of the shards that this worker reads.
pub async fn is_reached(
    store: StreamStore<'_>,
    transfer: &str,
    barrier: &Barrier,
    shards: &[String],
    own: &BTreeMap<String, Option<Barrier>>,
) -> Result<bool> {
    for shard in shards {
        let is_there = match own.get(shard) {
            Some(at) => at.as_ref().is_some_and(|at| at.id == barrier.id),
            None => {
                let record = ShardRecord::read(store, transfer, shard).await?;
                record.is_some_and(|record| record.is_finished || record.barrier.as_ref() == Some(&barrier.id))
            }
        };
        if !is_there {
            return Ok(false);
        }
    }
    Ok(true)
}

fn name(transfer: &str, barrier: &Barrier) -> String {
    let digest = xxhash_rust::xxh3::xxh3_128(barrier.id.as_bytes());
    format!("{transfer}.barriers/{digest:032x}")
}
