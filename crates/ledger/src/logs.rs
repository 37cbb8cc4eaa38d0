//! What a run said. Bounded by lines and by bytes: of a run that talks without end, the beginning
//! and the newest stay, and a line between them says how many are gone.

use chrono::{DateTime, Utc};
use rusqlite::{Row, Transaction, TransactionBehavior};
use serde::Serialize;

use crate::error::During;
use crate::ledger::limit_of;
use crate::{Ledger, Result, instant};

/// Lines of one run that are kept: half of them the first, half the newest.
const LINES_MAX: i64 = 10_000;
const BYTES_MAX: i64 = 1024 * 1024;
const LINE_BYTES_MAX: usize = 8 * 1024;
/// Cutting reads the whole log, so it waits until a tenth too much is there.
const SLACK: i64 = 10;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LogRow {
    pub run_id: String,
    /// Grows within the run.
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
        cut_log(&tx, run_id).during(KEEP)?;
        tx.commit().during(KEEP)
    }

    /// The newest `limit` lines of a run, the oldest of them first; one more where some between
    /// them were left out.
    pub fn logs(&self, run_id: &str, limit: usize) -> Result<Vec<LogRow>> {
        let sql = "select run_id, seq, at, level, line from logs where run_id = ? order by seq desc limit ?";
        let mut lines = self.list("read a run's log", sql, (run_id, limit_of(limit)), LogRow::read)?;
        lines.reverse();
        Ok(with_gaps_told(lines))
    }

    /// The newest `limit` lines of all runs, newest first, and what was left out between them.
    pub fn all_logs(&self, limit: usize) -> Result<Vec<LogRow>> {
        let sql = "select run_id, seq, at, level, line from logs order by run_id desc, seq desc limit ?";
        let mut lines = self.list("read the logs", sql, [limit_of(limit)], LogRow::read)?;
        lines.reverse();
        let mut lines = with_gaps_told(lines);
        lines.reverse();
        Ok(lines)
    }
}

/// Keeps the lines that fit into the first half of the bounds, and the newest that fit into the
/// second. The beginning, once cut, ends at the first gap: nothing is added to it later.
fn cut_log(tx: &Transaction<'_>, run_id: &str) -> rusqlite::Result<()> {
    let size = "select count(*), coalesce(sum(octet_length(line)), 0) from logs where run_id = ?";
    let (lines, bytes): (i64, i64) =
        tx.prepare_cached(size)?.query_row([run_id], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if lines <= LINES_MAX + LINES_MAX / SLACK && bytes <= BYTES_MAX + BYTES_MAX / SLACK {
        return Ok(());
    }
    let cut = "with sized as (
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
    tx.prepare_cached(cut)?.execute((run_id, LINES_MAX / 2, BYTES_MAX / 2)).map(drop)
}

/// Oldest first. A gap in the numbers of one run becomes a line of its own.
fn with_gaps_told(lines: Vec<LogRow>) -> Vec<LogRow> {
    let mut told: Vec<LogRow> = Vec::with_capacity(lines.len() + 1);
    for line in lines {
        if let Some(last) = told.last().filter(|last| last.run_id == line.run_id && last.seq + 1 < line.seq) {
            let (seq, left_out) = (last.seq + 1, line.seq - last.seq - 1);
            let says = format!("({left_out} lines were left out here: a log keeps its beginning and its newest)");
            let (run_id, at) = (line.run_id.clone(), line.at);
            told.push(LogRow { run_id, seq, at, level: "info".to_owned(), line: says });
        }
        told.push(line);
    }
    told
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
