//! The logs of runs. A run's log is bounded by lines and by bytes: of a longer one, the first and the
//! newest lines are kept, and a line between them says how many are missing.

use chrono::{DateTime, Utc};
use rusqlite::{Row, Transaction, TransactionBehavior};
use serde::Serialize;

use crate::error::ErrorContext;
use crate::ledger::limit_of;
use crate::{Ledger, Result, instant};

/// The number of lines that are kept of one run: one half of them the first, the other half the newest.
const LINES_MAX: i64 = 10_000;
const BYTES_MAX: i64 = 1024 * 1024;
const LINE_BYTES_MAX: usize = 8 * 1024;
/// Trimming reads the whole log, so it is done only when the log is longer than its bounds by this fraction: a tenth.
const SLACK_DIVISOR: i64 = 10;

/// A line of a run's log.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LogRow {
    /// The run.
    pub run_id: String,
    /// Ascending within the run, from 1.
    pub seq: i64,
    /// The time at which the line was written.
    #[serde(serialize_with = "instant::serialize")]
    pub at: DateTime<Utc>,
    /// Such as "info" or "error".
    pub level: String,
    /// The text, truncated to 8 KiB.
    pub line: String,
}

impl Ledger {
    /// Appends lines to a run's log, each with its time, its level and its text, and trims the log to its bounds.
    pub fn log(&self, run_id: &str, lines: &[(DateTime<Utc>, String, String)]) -> Result<()> {
        const APPEND: &str = "append to a run's log";
        if lines.is_empty() {
            return Ok(());
        }
        let mut connection = self.lock_logs();
        let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate).during(APPEND)?;
        let last: i64 = tx
            .query_row("select coalesce(max(seq), 0) from logs where run_id = ?", [run_id], |row| row.get(0))
            .during(APPEND)?;
        for ((at, level, line), seq) in lines.iter().zip(last + 1..) {
            let line = truncated(line);
            tx.prepare_cached("insert into logs (run_id, seq, at, level, line) values (?, ?, ?, ?, ?)")
                .and_then(|mut statement| statement.execute((run_id, seq, instant::to_text(*at), level, line)))
                .during(APPEND)?;
        }
        trim_log(&tx, run_id).during(APPEND)?;
        tx.commit().during(APPEND)
    }

    /// The newest `limit` lines of a run, the oldest of them first. A further line stands where lines are missing.
    pub fn logs(&self, run_id: &str, limit: usize) -> Result<Vec<LogRow>> {
        let sql = "select run_id, seq, at, level, line from logs where run_id = ? order by seq desc limit ?";
        let mut lines = self.list("read a run's log", sql, (run_id, limit_of(limit)), LogRow::read)?;
        lines.reverse();
        Ok(with_gap_lines(lines))
    }

    /// The newest `limit` lines of all runs, newest first. A further line stands where lines of a run are missing.
    pub fn all_logs(&self, limit: usize) -> Result<Vec<LogRow>> {
        let sql = "select run_id, seq, at, level, line from logs order by run_id desc, seq desc limit ?";
        let mut lines = self.list("read the logs", sql, [limit_of(limit)], LogRow::read)?;
        lines.reverse();
        let mut lines = with_gap_lines(lines);
        lines.reverse();
        Ok(lines)
    }
}

/// Deletes all lines but the first ones that fit into one half of the bounds and the newest ones that fit into the
/// other half. Once lines are deleted, the first part ends at the gap: no later line is added to it.
fn trim_log(tx: &Transaction<'_>, run_id: &str) -> rusqlite::Result<()> {
    let size = "select count(*), coalesce(sum(octet_length(line)), 0) from logs where run_id = ?";
    let (lines, bytes): (i64, i64) =
        tx.prepare_cached(size)?.query_row([run_id], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if lines <= LINES_MAX + LINES_MAX / SLACK_DIVISOR && bytes <= BYTES_MAX + BYTES_MAX / SLACK_DIVISOR {
        return Ok(());
    }
    let delete = "with sized as (
            select seq,
                row_number() over (order by seq) as place,
                row_number() over (order by seq desc) as place_from_end,
                sum(octet_length(line)) over (order by seq) as bytes,
                sum(octet_length(line)) over (order by seq desc) as bytes_from_end
            from logs where run_id = ?1)
        delete from logs where run_id = ?1 and seq in (
            select seq from sized
            where not (seq = place and place <= ?2 and bytes <= ?3)
              and not (place_from_end <= ?2 and bytes_from_end <= ?3))";
    tx.prepare_cached(delete)?.execute((run_id, LINES_MAX / 2, BYTES_MAX / 2)).map(drop)
}

/// Inserts a line into each gap of a run's numbers. `lines` are in ascending order.
fn with_gap_lines(lines: Vec<LogRow>) -> Vec<LogRow> {
    let mut all: Vec<LogRow> = Vec::with_capacity(lines.len() + 1);
    for line in lines {
        if let Some(last) = all.last().filter(|last| last.run_id == line.run_id && last.seq + 1 < line.seq) {
            let (seq, left_out) = (last.seq + 1, line.seq - last.seq - 1);
            let note = format!("({left_out} lines were left out here: a log keeps its first and its newest lines)");
            let (run_id, at) = (line.run_id.clone(), line.at);
            all.push(LogRow { run_id, seq, at, level: "info".to_owned(), line: note });
        }
        all.push(line);
    }
    all
}

fn truncated(line: &str) -> &str {
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
