//! Up to where a shard was read. The record is behind the tables, never ahead of them.

use serde::{Deserialize, Serialize};

use super::replay::record_name;
use crate::changes::StreamStore;
use crate::error::{Error, Result};

/// The record of a shard.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardRecord {
    /// The position of the last message before which all are applied.
    pub position: u64,
    /// The name of the position in the stream.
    pub sequence: String,
    /// What tells the stream from another one of its name.
    #[serde(default)]
    pub stream: Option<String>,
    /// The instant from which it is read, where it began at its end, in microseconds since 1970.
    #[serde(default)]
    pub from_micros: Option<i64>,
    /// The shard was split or merged, and all of it is applied.
    #[serde(default)]
    pub is_finished: bool,
    /// The barrier at which the shard waits for the others.
    #[serde(default)]
    pub barrier: Option<String>,
    /// How far behind it was, for users: messages, or milliseconds.
    #[serde(default)]
    pub lag_messages: Option<u64>,
    /// See `lag_messages`.
    #[serde(default)]
    pub lag_millis: Option<u64>,
    /// When it was written, in microseconds since 1970.
    #[serde(default)]
    pub at_micros: i64,
    /// The worker that has written it.
    #[serde(default)]
    pub worker: String,
}

impl ShardRecord {
    /// The record of a shard; `None` where nothing of it was read.
    pub async fn read(store: StreamStore<'_>, transfer: &str, shard: &str) -> Result<Option<ShardRecord>> {
        let Some(text) = store.read(&name(transfer, shard)).await? else { return Ok(None) };
        serde_json::from_slice(&text).map(Some).map_err(|e| Error::setup("read the record of a shard").because(e))
    }

    /// The record of a shard in a replay.
    pub async fn of_replay(
        store: StreamStore<'_>,
        transfer: &str,
        epoch: u64,
        shard: &str,
    ) -> Result<Option<ShardRecord>> {
        ShardRecord::read(store, transfer, &record_name(epoch, shard)).await
    }

    /// Writes the record.
    pub async fn write(&self, store: StreamStore<'_>, transfer: &str, shard: &str) -> Result<()> {
        let text = serde_json::to_vec(self).map_err(|e| Error::bug("write the record of a shard").because(e))?;
        store.write(&name(transfer, shard), text).await
    }
}

/// Forgets up to where shards were read, so that the next run begins where it is told to. What the tables have is not
/// applied again.
pub async fn forget_positions(store: StreamStore<'_>, transfer: &str, shards: &[String]) -> Result<()> {
    for shard in shards {
        store.remove(&name(transfer, shard)).await?;
    }
    Ok(())
}

fn name(transfer: &str, shard: &str) -> String {
    format!("{transfer}.shards/{shard}")
}
