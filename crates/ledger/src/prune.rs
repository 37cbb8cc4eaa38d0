//! What the ledger forgets with time, and the counts that metrics show.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::rows::count;
use crate::{Ledger, Result, instant};

/// Rows forgotten in one transaction.
const PORTION: usize = 1000;
/// Runs forgotten in one call.
const RUNS_MAX: usize = 100_000;
/// How far all followers have come; all the way where there are none.
const SEEN: &str = "(select coalesce(min(seq), 9223372036854775807) from followers)";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pruned {
    pub runs: usize,
    pub events: usize,
    pub queue: usize,
    pub invocations: usize,
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
    /// Forgets what ended before `before`. The newest run of each job and its newest success stay,
    /// and so does all that is under way, that a table's state points to, or that a follower has
    /// not seen yet. In portions, each a short transaction: others write in between. Of very many
    /// old runs some are left for the next call.
    pub fn prune(&self, before: DateTime<Utc>) -> Result<Pruned> {
        let before = instant::to_text(before);
        let mut pruned = Pruned::default();
        // What is old now stays old: this needs no lock.
        let sql = format!(
            "select id from runs where ended_at < ?1
                 and id not in (select max(id) from runs group by job)
                 and id not in (select max(id) from runs where state = 'succeeded' group by job)
                 and id not in (select run_id from transfer_tables)
                 and id not in (select run_id from events where run_id is not null and seq > {SEEN})
             order by id limit {RUNS_MAX}"
        );
        let old = self.list("look for old runs", &sql, [&before], |row| row.get::<_, String>(0))?;
        for portion in old.chunks(PORTION) {
            let ids = serde_json::Value::from(portion).to_string();
            self.write("prune the runs", |tx| {
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
        pruned.events += self.forget("events", "seq", &format!("at < ?1 and seq <= {SEEN}"), &before)?;
        pruned.queue += self.forget("queue", "id", "ended_at < ?1", &before)?;
        // Dead letters too: nobody has asked for them for so long.
        pruned.invocations += self.forget("invocations", "id", "ended_at < ?1", &before)?;
        Ok(pruned)
    }

    fn forget(&self, table: &str, key: &str, which: &str, before: &str) -> Result<usize> {
        let sql = format!(
            "delete from {table} where {key} in
                (select {key} from {table} where {which} order by {key} limit {PORTION})"
        );
        let mut forgotten = 0;
        loop {
            let portion = self.write(&format!("prune the {table}"), |tx| tx.execute(&sql, [before]))?;
            forgotten += portion;
            if portion < PORTION {
                return Ok(forgotten);
            }
        }
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
