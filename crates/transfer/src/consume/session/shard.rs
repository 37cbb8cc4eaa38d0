//! A shard that a session reads.

use std::collections::{HashMap, VecDeque};

use stream::message::Metadata;
use stream::{Delivery, Lag, StartPosition};

use super::super::barrier::Barrier;
use super::super::shard_record::ShardRecord;
use super::super::shard_task::ShardTask;
use crate::postgres::catalog_display;

/// A shard of a session.
pub struct SessionShard {
    pub(super) id: String,
    pub(super) record: ShardRecord,
    pub(super) task: ShardTask,
    /// The position of the last message that was handled.
    pub(super) received: u64,
    /// The ends of batches that were handled.
    pub(super) ends: VecDeque<(u64, String)>,
    pub(super) held: VecDeque<Delivery>,
    pub(super) barrier: Option<Barrier>,
    pub(super) lag: Lag,
    /// All messages of now were received.
    pub(super) is_caught_up: bool,
    pub(super) is_end: bool,
    /// Up to where messages of a table are not applied again, since all its rows were removed there.
    pub(super) removals: HashMap<String, u64>,
}

impl SessionShard {
    /// A shard that begins at a position.
    pub fn new(id: String, record: ShardRecord, task: ShardTask, start: &StartPosition) -> SessionShard {
        let received = match start {
            StartPosition::After { position, .. } => *position,
            StartPosition::From(_) => 0,
        };
        SessionShard {
            id,
            record,
            task,
            received,
            ends: VecDeque::new(),
            held: VecDeque::new(),
            barrier: None,
            lag: Lag::default(),
            is_caught_up: false,
            is_end: false,
            removals: HashMap::new(),
        }
    }

    /// Without the messages of tables before these positions.
    pub fn without_removed(self, removals: HashMap<String, u64>) -> SessionShard {
        SessionShard { removals, ..self }
    }

    pub(super) fn is_removed(&self, metadata: &Metadata<'_>, position: u64) -> bool {
        if self.removals.is_empty() {
            return false;
        }
        let name = catalog_display(&metadata.schema_name, &metadata.table_name);
        self.removals.get(&name).is_some_and(|removed| position < *removed)
    }
}
