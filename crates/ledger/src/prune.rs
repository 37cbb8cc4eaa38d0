//! What the ledger forgets with time, and the counts that metrics show.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::rows::count;
use crate::{Ledger, Result, instant};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pruned {
    pub runs: usize,
    pub events: usize,
    pub queue: usize,
    pub log_lines: usize,
}

/// Of one job.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JobCount {
    pub job: String,
    pub running: u64,
    /// Of the runs that the ledger still has.
    pub succeeded: u64,
    pub failed: u64,
    pub cancelled: u64,
    pub crashed: u64,
    #[serde(serialize_with = "instant::serialize_option")]
    pub last_success_at: Option<DateTime<Utc>>,
    pub last_success_seconds: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Counts {
    pub jobs: Vec<JobCount>,
    pub queue_waiting: u64,
    pub queue_running: u64,
    pub events: u64,
}

impl Ledger {
    /// Forgets what ended before `before`. The newest run of each job stays, and so does all that
    /// is under way or that a table's state points to.
    pub fn prune(&self, before: DateTime<Utc>) -> Result<Pruned> {
        let before = instant::to_text(before);
        self.write("prune the ledger", |tx| {
            const OLD: &str = "ended_at < ?1 and id not in (select max(id) from runs group by job)
                 and id not in (select run_id from transfer_tables)";
            let log_lines =
                tx.execute(&format!("delete from logs where run_id in (select id from runs where {OLD})"), [&before])?;
            // Followers have seen it: what is not yet seen is newer than any retention.
            let events = tx.execute(
                &format!(
                    "delete from events where at < ?1 and seq <= (select coalesce(min(seq), 0) from followers)
                          or run_id in (select id from runs where {OLD})"
                ),
                [&before],
            )?;
            tx.execute(
                &format!("delete from run_tables where run_id in (select id from runs where {OLD})"),
                [&before],
            )?;
            let runs = tx.execute(&format!("delete from runs where {OLD}"), [&before])?;
            let queue = tx.execute("delete from queue where ended_at < ?1", [&before])?;
            Ok(Pruned { runs, events, queue, log_lines })
        })
    }

    pub fn counts(&self) -> Result<Counts> {
        self.sweep()?;
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
                Ok(JobCount {
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
        Ok(Counts { jobs, queue_waiting, queue_running, events })
    }
}
