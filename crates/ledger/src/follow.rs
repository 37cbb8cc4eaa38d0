//! Followers of the events: each has a position, which is moved in the transaction that queues what the events cause.

use rusqlite::OptionalExtension;

use crate::error::ErrorContext;
use crate::ledger::limit_of;
use crate::queue::{QueueEntry, put};
use crate::rows::EVENT_COLUMNS;
use crate::{EventRow, Ledger, Result};

impl Ledger {
    /// Passes the next events, at most `limit`, to `react`, queues the entries that it returns and moves the follower's
    /// position past the events, all in one transaction. Returns the number of events. The first call with a new
    /// follower's name registers it at the newest event and returns 0.
    pub fn follow(
        &self,
        follower: &str,
        limit: usize,
        mut react: impl FnMut(&EventRow) -> Vec<QueueEntry>,
    ) -> Result<usize> {
        if !self.has_new_events(follower)? {
            return Ok(0);
        }
        self.write("follow events", |tx| {
            let place: i64 = tx.query_row("select seq from followers where name = ?", [follower], |row| row.get(0))?;
            let sql = format!("select {EVENT_COLUMNS} from events where seq > ? order by seq limit ?");
            let events: Vec<EventRow> = tx
                .prepare_cached(&sql)?
                .query_map((place, limit_of(limit)), EventRow::read)?
                .collect::<rusqlite::Result<_>>()?;
            for event in &events {
                for entry in react(event) {
                    put(tx, &entry)?;
                }
            }
            if let Some(last) = events.last() {
                tx.execute("update followers set seq = ? where name = ?", (last.seq, follower))?;
            }
            Ok(events.len())
        })
    }

    /// Checks without the write lock, because most checks find nothing. Registers a new follower.
    fn has_new_events(&self, follower: &str) -> Result<bool> {
        let place: Option<i64> = {
            let connection = self.lock();
            let sql = "select seq from followers where name = ?";
            connection.query_row(sql, [follower], |row| row.get(0)).optional().during("follow events")?
        };
        let Some(place) = place else {
            let sql = "insert or ignore into followers (name, seq) select ?, coalesce(max(seq), 0) from events";
            self.write("begin to follow events", |tx| tx.execute(sql, [follower]).map(drop))?;
            return Ok(false);
        };
        let sql = "select exists (select 1 from events where seq > ?)";
        self.lock().query_row(sql, [place], |row| row.get(0)).during("follow events")
    }
}
