//! What a transfer has stored in its stream. The record is kept in the lake's folder, beside that of the slot.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stream::LogPoint;
use stream::message::TableDefinition;

use crate::lsn::Lsn;

/// The change with this number of a transaction.
pub fn point(commit: Lsn, record: u64) -> LogPoint {
    LogPoint { commit: commit.to_i64(), record }
}

/// The record of a transfer that publishes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishRecord {
    /// The last change that the stream is known to have; it may have later ones.
    #[serde(default)]
    pub last: Option<LogPoint>,
    /// The slot's stream that it is of.
    #[serde(default)]
    pub stream: Option<String>,
    /// What tells the stream of messages from another one of its name.
    #[serde(default)]
    pub identity: Option<String>,
    /// Of a stream that does not tell its last message: the last one of each shard when `last` was stored.
    #[serde(default)]
    pub shards: BTreeMap<String, String>,
    /// When the transfer began to publish into the stream, in microseconds since 1970.
    #[serde(default)]
    pub since: Option<i64>,
    /// The stream was created again: readers may have rows of the one before.
    #[serde(default)]
    pub is_new_stream: bool,
    /// The tables, by their OIDs at the source.
    #[serde(default)]
    pub tables: BTreeMap<u32, PublishedTable>,
}

impl PublishRecord {
    /// The last change of a slot's stream.
    pub fn last_of(&self, stream: &str) -> Option<LogPoint> {
        self.last.filter(|_| self.stream.as_deref() == Some(stream))
    }
}

/// A table of a [`PublishRecord`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedTable {
    /// The slot's stream; another one has other positions.
    pub stream: String,
    /// The position from which on the stream has the table's changes, in place of its rows; `None` while the rows are
    /// stored.
    pub from: Option<i64>,
    /// `schema.table` of the messages.
    #[serde(default)]
    pub name: Option<String>,
    /// The columns that were published last.
    pub definition: TableDefinition,
    /// Why its changes are not published any more, until it is read again.
    #[serde(default)]
    pub refusal: Option<String>,
}
