//! What a run said. Bounded: of a run that talks without end, the beginning and the newest stay.

use chrono::{DateTime, Utc};
use rusqlite::{Row, TransactionBehavior};
use serde::Serialize;

use crate::error::During;
use crate::ledger::limit_of;
use crate::{Ledger, Result, instant};

/// Lines of one run that are kept: half of them the first, half the newest.
const LINES_MAX: i64 = 10_000;
const LINE_BYTES_MAX: usize = 8 * 1024;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LogRow {
    pub run_id: String,
    /// Grows within the run; a gap is what was left out.
    pub seq: i64,
    #[serde(serialize_with = "instant::serialize")]
    pub at: DateTime<Utc>,
    pub level: String,
    pub line: String,
}

impl Ledger {
    /// Adds lines to a run's log.
    pub fn log(&self, run_id: &str, lines: &[(DateTime<Utc>, String, String)]) -> Result<()> {
        const KEEP: &str = "keep a run's log";
        if lines.is_empty() {
            return Ok(());
        }
        let mut connection = self.lock_logs();
        let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate).during(KEEP)?;
        let mut seq: i64 = tx
            .query_row("select coalesce(max(seq), 0) from logs where run_id = ?", [run_id], |row| row.get(0))
            .during(KEEP)?;
        for (at, level, line) in lines {
            seq += 1;
            let line = cut(line);
            tx.prepare_cached("insert into logs (run_id, seq, at, level, line) values (?, ?, ?, ?, ?)")
                .and_then(|mut statement| statement.execute((run_id, seq, instant::to_text(*at), level, line)))
                .during(KEEP)?;
        }
        tx.execute(
            "delete from logs where run_id = ? and seq > ? and seq <= ?",
            (run_id, LINES_MAX / 2, seq - LINES_MAX / 2),
        )
        .during(KEEP)?;
        tx.commit().during(KEEP)
    }

    /// The newest `limit` lines of a run, the oldest of them first.
    pub fn logs(&self, run_id: &str, limit: usize) -> Result<Vec<LogRow>> {
        let sql = "select run_id, seq, at, level, line from logs where run_id = ? order by seq desc limit ?";
        let mut lines = self.list("read a run's log", sql, (run_id, limit_of(limit)), LogRow::read)?;
        lines.reverse();
        Ok(lines)
    }

    /// The newest `limit` lines of all runs, newest first.
    pub fn all_logs(&self, limit: usize) -> Result<Vec<LogRow>> {
        let sql = "select run_id, seq, at, level, line from logs order by run_id desc, seq desc limit ?";
        self.list("read the logs", sql, [limit_of(limit)], LogRow::read)
    }
}

fn cut(line: &str) -> &str {
    let mut end = line.len().min(LINE_BYTES_MAX);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    &line[..end]
}

impl LogRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(LogRow {
            run_id: row.get(0)?,
            seq: row.get(1)?,
            at: instant::from_text(2, &row.get::<_, String>(2)?)?,
            level: row.get(3)?,
            line: row.get(4)?,
        })
    }
}
