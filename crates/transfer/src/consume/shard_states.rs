//! The shards of a stream, up to where they are read, and which of them can be read now.

use std::collections::BTreeMap;

use stream::{Reader, ShardState};

use super::ConsumeRequest;
use super::replay::{ReplayRecord, record_name};
use super::shard_record::ShardRecord;
use crate::changes::StreamStore;
use crate::error::Result;

/// The shards of a stream.
pub struct ShardStates {
    /// All of them, those that were split or merged included.
    pub all: Vec<ShardState>,
    /// Their records; `None` where nothing of a shard was read.
    pub records: BTreeMap<String, Option<ShardRecord>>,
    /// Those that can be read: they are not finished, and their parents are.
    pub readable: Vec<String>,
}

impl ShardStates {
    /// Reads them.
    pub async fn read(reader: &Reader, request: &ConsumeRequest, replay: &ReplayRecord) -> Result<ShardStates> {
        let store = StreamStore::Lake(&request.lake);
        let all = reader.shards().await?;
        let mut records: BTreeMap<String, Option<ShardRecord>> = BTreeMap::new();
        for shard in &all {
            let name = record_name(replay.epoch, &shard.id);
            records.insert(shard.id.clone(), ShardRecord::read(store, &request.settings.name, &name).await?);
        }
        let readable = readable(&all, &records);
        Ok(ShardStates { all, records, readable })
    }
}

fn readable(all: &[ShardState], records: &BTreeMap<String, Option<ShardRecord>>) -> Vec<String> {
    let is_finished =
        |id: &String| records.get(id).is_none_or(|record| record.as_ref().is_some_and(|record| record.is_finished));
    let is_readable = |shard: &&ShardState| {
        !records.get(&shard.id).is_some_and(|record| record.as_ref().is_some_and(|record| record.is_finished))
            && shard.parents.iter().all(is_finished)
    };
    all.iter().filter(is_readable).map(|shard| shard.id.clone()).collect()
}
