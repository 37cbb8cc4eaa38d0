//! The position of a source's write-ahead log, and whether the log still contains what was read before. A standby that
//! is promoted may lack the old primary's last transactions, and a server that is restored lacks what came after its
//! backup: those rows are gone, and the values of their cursor are assigned again.

use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

use crate::error::{Context, Result};

/// A position in the write-ahead log. It is displayed as `0/3000060 of timeline 1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPosition {
    /// The number of the timeline; each promotion begins a new one.
    pub timeline: u32,
    /// The log sequence number, as bytes from 0/0.
    pub lsn: i64,
}

impl std::fmt::Display for LogPosition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:X}/{:X} of timeline {}", self.lsn >> 32, self.lsn & 0xffff_ffff, self.timeline)
    }
}

/// The state of a server's write-ahead log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// The position up to which the log is written, or replayed on a standby.
    pub now: LogPosition,
    /// The server is a standby, and may be behind its primary.
    pub is_standby: bool,
    /// The ends of the timelines that this one descends from; `None` where the user may not read them.
    ends: Option<Vec<LogPosition>>,
}

/// Whether a server's log contains everything up to an earlier position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Continuity {
    /// It contains everything.
    Complete,
    /// It lacks what was written after this position.
    Diverged(LogPosition),
    /// The timeline has changed, and the user may not read at which position it began.
    Unknown,
}

impl Log {
    /// Reads the state of the server's log. `None` where the server does not report it: some services hide their log.
    ///
    /// # Errors
    /// Where the connection fails, or the history file can't be read.
    pub async fn of(client: &Client) -> Result<Option<Log>> {
        let row = match client.query_one(NOW, &[]).await {
            Ok(row) => row,
            Err(error) if error.as_db_error().is_some() => return Ok(None),
            Err(error) => return Err(error).context("read the position of the server's write-ahead log"),
        };
        let (timeline, lsn, may_read): (Option<String>, Option<i64>, bool) = (row.get(0), row.get(1), row.get(2));
        let is_standby = row.get(3);
        let timeline = timeline.and_then(|hex| u32::from_str_radix(&hex, 16).ok());
        let Some((timeline, lsn)) = timeline.zip(lsn) else { return Ok(None) };
        let now = LogPosition { timeline, lsn };
        let ends = match (timeline, may_read) {
            (1, _) => Some(Vec::new()),
            (_, false) => None,
            (_, true) => {
                let file = format!("pg_wal/{timeline:08X}.history");
                let read = client.query_one("SELECT pg_read_file($1, 0, 10000000, true)", &[&file]).await;
                let text: Option<String> = read.context(format!("read the server's {file}"))?.get(0);
                text.map(|text| timeline_ends(&text))
            }
        };
        Ok(Some(Log { now, is_standby, ends }))
    }

    /// Whether this log contains everything up to `before`.
    pub fn continuity(&self, before: LogPosition) -> Continuity {
        if before.timeline == self.now.timeline {
            return if before.lsn <= self.now.lsn { Continuity::Complete } else { Continuity::Diverged(self.now) };
        }
        if before.timeline > self.now.timeline {
            return Continuity::Diverged(self.now);
        }
        let Some(ends) = &self.ends else { return Continuity::Unknown };
        match ends.iter().find(|end| end.timeline == before.timeline) {
            Some(end) if before.lsn <= end.lsn => Continuity::Complete,
            Some(end) => Continuity::Diverged(*end),
            // It descends from an older timeline, and not from that of `before`.
            None => {
                let end = ends.iter().rfind(|end| end.timeline < before.timeline);
                Continuity::Diverged(end.copied().unwrap_or(self.now))
            }
        }
    }
}

/// The ends of the timelines by a history file, whose lines hold the timeline, its end, and the reason.
fn timeline_ends(text: &str) -> Vec<LogPosition> {
    let line = |line: &str| {
        let mut fields = line.split_whitespace();
        let timeline = fields.next()?.parse().ok()?;
        let (high, low) = fields.next()?.split_once('/')?;
        let lsn = i64::from_str_radix(high, 16).ok()? << 32 | i64::from_str_radix(low, 16).ok()?;
        Some(LogPosition { timeline, lsn })
    };
    text.lines().filter_map(line).collect()
}

/// The timeline and the position. On a primary the position up to which the log is inserted, flushed or not; on a
/// standby the position up to which it is replayed. A standby refuses `pg_walfile_name`, so its timeline comes from the
/// control data and the receiver.
const NOW: &str = "SELECT CASE WHEN pg_is_in_recovery() THEN (SELECT lpad(to_hex(greatest(c.timeline_id, r.min_recovery_end_timeline, w.received_tli)), 8, '0') \
                FROM pg_control_checkpoint() c CROSS JOIN pg_control_recovery() r LEFT JOIN pg_stat_wal_receiver w ON true) \
            ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END, \
        (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END - '0/0')::bigint, \
        has_function_privilege('pg_read_file(text, bigint, bigint, boolean)', 'execute'), pg_is_in_recovery()";

#[cfg(test)]
mod tests;
