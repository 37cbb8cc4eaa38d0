//! The queue: entries for runs that are to begin, with their cause and their result.
//!
//! An entry's key is unique: the same slot or event that is queued twice is one entry.

use chrono::{DateTime, Utc};
use rusqlite::{OptionalExtension, Row, Transaction};
use serde::Serialize;
use serde_json::{Value, json};

use crate::ledger::{limit_of, put_event, without_nulls};
use crate::rows::{self, count};
use crate::{Ledger, Result, instant};

/// An entry to be put into the queue.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueEntry {
    /// The job to run.
    pub job: String,
    /// Identifies the slot or event that causes the entry, such as
    /// "cron/transfer:platform/0 2 * * */2026-03-29T02:00+01:00".
    pub key: String,
    /// Shown to users: "cron 0 2 * * *", "after transfer:platform", "event file.stored" or "backfill".
    pub cause: String,
    /// The period that the run is for, such as "2026-09".
    pub logical: Option<String>,
    /// The run's parameters, as JSON.
    pub detail: Value,
    /// The earliest time of the first attempt.
    pub not_before: DateTime<Utc>,
}

/// An entry of the queue.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QueueRow {
    /// Unique, ascending, never assigned again.
    pub id: i64,
    /// The job to run.
    pub job: String,
    /// Unique: identifies the slot or event that caused the entry.
    pub key: String,
    /// What caused the entry, as users see it.
    pub cause: String,
    /// The period that the run is for, such as "2026-09".
    #[serde(rename = "for")]
    pub logical: Option<String>,
    /// The run's parameters, as JSON.
    pub detail: Value,
    /// `waiting`, `running`, `succeeded`, `failed` or `cancelled`.
    pub state: String,
    /// The number of attempts begun so far.
    pub attempts: u32,
    /// The earliest time of the next attempt.
    #[serde(serialize_with = "instant::serialize")]
    pub not_before: DateTime<Utc>,
    /// The time at which the entry was queued.
    #[serde(serialize_with = "instant::serialize")]
    pub created_at: DateTime<Utc>,
    /// The start of the last attempt.
    #[serde(serialize_with = "instant::serialize_option")]
    pub started_at: Option<DateTime<Utc>>,
    /// The time at which the entry ended: it succeeded, failed or was cancelled.
    #[serde(serialize_with = "instant::serialize_option")]
    pub ended_at: Option<DateTime<Utc>>,
    /// The last attempt's run, once it has begun.
    pub run_id: Option<String>,
    /// The error of the last attempt that failed.
    pub error: Option<String>,
    /// Whether a user has cancelled the entry while it was running.
    pub cancel_requested: bool,
}

/// The end of an attempt, and whether another one follows.
#[derive(Clone, Debug, PartialEq)]
pub enum AttemptEnd {
    /// The entry succeeded.
    Succeeded,
    /// The entry failed; no attempt is left.
    Failed {
        /// The error, for users.
        error: String,
    },
    /// The attempt failed, and the entry waits for another one.
    Retry {
        /// The earliest time of the next attempt.
        not_before: DateTime<Utc>,
        /// The error, for users.
        error: String,
    },
    /// The entry waits again, and the attempt is not counted: it did not begin, or was interrupted from outside.
    Postponed {
        /// The earliest time of the next attempt.
        not_before: DateTime<Utc>,
        /// Why it was postponed, for users.
        error: String,
    },
    /// A user cancelled the entry.
    Cancelled,
}

/// The effect of [`Ledger::cancel`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CancelOutcome {
    /// The entry was waiting; it is cancelled and will not begin.
    Withdrawn,
    /// The entry is running; the server will stop its process.
    Requested,
    /// The entry has ended before, in this state.
    AlreadyEnded(String),
    /// The queue has no such entry.
    Unknown,
}

const COLUMNS: &str = "id, job, key, cause, logical, detail, state, attempts, not_before, created_at, \
     started_at, ended_at, run_id, error, cancel_requested";

impl Ledger {
    /// Puts an entry into the queue. Returns its id; None where an entry with its key exists.
    pub fn enqueue(&self, entry: &QueueEntry) -> Result<Option<i64>> {
        self.write(&format!("queue a run of {}", entry.job), |tx| put(tx, entry))
    }

    /// The newest `limit` entries, in one state or in all, newest first.
    pub fn queue(&self, limit: usize, state: Option<&str>) -> Result<Vec<QueueRow>> {
        let sql = format!("select {COLUMNS} from queue where ?1 is null or state = ?1 order by id desc limit ?2");
        self.list("list the queue", &sql, (state, limit_of(limit)), QueueRow::read)
    }

    /// Looks up an entry by its id.
    pub fn queue_entry(&self, id: i64) -> Result<Option<QueueRow>> {
        let sql = format!("select {COLUMNS} from queue where id = ?");
        Ok(self.list("look up an entry of the queue", &sql, [id], QueueRow::read)?.into_iter().next())
    }

