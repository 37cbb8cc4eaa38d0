//! Replays: a stream is read again, with positions of its own.

use serde::{Deserialize, Serialize};
use stream::{Delivery, Start, StartPosition};

use crate::changes::StreamStore;
use crate::error::{Error, Result};

/// From where, and how often, a transfer was asked to read its stream again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayRecord {
    /// The number of replays.
    pub epoch: u64,
    /// The instant from which the last one begins, in microseconds since 1970.
    #[serde(default)]
    pub from_micros: Option<i64>,
    /// The position of a shard from which the last one begins: the other shards go on where they are.
    #[serde(default)]
    pub from_position: Option<(String, u64, String)>,
    /// Up to where that shard was read before.
    #[serde(default)]
    pub passed: u64,
    /// The name of that position in the stream: positions of Kinesis are counted from where a replay begins.
    #[serde(default)]
    pub passed_sequence: Option<String>,
    /// The last replay of a stream that was created again. Only then are messages for tables without a key applied again, since
    /// none of them was applied before.
    #[serde(default)]
    pub recreated_epoch: u64,
    /// The last replay from the beginning: it reads refused tables again.
    #[serde(default)]
    pub whole_epoch: u64,
}

/// The replays whose positions count: of tables with a key, and of tables without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epochs {
    /// The last replay.
    pub keyed: u64,
    /// The last one of a stream that was created again. A row of a table without a key can't be told from another one, so that
    /// its messages are never applied again.
    pub keyless: u64,
}

impl ReplayRecord {
    /// Whose positions count.
    pub fn epochs(&self) -> Epochs {
        Epochs { keyed: self.epoch, keyless: self.recreated_epoch }
    }

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

    /// Whether a message of the shard was applied before the shard was replayed alone.
    pub fn was_passed(&self, shard: &str, message: &Delivery) -> bool {
        if !self.is_of_shard(shard) {
            return false;
        }
        match &self.passed_sequence {
            // Decimal numbers of many digits.
            Some(passed) => (message.sequence.len(), &message.sequence) <= (passed.len(), passed),
            None => message.position <= self.passed,
        }
    }

    /// Whether this shard alone is replayed.
    pub fn is_of_shard(&self, shard: &str) -> bool {
        self.from_position.as_ref().is_some_and(|(of, ..)| of == shard)
    }

    /// Where a shard begins of which nothing was read.
    pub fn start(&self, shard: &str, settings: Start) -> StartPosition {
        if self.epoch == 0 {
            return StartPosition::From(settings);
        }
        match (&self.from_position, self.from_micros) {
            (Some((of, position, sequence)), _) if of == shard => {
                StartPosition::After { position: *position, sequence: sequence.clone() }
            }
            // It has not been read yet.
            (Some(_), _) => StartPosition::From(settings),
            (None, Some(at)) => {
                StartPosition::From(Start::At(chrono::DateTime::from_timestamp_micros(at).unwrap_or_default()))
            }
            (None, None) => StartPosition::From(Start::Beginning),
        }
    }
}

/// The name of a shard's record: a replay has records of its own.
pub fn record_name(epoch: u64, shard: &str) -> String {
    if epoch == 0 { shard.to_owned() } else { format!("{epoch}.{shard}") }
}
