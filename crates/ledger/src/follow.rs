//! Those who follow events: each has its place, which moves together with what the events cause.

use rusqlite::OptionalExtension;

use crate::error::During;
use crate::ledger::limit_of;
use crate::queue::{Entry, put};
use crate::rows::EVENT_COLUMNS;
use crate::{EventRow, Ledger, Result};

impl Ledger {
    /// Shows the next events to `react`, queues what they cause and moves on, in one transaction.
    /// Returns how many were seen. A new follower begins with what happens from now on.
    pub fn follow(
        &self,
        follower: &str,
        limit: usize,
        mut react: impl FnMut(&EventRow) -> Vec<Entry>,
    ) -> Result<usize> {
        if !self.has_news(follower)? {
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

    /// Looks without the write lock: most looks find nothing.
    fn has_news(&self, follower: &str) -> Result<bool> {
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
