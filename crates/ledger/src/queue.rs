//! The queue: what is to be run, why, and what became of it. An entry's key is what makes it
//! happen once: the same slot or event asked for twice is one entry.

use chrono::{DateTime, Utc};
use rusqlite::{OptionalExtension, Row, Transaction};
use serde::Serialize;
use serde_json::{Value, json};

use crate::ledger::{limit_of, put_event, without_nulls};
use crate::rows::{self, count};
use crate::{Ledger, Result, instant};

/// What is put into the queue.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub job: String,
    /// "cron/transfer:platform/0 2 * * */2026-03-29T02:00+01:00"
    pub key: String,
    /// "cron 0 2 * * *", "after transfer:platform", "event file.stored", "backfill"
    pub cause: String,
    pub logical: Option<String>,
    pub detail: Value,
    pub not_before: DateTime<Utc>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QueueRow {
    pub id: i64,
    pub job: String,
    pub key: String,
    pub cause: String,
    #[serde(rename = "for")]
    pub logical: Option<String>,
    pub detail: Value,
    /// waiting, running, succeeded, failed or cancelled
    pub state: String,
    /// Runs begun so far.
    pub attempts: u32,
    #[serde(serialize_with = "instant::serialize")]
    pub not_before: DateTime<Utc>,
    #[serde(serialize_with = "instant::serialize")]
    pub created_at: DateTime<Utc>,
    #[serde(serialize_with = "instant::serialize_option")]
    pub started_at: Option<DateTime<Utc>>,
    #[serde(serialize_with = "instant::serialize_option")]
    pub ended_at: Option<DateTime<Utc>>,
    /// The last one.
    pub run_id: Option<String>,
    pub error: Option<String>,
    pub cancel_requested: bool,
}

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Settled {
    Succeeded,
    Failed {
        error: String,
    },
    /// Waits for another attempt.
    Again {
        not_before: DateTime<Utc>,
        error: String,
    },
    /// Waits again, and the attempt does not count: it did not begin, or was broken off by no fault
    /// of its own.
    Later {
        not_before: DateTime<Utc>,
        error: String,
    },
    Cancelled,
}

/// What a cancellation met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// It had not begun, and now never will.
    Withdrawn,
    /// It is under way: its process is to be stopped.
    Requested,
    AlreadyEnded(String),
    Unknown,
}

const COLUMNS: &str = "id, job, key, cause, logical, detail, state, attempts, not_before, created_at, \
     started_at, ended_at, run_id, error, cancel_requested";

impl Ledger {
    /// The entry's number; None where its key is there already.
    pub fn enqueue(&self, entry: &Entry) -> Result<Option<i64>> {
        self.write(&format!("queue a run of {}", entry.job), |tx| put(tx, entry))
    }

    /// The newest `limit` entries, in one state or in all, newest first.
    pub fn queue(&self, limit: usize, state: Option<&str>) -> Result<Vec<QueueRow>> {
        let sql = format!("select {COLUMNS} from queue where ?1 is null or state = ?1 order by id desc limit ?2");
        self.list("list the queue", &sql, (state, limit_of(limit)), QueueRow::read)
    }

    pub fn queued(&self, id: i64) -> Result<Option<QueueRow>> {
        let sql = format!("select {COLUMNS} from queue where id = ?");
        Ok(self.list("look up an entry of the queue", &sql, [id], QueueRow::read)?.into_iter().next())
    }

    /// Entries whose time has come, the longest waiting first.
    pub fn due(&self, now: DateTime<Utc>, limit: usize) -> Result<Vec<QueueRow>> {
        let sql = format!(
            "select {COLUMNS} from queue where state = 'waiting' and not_before <= ? order by not_before, id limit ?"
        );
        self.list("list what is due", &sql, (instant::to_text(now), limit_of(limit)), QueueRow::read)
    }

    /// When the next entry becomes due; in the past where one is.
    pub fn next_due(&self) -> Result<Option<DateTime<Utc>>> {
        let sql = "select min(not_before) from queue where state = 'waiting'";
        let next = self.list("look for the next entry", sql, [], |row| {
            row.get::<_, Option<String>>(0)?.map(|at| instant::from_text(0, &at)).transpose()
        })?;
        Ok(next.into_iter().flatten().next())
    }

    /// Entries under way, as far as the queue knows.
    pub fn running(&self) -> Result<Vec<QueueRow>> {
        let sql = format!("select {COLUMNS} from queue where state = 'running' order by id");
        self.list("list what is under way", &sql, [], QueueRow::read)
    }

    /// Takes a waiting entry for an attempt; false where another was quicker or it was withdrawn.
    pub fn claim(&self, id: i64) -> Result<bool> {
        self.write("take an entry of the queue", |tx| {
            let sql = "update queue set state = 'running', attempts = attempts + 1, started_at = ?, run_id = null
                       where id = ? and state = 'waiting'";
            Ok(tx.execute(sql, (instant::to_text(instant::now()), id))? == 1)
        })
    }

