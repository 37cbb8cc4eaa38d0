//! What can be read back: the rows behind `system.runs`, `system.events`, `system.transfer_tables`.

use chrono::{DateTime, Utc};
use rusqlite::Row;
use rusqlite::types::Type;
use serde::Serialize;
use serde_json::Value;

use crate::instant;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunRow {
    /// A version 7 uuid: sorts by its beginning.
    pub id: String,
    /// "transfer:platform"
    pub job: String,
    /// "hand", a schedule's name, an event's name
    pub cause: String,
    /// running, succeeded, failed, cancelled or crashed
    pub state: String,
    /// What it was asked to do.
    pub detail: Value,
    /// What it came to; null until it has ended.
    pub figures: Value,
    pub error: Option<String>,
    pub pid: u32,
    /// The period that it is for, such as "2026-09".
    #[serde(rename = "for")]
    pub logical: Option<String>,
    /// Hashes of what it works with, by name.
    pub inputs: Value,
    /// The entry of the queue that caused it.
    pub queue_id: Option<i64>,
    /// 1 for the first of an entry's runs.
    pub attempt: u32,
    #[serde(serialize_with = "instant::serialize")]
    pub started_at: DateTime<Utc>,
    /// For a crashed run, when the crash was noticed.
    #[serde(serialize_with = "instant::serialize_option")]
    pub ended_at: Option<DateTime<Utc>>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EventRow {
    /// Grows with every event; never given twice.
    pub seq: i64,
    #[serde(serialize_with = "instant::serialize")]
    pub at: DateTime<Utc>,
    /// "snapshot.created"
    pub name: String,
    pub run_id: Option<String>,
    pub fields: Value,
}

/// The current state of a table of a transfer, as its last run left it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TransferTableRow {
    pub transfer: String,
    pub source_table: String,
    pub target_table: String,
    pub state: String,
    pub mode: String,
    pub rows: u64,
    pub bytes_read: u64,
    pub bytes_written: u64,
    pub seconds: f64,
    /// A cache: the truth is in the target's own commit.
    pub position: Option<String>,
    pub reason: Option<String>,
    /// What to do about the reason.
    pub hint: Option<String>,
    pub run_id: String,
    #[serde(serialize_with = "instant::serialize")]
    pub updated_at: DateTime<Utc>,
}

/// One step of one table in one run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunTableRow {
    pub seq: i64,
    #[serde(flatten)]
    pub table: TransferTableRow,
}

pub(crate) const RUN_COLUMNS: &str = "id, job, cause, state, detail, figures, error, pid, started_at, ended_at, \
     logical, inputs, queue_id, attempt";
pub(crate) const EVENT_COLUMNS: &str = "seq, at, name, run_id, fields";
pub(crate) const TABLE_COLUMNS: &str = "transfer, source_table, target_table, state, mode, rows, \
     bytes_read, bytes_written, seconds, position, reason, hint, run_id, updated_at";

impl RunRow {
    pub(crate) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let ended_at: Option<String> = row.get(9)?;
        Ok(Self {
            id: row.get(0)?,
            job: row.get(1)?,
            cause: row.get(2)?,
            state: row.get(3)?,
            detail: json(row, 4)?,
            figures: json(row, 5)?,
            error: row.get(6)?,
            pid: row.get(7)?,
            started_at: instant::from_text(8, &row.get::<_, String>(8)?)?,
            ended_at: ended_at.map(|t| instant::from_text(9, &t)).transpose()?,
            logical: row.get(10)?,
            inputs: json(row, 11)?,
            queue_id: row.get(12)?,
            attempt: row.get(13)?,
        })
    }
}

impl EventRow {
    pub(crate) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            seq: row.get(0)?,
            at: instant::from_text(1, &row.get::<_, String>(1)?)?,
            name: row.get(2)?,
            run_id: row.get(3)?,
            fields: json(row, 4)?,
        })
    }
}

impl TransferTableRow {
    pub(crate) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            transfer: row.get(0)?,
            source_table: row.get(1)?,
            target_table: row.get(2)?,
            state: row.get(3)?,
            mode: row.get(4)?,
            rows: count(row, 5)?,
            bytes_read: count(row, 6)?,
            bytes_written: count(row, 7)?,
            seconds: row.get(8)?,
            position: row.get(9)?,
            reason: row.get(10)?,
            hint: row.get(11)?,
            run_id: row.get(12)?,
            updated_at: instant::from_text(13, &row.get::<_, String>(13)?)?,
        })
    }
}

impl RunTableRow {
    /// The table's columns, then seq.
    pub(crate) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { table: TransferTableRow::read(row)?, seq: row.get(14)? })
    }
}

/// Counts are kept as i64, as SQLite does; `run` cuts what is beyond.
pub(crate) fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let kept: i64 = row.get(column)?;
    u64::try_from(kept).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, kept))
}

pub(crate) fn json(row: &Row<'_>, column: usize) -> rusqlite::Result<Value> {
    let Some(text) = row.get::<_, Option<String>>(column)? else {
        return Ok(Value::Null);
    };
    serde_json::from_str(&text).map_err(|e| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(e)))
}
