//! What a stream has of a publisher that was interrupted.
//!
//! Messages of one request may be stored while the publisher is killed. The next one reads the shards after the last
//! message that it knows to be stored, with all before it, and leaves out the changes that it finds there.

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};

use super::client::Client;
use super::read::{Shard, ShardReader};
use crate::error::Result;
use crate::record::{LogPoint, Start, StartPosition};

/// How many shards are read at a time.
const SHARDS_AT_A_TIME: usize = 8;
const MESSAGES_MAX: usize = 10_000;

/// The changes that the shards have, of those that may be sent again.
#[derive(Default)]
pub struct StoredChanges {
    shards: Vec<StoredShard>,
    newest: Option<LogPoint>,
}

struct StoredShard {
    begin: u128,
    end: u128,
    points: HashSet<LogPoint>,
    /// A change whose order counts is missing: those that follow it are stored again.
    has_gap: bool,
}

impl StoredChanges {
    /// Reads the shards after the messages with these names, shards without one from an instant on. Returns the names of
    /// their last messages, too.
    pub async fn read(
        client: &Client,
        known: &BTreeMap<String, String>,
        since: DateTime<Utc>,
        point_of: &(dyn Fn(&[u8]) -> Option<LogPoint> + Sync),
    ) -> Result<(StoredChanges, BTreeMap<String, String>)> {
        let read = |shard: Shard| async move {
            let (begin, end) = shard.range()?;
            let start = match known.get(&shard.shard_id) {
                Some(sequence) => StartPosition::After { position: 0, sequence: sequence.clone() },
                None => StartPosition::From(Start::At(since)),
            };
            let mut reader = ShardReader::open(client, &shard.shard_id, &start).await?;
            let (mut points, mut last) = (HashSet::new(), known.get(&shard.shard_id).cloned());
            loop {
                let batch = reader.next(MESSAGES_MAX, std::time::Duration::ZERO).await?;
                for delivery in batch.deliveries {
                    points.extend(point_of(&delivery.data));
                    last = Some(delivery.sequence);
                }
                if batch.is_end || batch.lag.millis == Some(0) {
                    return Ok::<_, crate::error::Error>((
                        shard.shard_id,
                        StoredShard { begin, end, points, has_gap: false },
                        last,
                    ));
                }
            }
        };
        let shards = futures::stream::iter(client.list().await?).map(read).buffer_unordered(SHARDS_AT_A_TIME);
        let shards: Vec<_> = shards.try_collect().await?;
        let ends = shards.iter().filter_map(|(id, _, last)| Some((id.clone(), last.clone()?))).collect();
        let shards: Vec<StoredShard> =
            shards.into_iter().map(|(_, shard, _)| shard).filter(|shard| !shard.points.is_empty()).collect();
        let newest = shards.iter().flat_map(|shard| &shard.points).max().copied();
        Ok((StoredChanges { shards, newest }, ends))
    }

    /// Whether nothing of what is sent can be stored already.
    pub fn is_empty(&self) -> bool {
        self.shards.is_empty()
    }

    /// Whether the shard of a hash key has a change. Changes are asked for in the order of the log: those that follow one
    /// which its shard does not have are stored again, so that they come after it, where their order counts.
    pub fn has(&mut self, hash: u128, point: LogPoint, has_order: bool) -> bool {
        if self.newest.is_none_or(|newest| point > newest) {
            self.shards.clear();
            return false;
        }
        let holds = |shard: &&mut StoredShard| shard.begin <= hash && hash <= shard.end;
        let mut has = false;
        for shard in self.shards.iter().filter(|shard| shard.begin <= hash && hash <= shard.end) {
            has |= shard.points.contains(&point) && !(has_order && shard.has_gap);
        }
        if !has && has_order {
            self.shards.iter_mut().filter(holds).for_each(|shard| shard.has_gap = true);
        }
        has
    }
}

#[cfg(test)]
mod tests {
    use super::{LogPoint, StoredChanges, StoredShard};

    fn point(record: u64) -> LogPoint {
        LogPoint { commit: 7, record }
    }

    fn shard(begin: u128, end: u128, records: &[u64]) -> StoredShard {
        StoredShard { begin, end, points: records.iter().map(|record| point(*record)).collect(), has_gap: false }
    }

    #[test]
    fn what_follows_a_change_that_was_left_out_is_stored_again() {
        let shards = vec![shard(0, 9, &[1, 3, 5]), shard(10, 19, &[2, 6])];
        let mut stored = StoredChanges { shards, newest: Some(point(6)) };
        assert!(stored.has(4, point(1), true) && stored.has(12, point(2), true) && stored.has(9, point(3), true));
        // Refused in the request that has stored 5.
        assert!(!stored.has(0, point(4), true) && !stored.has(4, point(5), true));
        assert!(stored.has(19, point(6), true) && !stored.is_empty());
        assert!(!stored.has(19, point(7), true) && stored.is_empty());
    }

    #[test]
    fn rows_without_an_order_are_stored_once() {
        let mut stored = StoredChanges { shards: vec![shard(0, 9, &[1, 3])], newest: Some(point(3)) };
        assert!(stored.has(4, point(1), false) && !stored.has(4, point(2), false) && stored.has(4, point(3), false));
        // Also where a change of another table is missing.
        let mut stored = StoredChanges { shards: vec![shard(0, 9, &[1, 3])], newest: Some(point(3)) };
        assert!(!stored.has(4, point(0), true) && !stored.has(4, point(1), true) && stored.has(4, point(3), false));
    }

    #[test]
    fn a_shard_that_was_split_has_its_childrens_changes() {
        let shards = vec![shard(0, 19, &[1, 2]), shard(0, 9, &[3]), shard(10, 19, &[4])];
        let mut stored = StoredChanges { shards, newest: Some(point(4)) };
        assert!(
            stored.has(3, point(1), true)
                && stored.has(15, point(2), true)
                && stored.has(3, point(3), true)
                && stored.has(15, point(4), true)
        );
    }
}