    /// Ends an attempt. Nothing happens to an entry that is not under way; one whose cancellation
    /// was asked for is not tried again. The event `job.failed` says that no attempt is left,
    /// `job.recovered` that a job succeeded whose entry before this one had failed.
    pub fn settle(&self, id: i64, settled: Settled) -> Result<()> {
        let now = instant::to_text(instant::now());
        let (state, error, not_before) = match &settled {
            Settled::Succeeded => ("succeeded", None, None),
            Settled::Failed { error } => ("failed", Some(error), None),
            Settled::Cancelled => ("cancelled", None, None),
            Settled::Again { not_before, error } | Settled::Later { not_before, error } => {
                ("waiting", Some(error), Some(instant::to_text(*not_before)))
            }
        };
        let ended_at = (state != "waiting").then_some(&now);
        let uncounted = u32::from(matches!(settled, Settled::Later { .. }));
        self.write("settle an entry of the queue", |tx| {
            let sql = "update queue set state = ?, error = ?, ended_at = ?, not_before = coalesce(?, not_before),
                              attempts = max(0, attempts - ?)
                       where id = ? and state = 'running'";
            let was_running = tx.execute(sql, (state, error, ended_at, not_before, uncounted, id))? == 1;
            let sql = "update queue set state = 'cancelled', ended_at = ?
                       where id = ? and state = 'waiting' and cancel_requested";
            tx.execute(sql, (&now, id))?;
            if was_running { tell_end(tx, id, state) } else { Ok(()) }
        })
    }

    pub fn cancel(&self, id: i64) -> Result<Cancel> {
        self.write("cancel an entry of the queue", |tx| {
            let found = tx.query_row("select state from queue where id = ?", [id], |row| row.get::<_, String>(0));
            let Some(state) = found.optional()? else { return Ok(Cancel::Unknown) };
            Ok(match state.as_str() {
                "waiting" => {
                    let sql = "update queue set state = 'cancelled', ended_at = ? where id = ?";
                    tx.execute(sql, (instant::to_text(instant::now()), id))?;
                    Cancel::Withdrawn
                }
                "running" => {
                    tx.execute("update queue set cancel_requested = 1 where id = ?", [id])?;
                    Cancel::Requested
                }
                _ => Cancel::AlreadyEnded(state),
            })
        })
    }

    /// Marks as crashed the runs that have died, so that their entries can be settled.
    pub fn sweep(&self) -> Result<()> {
        self.notice_crashes()
    }

    /// Entries of a job that wait, however they came.
    pub fn waiting_of(&self, job: &str) -> Result<u64> {
        let sql = "select count(*) from queue where job = ? and state = 'waiting'";
        Ok(self.list("count what waits", sql, [job], |row| count(row, 0))?.into_iter().next().unwrap_or_default())
    }
}

/// What hooks are for.
fn tell_end(tx: &Transaction<'_>, id: i64, state: &str) -> rusqlite::Result<()> {
    let entry = tx.query_row(&format!("select {COLUMNS} from queue where id = ?"), [id], QueueRow::read)?;
    let name = match state {
        "failed" => "job.failed",
        "succeeded" => {
            let sql = "select state from queue where job = ? and id <> ? and state in ('succeeded', 'failed')
                       order by ended_at desc, id desc limit 1";
            let before: Option<String> = tx.query_row(sql, (&entry.job, id), |row| row.get(0)).optional()?;
            if before.as_deref() != Some("failed") {
                return Ok(());
            }
            "job.recovered"
        }
        _ => return Ok(()),
    };
    let fields = without_nulls(json!({
        "job": entry.job, "cause": entry.cause, "for": entry.logical, "queue_id": id, "attempts": entry.attempts,
        "error": entry.error,
    }));
    put_event(tx, name, entry.run_id.as_deref(), &fields).map(drop)
}

/// None where the key is there already.
pub(crate) fn put(tx: &Transaction<'_>, entry: &Entry) -> rusqlite::Result<Option<i64>> {
    let put = tx
        .prepare_cached(
            "insert into queue (job, key, cause, logical, detail, state, not_before, created_at)
             values (?, ?, ?, ?, ?, 'waiting', ?, ?) on conflict (key) do nothing",
        )?
        .execute((
            &entry.job,
            &entry.key,
            &entry.cause,
            &entry.logical,
            entry.detail.to_string(),
            instant::to_text(entry.not_before),
            instant::to_text(instant::now()),
        ))?;
    Ok((put == 1).then(|| tx.last_insert_rowid()))
}

impl QueueRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let optional = |column: usize| -> rusqlite::Result<Option<DateTime<Utc>>> {
            row.get::<_, Option<String>>(column)?.map(|at| instant::from_text(column, &at)).transpose()
        };
        Ok(QueueRow {
            id: row.get(0)?,
            job: row.get(1)?,
            key: row.get(2)?,
            cause: row.get(3)?,
            logical: row.get(4)?,
            detail: rows::json(row, 5)?,
            state: row.get(6)?,
            attempts: row.get(7)?,
            not_before: instant::from_text(8, &row.get::<_, String>(8)?)?,
            created_at: instant::from_text(9, &row.get::<_, String>(9)?)?,
            started_at: optional(10)?,
            ended_at: optional(11)?,
            run_id: row.get(12)?,
            error: row.get(13)?,
            cancel_requested: row.get(14)?,
        })
    }
}
