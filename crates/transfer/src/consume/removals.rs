//! The removals of all rows that a replay of one shard passes. The other shards don't come to them again, so that rows which
//! were removed must not be applied again.

use std::collections::HashMap;
use std::time::Duration;

use stream::message::{Body, ControlOperation, Message};
use stream::{Batch, Reader, StartPosition};

use super::replay::ReplayRecord;
use crate::error::Result;
use crate::postgres::catalog_display;

const BATCH_MESSAGES: usize = 5000;
const READ_WAIT: Duration = Duration::from_millis(500);

/// For each table, the position of the last removal of all its rows among the messages of a shard that were applied before.
pub async fn last_removals(
    reader: &Reader,
    replay: &ReplayRecord,
    shard: &str,
    start: &StartPosition,
) -> Result<HashMap<String, u64>> {
    let mut removals = HashMap::new();
    let mut messages = reader.open(shard, start).await?;
    loop {
        let Batch { deliveries, is_end, .. } = messages.next(BATCH_MESSAGES, READ_WAIT).await?;
        let is_last = deliveries.is_empty() || is_end;
        for delivery in deliveries {
            if !replay.was_passed(shard, &delivery) {
                return Ok(removals);
            }
            let Ok(Message { metadata, body: Body::Control { operation, .. } }) = Message::parse(&delivery.data) else {
                continue;
            };
            if matches!(operation, ControlOperation::TruncateTable | ControlOperation::DropTable) {
                removals.insert(catalog_display(&metadata.schema_name, &metadata.table_name), delivery.position);
            }
        }
        if is_last {
            return Ok(removals);
        }
    }
}
