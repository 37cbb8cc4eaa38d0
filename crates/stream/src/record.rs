//! Messages and shards, as all systems that carry streams have them.

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// The place of a change in its source's log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LogPoint {
    /// The position of its transaction's commit.
    pub commit: i64,
    /// Its number in the transaction.
    pub record: u64,
}

/// A message to store.
#[derive(Debug, Clone)]
pub struct Record {
    /// Which shard it belongs to.
    pub destination: Destination,
    /// Its content.
    pub data: Vec<u8>,
    /// The change that it is of, by which it is known again; `None` of others, which may be stored twice.
    pub point: Option<LogPoint>,
    /// Of a row without a key, a hash of its values, and whether it is removed: only changes of equal rows have an order.
    /// `None` where all messages of the partition key have one.
    pub row: Option<(u64, bool)>,
}

/// The newest message of a stream.
#[derive(Debug, Clone)]
pub struct LastMessage {
    /// Its content.
    pub data: Bytes,
    /// It is in the last shard: one that is in all shards was stored in each of them.
    pub is_in_last_shard: bool,
}

/// Where a message is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// In the shard of this partition key.
    Key(String),
    /// In every shard: its place among the messages of each of them counts.
    AllShards,
}

/// How a stream is made, where it does not exist.
#[derive(Debug, Clone, Copy)]
pub struct StreamOptions {
    /// The number of its shards.
    pub shards: u32,
    /// How long it keeps messages.
    pub retention: Duration,
    /// On how many servers it keeps them; NATS only.
    pub replicas: usize,
}

/// Where a shard is read from, where nothing of it was read before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// From the oldest message that is kept.
    Beginning,
    /// From the messages that are stored from now on.
    New,
    /// From the first message that was stored at this instant or later.
    At(DateTime<Utc>),
}

/// Where a shard is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartPosition {
    /// From its beginning, an instant or its end.
    From(Start),
    /// After a message that was read.
    After {
        /// [`Delivery::position`] of the message.
        position: u64,
        /// [`Delivery::sequence`] of the message.
        sequence: String,
    },
}

/// A shard of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardState {
    /// Its name.
    pub id: String,
    /// The shards that it continues: it is read after them.
    pub parents: Vec<String>,
}

/// A message of a shard.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Its position in the shard: greater than that of each message before it, and the same whenever it is read.
    pub position: u64,
    /// The name of the position in the stream.
    pub sequence: String,
    /// When it was stored, in microseconds since 1970.
    pub stored_at: i64,
    /// The partition key; `None` where the system does not keep it.
    pub partition_key: Option<String>,
    /// Its content.
    pub data: Bytes,
}

/// How far a shard is behind its newest message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lag {
    /// The number of messages that were not received yet, where it is known.
    pub messages: Option<u64>,
    /// The age of the newest message that was received, or 0 where there is no newer one, in milliseconds, where it is
    /// known.
    pub millis: Option<u64>,
}

/// Messages of a shard, in their order.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// The messages; none where none came within the time.
    pub deliveries: Vec<Delivery>,
    /// What follows.
    pub lag: Lag,
    /// All messages of the shard before this position were delivered, also where those of other shards lie between.
    pub reached: Option<u64>,
    /// The shard was split or merged, and has no more messages.
    pub is_end: bool,
}
