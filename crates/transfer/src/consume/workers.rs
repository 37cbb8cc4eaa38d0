//! The workers of a transfer, in one process or in several, and which shards each of them reads.
//!
//! Each worker writes a record every few seconds. The shards are divided among those whose record is fresh; a worker
//! takes a shard when the one that had it has released it, or is gone. Where two take the same shard, the positions in
//! the tables let only one of them commit.

use std::time::Duration;

use super::shard_record::ShardRecord;
use crate::changes::StreamStore;
use crate::error::Result;

/// Between two writes of a worker's record.
pub const HEARTBEAT: Duration = Duration::from_secs(2);
/// A worker is gone whose record is so much older than one's own.
pub const GONE_AFTER: Duration = Duration::from_secs(8);

/// Writes the record of a worker, and returns the workers that are alive, in their order.
pub async fn heartbeat(store: StreamStore<'_>, transfer: &str, worker: &str) -> Result<Vec<String>> {
    let folder = format!("{transfer}.workers");
    store.write(&format!("{folder}/{worker}"), b"{}".to_vec()).await?;
    let records = store.list(&folder).await?;
    let now = records.iter().find(|(name, _)| name == worker).map_or(0, |(_, at)| *at);
    let gone_at = now - i64::try_from(GONE_AFTER.as_micros()).unwrap_or(i64::MAX);
    let mut alive = Vec::new();
    for (name, at) in records {
        if at >= gone_at || name == worker {
            alive.push(name);
        } else {
            store.remove(&format!("{folder}/{name}")).await?;
        }
    }
    Ok(alive)
}

/// Removes the record of a worker that ends.
pub async fn leave(store: StreamStore<'_>, transfer: &str, worker: &str) -> Result<()> {
    store.remove(&format!("{transfer}.workers/{worker}")).await
}

/// The shards of a worker, of `shards` in their order.
pub fn assigned(worker: &str, alive: &[String], shards: &[String]) -> Vec<String> {
    let Some(place) = alive.iter().position(|name| name == worker) else { return Vec::new() };
    shards.iter().enumerate().filter(|(at, _)| at % alive.len() == place).map(|(_, shard)| shard.clone()).collect()
}

/// Whether a shard can be taken: nobody else has it who is alive.
pub fn is_free(record: Option<&ShardRecord>, worker: &str, alive: &[String]) -> bool {
    record.is_none_or(|record| record.worker.is_empty() || record.worker == worker || !alive.contains(&record.worker))
}

#[cfg(test)]
mod tests {
    use super::assigned;

    #[test]
    fn every_shard_has_one_worker() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let (alive, shards) = (names(&["a", "b", "c"]), names(&["0", "1", "2", "3"]));
        assert_eq!(assigned("a", &alive, &shards), ["0", "3"]);
        assert_eq!(assigned("c", &alive, &shards), ["2"]);
        assert_eq!(assigned("d", &alive, &shards), [""; 0]);
        assert_eq!(assigned("b", &names(&["b"]), &shards), shards);
    }
}
