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
            Some(at) => at.as_ref().is_some_and(|at| at.id == barrier.id || is_later(&at.id, &barrier.id)),
            None => {
                let record = ShardRecord::read(store, transfer, shard).await?;
                record.is_some_and(|record| {
                    let has_come = |at: &String| *at == barrier.id || is_later(at, &barrier.id);
                    record.is_finished || record.barrier.as_ref().is_some_and(has_come)
                })
            }
        };
        if !is_there {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The id of a barrier, the same in all shards.
pub fn id(epoch: u64, table: &str, operation: &str, at_micros: i64, place: (Option<&str>, Option<u64>)) -> String {
    // Positions have a slash.
    let place = format!("{place:?}").replace('/', "-");
    format!("{epoch}/{table}/{operation}/{at_micros}/{place}")
}

/// Whether a barrier is a later one of the same table. A message that was stored in some shards only, when its publisher
/// was killed, is followed by another one in all shards.
fn is_later(id: &str, other: &str) -> bool {
    let parts = |id: &str| -> Option<(String, i64)> {
        let mut parts = id.rsplitn(4, '/');
        let (_, at, _) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?);
        Some((parts.next()?.to_owned(), at))
    };
    matches!((parts(id), parts(other)), (Some((table, at)), Some((of, before))) if table == of && at > before)
}

fn name(transfer: &str, barrier: &Barrier) -> String {
    let digest = xxhash_rust::xxh3::xxh3_128(barrier.id.as_bytes());
    format!("{transfer}.barriers/{digest:032x}")
}

#[cfg(test)]
mod tests {
    use super::{id, is_later};

    #[test]
    fn later_barriers_of_a_table_are_known_by_their_ids() {
        let at = |table: &str, micros: i64| id(0, table, "drop-table", micros, (Some("0/1@s"), Some(2)));
        assert!(is_later(&at("public.a/b", 2), &at("public.a/b", 1)));
        assert!(
            !is_later(&at("public.a/b", 1), &at("public.a/b", 1)) && !is_later(&at("public.a", 2), &at("public.b", 1))
        );
    }
}
