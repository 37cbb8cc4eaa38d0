//! The rows behind `system.runs`, `system.events` and `system.transfer_tables`, and how they are read from SQLite.

use chrono::{DateTime, Utc};
use rusqlite::Row;
use rusqlite::types::Type;
use serde::Serialize;
use serde_json::Value;

use crate::instant;

/// A run, as the ledger has recorded it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunRow {
    /// A UUID of version 7: ids sort by the beginnings of their runs.
    pub id: String,
    /// Such as "transfer:platform".
    pub job: String,
    /// "hand", or the cause of the entry of the queue, such as "cron 0 2 * * *".
    pub cause: String,
    /// `running`, `succeeded`, `failed`, `cancelled` or `crashed`.
    pub state: String,
    /// The run's parameters.
    pub detail: Value,
    /// The run's figures, such as its number of rows; null until it has ended.
    pub figures: Value,
    /// The error of a run that failed or crashed.
    pub error: Option<String>,
    /// The process of the run.
    pub pid: u32,
    /// The period that the run is for, such as "2026-09".
    #[serde(rename = "for")]
    pub logical: Option<String>,
    /// Hashes of the run's inputs, by name.
    pub inputs: Value,
    /// The id of the entry of the queue that caused the run.
    pub queue_id: Option<i64>,
    /// The number of the entry's attempt, from 1.
    pub attempt: u32,
    /// For a run that failed: another attempt may succeed.
    pub retryable: bool,
    /// The time at which the run began.
    #[serde(serialize_with = "instant::serialize")]
    pub started_at: DateTime<Utc>,
    /// The time at which the run ended; for a crashed run, the time at which it was marked as crashed.
    #[serde(serialize_with = "instant::serialize_option")]
    pub ended_at: Option<DateTime<Utc>>,
}

/// An event.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EventRow {
    /// Unique, and ascending in the order of the commits.
    pub seq: i64,
    /// The time at which the event was recorded.
    #[serde(serialize_with = "instant::serialize")]
    pub at: DateTime<Utc>,
    /// Such as "snapshot.created".
    pub name: String,
    /// The run that recorded the event, if any.
    pub run_id: Option<String>,
    /// A JSON object.
    pub fields: Value,
}

/// The current state of a table of a transfer, as the table's last run recorded it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TransferTableRow {
    /// The transfer's name.
    pub transfer: String,
    /// The table at the source, as `schema.table`.
    pub source_table: String,
    /// The table in the target, as `schema.table`; empty where the table was refused.
    pub target_table: String,
    /// Such as `copied`, or the named state of a table that was refused.
    pub state: String,
    /// How the table was read, such as `initial` or `incremental`.
    pub mode: String,
    /// Rows that the run wrote to the target.
    pub rows: u64,
    /// Bytes that the run received from the source.
    pub bytes_read: u64,
    /// Bytes that the run wrote to the target.
    pub bytes_written: u64,
    /// The duration of the table's transfer.
    pub seconds: f64,
    /// The position after the run, for display: the position that counts is in the target.
    pub position: Option<String>,
    /// Why the table was refused or failed.
    pub reason: Option<String>,
    /// What a user can do about the reason.
    pub hint: Option<String>,
    /// The run that recorded the state.
    pub run_id: String,
    /// The time at which it did.
    #[serde(serialize_with = "instant::serialize")]
    pub updated_at: DateTime<Utc>,
    /// What its stream of changes has counted: a JSON object; null for a table that is not streamed.
    pub changes: Value,
    /// The last comparison with its source; none where there was none, and in the history of runs.
    pub validation: Option<ValidationRow>,
}

/// The last comparison of a transferred table with its source.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ValidationRow {
    /// The result.
    pub state: String,
    /// The position in the source's log at which it was compared, where it is streamed.
    pub position: Option<String>,
    /// What was counted: a JSON object.
    pub figures: Value,
    /// When the comparison ended.
    #[serde(serialize_with = "instant::serialize")]
    pub at: DateTime<Utc>,
}

/// A state of a table that one run recorded.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunTableRow {
    /// Unique, and ascending in the order of the commits.
    pub seq: i64,
    /// The state.
    #[serde(flatten)]
    pub table: TransferTableRow,
}

/// The columns that [`RunRow::read`] reads.
pub(crate) const RUN_COLUMNS: &str = "id, job, cause, state, detail, figures, error, pid, started_at, ended_at, \
     logical, inputs, queue_id, attempt, retryable";
/// The columns that [`EventRow::read`] reads.
pub(crate) const EVENT_COLUMNS: &str = "seq, at, name, run_id, fields";
/// The columns that [`TransferTableRow::read`] reads.
pub(crate) const TABLE_COLUMNS: &str = "transfer, source_table, target_table, state, mode, rows, \
     bytes_read, bytes_written, seconds, position, reason, hint, run_id, updated_at, changes";
/// The columns that [`TransferTableRow::read_validated`] reads after them.
pub(crate) const VALIDATION_COLUMNS: &str = "v.state, v.position, v.figures, v.at";

impl RunRow {
    /// Reads a row of the columns [`RUN_COLUMNS`].
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
            retryable: row.get(14)?,
        })
    }
}

impl EventRow {
    /// Reads a row of the columns [`EVENT_COLUMNS`].
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
    /// Reads a row of the columns [`TABLE_COLUMNS`].
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
            changes: json(row, 14)?,
            validation: None,
        })
    }

    /// Reads a row of the columns [`TABLE_COLUMNS`] and [`VALIDATION_COLUMNS`].
    pub(crate) fn read_validated(row: &Row<'_>) -> rusqlite::Result<Self> {
        let Some(at) = row.get::<_, Option<String>>(18)? else { return Self::read(row) };
        let at = instant::from_text(18, &at)?;
        let validation = ValidationRow { state: row.get(15)?, position: row.get(16)?, figures: json(row, 17)?, at };
        Ok(Self { validation: Some(validation), ..Self::read(row)? })
    }
}

impl RunTableRow {
    /// Reads a row of the columns [`TABLE_COLUMNS`], followed by `seq`.
    pub(crate) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { table: TransferTableRow::read(row)?, seq: row.get(15)? })
    }
}

/// Reads a count. SQLite stores it as an `i64`; `run` stores greater counts as the greatest `i64`.
pub(crate) fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let stored: i64 = row.get(column)?;
    u64::try_from(stored).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, stored))
}

/// Reads a column of JSON; NULL gives null.
pub(crate) fn json(row: &Row<'_>, column: usize) -> rusqlite::Result<Value> {
    let Some(text) = row.get::<_, Option<String>>(column)? else {
        return Ok(Value::Null);
    };
    serde_json::from_str(&text).map_err(|e| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(e)))
}