    /// The first `limit` waiting entries that are due at `now`, in the order of their due times.
    pub fn due(&self, now: DateTime<Utc>, limit: usize) -> Result<Vec<QueueRow>> {
        let sql = format!(
            "select {COLUMNS} from queue where state = 'waiting' and not_before <= ? order by not_before, id limit ?"
        );
        self.list("list due entries of the queue", &sql, (instant::to_text(now), limit_of(limit)), QueueRow::read)
    }

    /// The time at which the next entry becomes due, in the past where one is due. None where none waits.
    pub fn next_due(&self) -> Result<Option<DateTime<Utc>>> {
        let sql = "select min(not_before) from queue where state = 'waiting'";
        let next = self.list("look for the next entry", sql, [], |row| {
            row.get::<_, Option<String>>(0)?.map(|at| instant::from_text(0, &at)).transpose()
        })?;
        Ok(next.into_iter().flatten().next())
    }

    /// Entries in the state `running`. The runs of some may have ended, until [`Ledger::end_attempt`] is called.
    pub fn running(&self) -> Result<Vec<QueueRow>> {
        let sql = format!("select {COLUMNS} from queue where state = 'running' order by id");
        self.list("list running entries of the queue", &sql, [], QueueRow::read)
    }

    /// Claims a waiting entry for an attempt: of several processes that try, one gets true. False also where the entry
    /// does not wait, such as after a cancellation.
    pub fn claim(&self, id: i64) -> Result<bool> {
        self.write("claim an entry of the queue", |tx| {
            let sql = "update queue set state = 'running', attempts = attempts + 1, started_at = ?, run_id = null
                       where id = ? and state = 'waiting'";
            Ok(tx.execute(sql, (instant::to_text(instant::now()), id))? == 1)
        })
    }

    /// Records the end of an attempt. An entry that is not running is unchanged; one whose cancellation was requested
    /// is not retried.
    ///
    /// In the same transaction it records the event `job.failed` where no attempt is left, and `job.recovered` where
    /// the entry succeeded and the job's previous entry had failed.
    pub fn end_attempt(&self, id: i64, end: AttemptEnd) -> Result<()> {
        let now = instant::to_text(instant::now());
        let (state, error, not_before) = match &end {
            AttemptEnd::Succeeded => ("succeeded", None, None),
            AttemptEnd::Failed { error } => ("failed", Some(error), None),
            AttemptEnd::Cancelled => ("cancelled", None, None),
            AttemptEnd::Retry { not_before, error } | AttemptEnd::Postponed { not_before, error } => {
                ("waiting", Some(error), Some(instant::to_text(*not_before)))
            }
        };
        let ended_at = (state != "waiting").then_some(&now);
        let uncounted = u32::from(matches!(end, AttemptEnd::Postponed { .. }));
        self.write("end an attempt of an entry of the queue", |tx| {
            let sql = "update queue set state = ?, error = ?, ended_at = ?, not_before = coalesce(?, not_before),
                              attempts = max(0, attempts - ?)
                       where id = ? and state = 'running'";
            let was_running = tx.execute(sql, (state, error, ended_at, not_before, uncounted, id))? == 1;
            let sql = "update queue set state = 'cancelled', ended_at = ?
                       where id = ? and state = 'waiting' and cancel_requested";
            tx.execute(sql, (&now, id))?;
            if was_running { put_end_event(tx, id, state) } else { Ok(()) }
        })
    }

    /// Cancels an entry that waits, or requests the cancellation of one that is running.
    pub fn cancel(&self, id: i64) -> Result<CancelOutcome> {
        self.write("cancel an entry of the queue", |tx| {
            let found = tx.query_row("select state from queue where id = ?", [id], |row| row.get::<_, String>(0));
            let Some(state) = found.optional()? else { return Ok(CancelOutcome::Unknown) };
            Ok(match state.as_str() {
                "waiting" => {
                    let sql = "update queue set state = 'cancelled', ended_at = ? where id = ?";
                    tx.execute(sql, (instant::to_text(instant::now()), id))?;
                    CancelOutcome::Withdrawn
                }
                "running" => {
                    tx.execute("update queue set cancel_requested = 1 where id = ?", [id])?;
                    CancelOutcome::Requested
                }
                _ => CancelOutcome::AlreadyEnded(state),
            })
        })
    }

    /// Marks the runs as crashed whose process has ended without a result, so that their entries' attempts can end.
    pub fn mark_crashed_runs(&self) -> Result<()> {
        self.find_crashed_runs()
    }

    /// The number of a job's entries that wait, whatever caused them.
    pub fn waiting_count(&self, job: &str) -> Result<u64> {
        let sql = "select count(*) from queue where job = ? and state = 'waiting'";
        Ok(self
            .list("count waiting entries of the queue", sql, [job], |row| count(row, 0))?
            .into_iter()
            .next()
            .unwrap_or_default())
    }
}

/// Records the event that hooks follow: `job.failed` or `job.recovered`.
fn put_end_event(tx: &Transaction<'_>, id: i64, state: &str) -> rusqlite::Result<()> {
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

/// Inserts an entry and returns its id; None where an entry with its key exists.
pub(crate) fn put(tx: &Transaction<'_>, entry: &QueueEntry) -> rusqlite::Result<Option<i64>> {
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
