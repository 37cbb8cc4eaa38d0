//! Deletes old rows of the ledger, and counts runs and entries for metrics.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::rows::count;
use crate::{Ledger, Result, instant};

/// The number of rows that one transaction deletes at most.
const ROWS_MAX: usize = 1000;
/// The number of runs that one call deletes at most.
const RUNS_MAX: usize = 100_000;
/// SQL for the number of the last event that all followers have seen; the greatest integer without followers.
const LAST_SEEN: &str = "(select coalesce(min(seq), 9223372036854775807) from followers)";

/// The number of rows that [`Ledger::prune`] has deleted, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PruneCounts {
    /// Runs.
    pub runs: usize,
    /// Events, those of deleted runs included.
    pub events: usize,
    /// Entries of the queue.
    pub queue: usize,
    /// Events for functions, dead letters included.
    pub invocations: usize,
    /// Lines of the logs of deleted runs.
    pub log_lines: usize,
}

/// The runs of one job that the ledger still has, counted by state.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JobCounts {
    /// The job's name, such as "transfer:platform".
    pub job: String,
    /// Runs that are running.
    pub running: u64,
    /// Runs that succeeded.
    pub succeeded: u64,
    /// Runs that failed.
    pub failed: u64,
    /// Runs that were cancelled.
    pub cancelled: u64,
    /// Runs whose process ended without a result.
    pub crashed: u64,
    /// The end of the last run that succeeded.
    #[serde(serialize_with = "instant::serialize_option")]
    pub last_success_at: Option<DateTime<Utc>>,
    /// The duration of the last run that succeeded.
    pub last_success_seconds: Option<f64>,
}

/// What metrics show of the ledger.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LedgerCounts {
    /// The runs of each job, by the job's name.
    pub jobs: Vec<JobCounts>,
    /// Entries of the queue that wait.
    pub queue_waiting: u64,
    /// Entries of the queue that are running.
    pub queue_running: u64,
    /// The number of the newest event: how many were ever recorded.
    pub events: u64,
}

impl Ledger {
    /// Deletes runs, events, entries and invocations that ended before `before`. It keeps each job's newest run and
    /// newest success, what has not ended, what a table's state refers to, and what a follower has not seen yet.
    ///
    /// It deletes in short transactions, so that other writers do not wait long, and leaves runs beyond a limit to the
    /// next call.
    pub fn prune(&self, before: DateTime<Utc>) -> Result<PruneCounts> {
        let before = instant::to_text(before);
        let mut pruned = PruneCounts::default();
        // Without a lock: a run that is old now is still old when it is deleted.
        let sql = format!(
            "select id from runs where ended_at < ?1
                 and id not in (select max(id) from runs group by job)
                 and id not in (select max(id) from runs where state = 'succeeded' group by job)
                 and id not in (select run_id from transfer_tables)
                 and id not in (select run_id from events where run_id is not null and seq > {LAST_SEEN})
             order by id limit {RUNS_MAX}"
        );
        let old = self.list("look for old runs", &sql, [&before], |row| row.get::<_, String>(0))?;
        for portion in old.chunks(ROWS_MAX) {
            let ids = serde_json::Value::from(portion).to_string();
            self.write("delete old runs", |tx| {
                let delete = |table: &str, id: &str| {
                    let sql = format!("delete from {table} where {id} in (select value from json_each(?))");
                    tx.execute(&sql, [&ids])
                };
                pruned.log_lines += delete("logs", "run_id")?;
                pruned.events += delete("events", "run_id")?;
                delete("run_tables", "run_id")?;
                pruned.runs += delete("runs", "id")?;
                Ok(())
            })?;
        }
        pruned.events += self.delete_old("events", "seq", &format!("at < ?1 and seq <= {LAST_SEEN}"), &before)?;
        pruned.queue += self.delete_old("queue", "id", "ended_at < ?1", &before)?;
        self.delete_old("requests", "minute", "minute < ?1", &before)?;
        self.delete_old("training_metrics", "seq", "at < ?1", &before)?;
        // Dead letters too.
        pruned.invocations += self.delete_old("invocations", "id", "ended_at < ?1", &before)?;
        Ok(pruned)
    }

    /// Deletes the rows of `table` that fulfil the condition `which`.
    fn delete_old(&self, table: &str, key: &str, which: &str, before: &str) -> Result<usize> {
        let sql = format!(
            "delete from {table} where {key} in
                (select {key} from {table} where {which} order by {key} limit {ROWS_MAX})"
        );
        let mut deleted = 0;
        loop {
            let portion = self.write(&format!("delete old rows of {table}"), |tx| tx.execute(&sql, [before]))?;
            deleted += portion;
            if portion < ROWS_MAX {
                return Ok(deleted);
            }
        }
    }

    /// Counts runs by job and state, and the entries of the queue. Marks crashed runs before.
    pub fn counts(&self) -> Result<LedgerCounts> {
        self.mark_crashed_runs()?;
        let jobs = self.list(
            "count runs",
            "select job,
                    sum(state = 'running'), sum(state = 'succeeded'), sum(state = 'failed'),
                    sum(state = 'cancelled'), sum(state = 'crashed'),
                    max(ended_at) filter (where state = 'succeeded'),
                    (select (julianday(ended_at) - julianday(started_at)) * 86400 from runs as last
                     where last.job = runs.job and last.state = 'succeeded' order by id desc limit 1)
             from runs group by job order by job",
            [],
            |row| {
                Ok(JobCounts {
                    job: row.get(0)?,
                    running: count(row, 1)?,
                    succeeded: count(row, 2)?,
                    failed: count(row, 3)?,
                    cancelled: count(row, 4)?,
                    crashed: count(row, 5)?,
                    last_success_at: row
                        .get::<_, Option<String>>(6)?
                        .map(|at| instant::from_text(6, &at))
                        .transpose()?,
                    last_success_seconds: row.get(7)?,
                })
            },
        )?;
        let counted = self.list(
            "count the queue",
            "select (select count(*) from queue where state = 'waiting'),
                    (select count(*) from queue where state = 'running'),
                    (select coalesce(max(seq), 0) from events)",
            [],
            |row| Ok((count(row, 0)?, count(row, 1)?, count(row, 2)?)),
        )?;
        let (queue_waiting, queue_running, events) = counted.into_iter().next().unwrap_or_default();
        Ok(LedgerCounts { jobs, queue_waiting, queue_running, events })
    }
}
