//! One run of a job, from its beginning to its outcome. The run holds the job's lease while it exists.

use serde_json::{Value, json};

use crate::lease::Lease;
use crate::ledger::{put_event, without_nulls};
use crate::rows::TABLE_COLUMNS;
use crate::{Ledger, Result, instant};

/// The parameters with which [`Ledger::begin`] begins a run.
#[derive(Clone, Debug)]
pub struct RunStart {
    /// "hand", or the cause of the entry of the queue.
    pub cause: String,
    /// The run's parameters, as JSON.
    pub detail: Value,
    /// The period that the run is for, such as "2026-09".
    pub logical: Option<String>,
    /// Hashes of the run's inputs by name: a later run with equal inputs would give the same result.
    pub inputs: Value,
    /// The id of the entry of the queue that causes the run.
    pub queue_entry: Option<i64>,
    /// The number of the entry's attempt; 1 for a run without an entry.
    pub attempt: u32,
    /// For each of these keys, at most one run of any job is alive.
    pub concurrency_keys: Vec<String>,
}

impl Default for RunStart {
    fn default() -> Self {
        RunStart {
            cause: "hand".to_owned(),
            detail: Value::Null,
            logical: None,
            inputs: json!({}),
            queue_entry: None,
            attempt: 1,
            concurrency_keys: Vec::new(),
        }
    }
}

/// A run that is alive in this process. Dropped without [`Run::finish`], it is recorded as failed.
#[derive(Debug)]
pub struct Run {
    ledger: Ledger,
    id: String,
    job: String,
    start: RunStart,
    has_ended: bool,
    /// The last field, so that the leases are released after the run's end is written.
    _leases: Vec<Lease>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did its work.
    Succeeded,
    /// It ended with an error; the text is for users.
    Failed {
        /// The error, for users.
        error: String,
        /// Another attempt may succeed.
        retryable: bool,
    },
    /// It was stopped from outside, such as by a user.
    Cancelled,
}

/// What a run did with one table of a transfer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TableOutcome {
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
    /// Rows that were written to the target.
    pub rows: u64,
    /// Bytes that were received from the source.
    pub bytes_read: u64,
    /// Bytes that were written to the target.
    pub bytes_written: u64,
    /// The duration of the table's transfer.
    pub seconds: f64,
    /// The position after the run, for display: the position that counts is in the target.
    pub position: Option<String>,
    /// Why the table was refused or failed.
    pub reason: Option<String>,
    /// What a user can do about the reason.
    pub hint: Option<String>,
    /// What its stream of changes has counted: a JSON object; null for a table that is not streamed.
    pub changes: Value,
}

impl Run {
    /// The handle of a run whose row is written already; `leases` are released when it is dropped.
    pub(crate) fn new(ledger: Ledger, id: String, job: &str, start: RunStart, leases: Vec<Lease>) -> Self {
        Self { ledger, id, job: job.to_owned(), start, has_ended: false, _leases: leases }
    }

    /// The period that the run is for.
    pub fn logical(&self) -> Option<&str> {
        self.start.logical.as_deref()
    }

    /// Adds hashes of inputs, by name, to those with which the run began.
    pub fn note_inputs(&self, inputs: &serde_json::Map<String, Value>) -> Result<()> {
        self.ledger.write("record a run's inputs", |tx| {
            let sql = "update runs set inputs = json_patch(inputs, ?) where id = ?";
            tx.execute(sql, (Value::Object(inputs.clone()).to_string(), &self.id)).map(drop)
        })
    }

    /// The run's id, a UUID of version 7.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The job's name, such as "transfer:platform".
    pub fn job(&self) -> &str {
        &self.job
    }

    /// What caused it: "hand", or the cause of the entry of the queue.
    pub fn cause(&self) -> &str {
        &self.start.cause
    }

    /// The ledger that the run is recorded in.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Records an event of the run. It gets the run's `depth`, the length of the chain of jobs that caused it, so that
    /// the chain's length can be limited.
    pub fn event(&self, name: &str, mut fields: Value) -> Result<()> {
        if let (Some(depth), Some(fields)) = (self.start.detail.get("depth"), fields.as_object_mut()) {
            fields.insert("depth".to_owned(), depth.clone());
        }
        self.ledger.event(name, Some(&self.id), fields).map(drop)
    }

    /// Records the state of a table.
    pub fn table(&self, outcome: TableOutcome) -> Result<()> {
        self.tables(&[outcome])
    }

    /// Records the states of tables in one transaction: as the tables' current states, and in the run's history.
    pub fn tables(&self, outcomes: &[TableOutcome]) -> Result<()> {
        self.write_tables(outcomes, &["transfer_tables", "run_tables"])
    }

    /// Records the current states of tables whose run goes on, without the run's history.
    pub fn update_tables(&self, outcomes: &[TableOutcome]) -> Result<()> {
        self.write_tables(outcomes, &["transfer_tables"])
    }

    /// Records that the stream of a transfer does not go on at the moment, as the state of its tables.
    pub fn interrupt_tables(&self, transfer: &str, reason: &str, hint: Option<&str>) -> Result<()> {
        let update = "update transfer_tables set state = 'interrupted', reason = ?, hint = ?, run_id = ?, \
                      updated_at = ? where transfer = ? and state in ('streaming', 'interrupted')";
        self.ledger.write("record the states of tables", |tx| {
            tx.execute(update, (reason, hint, &self.id, instant::to_text(instant::now()), transfer)).map(|_| ())
        })
    }

    fn write_tables(&self, outcomes: &[TableOutcome], into: &[&str]) -> Result<()> {
        let marks = "?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?";
        let insert = |table: &&str| format!("insert or replace into {table} ({TABLE_COLUMNS}) values ({marks})");
        let inserts: Vec<String> = into.iter().map(insert).collect();
        self.ledger.write("record the states of tables", |tx| {
            for outcome in outcomes {
                let values = (
                    &outcome.transfer,
                    &outcome.source_table,
                    &outcome.target_table,
                    &outcome.state,
                    &outcome.mode,
                    to_i64(outcome.rows),
                    to_i64(outcome.bytes_read),
                    to_i64(outcome.bytes_written),
                    outcome.seconds,
                    &outcome.position,
                    &outcome.reason,
                    &outcome.hint,
                    &self.id,
                    instant::to_text(instant::now()),
                    (!outcome.changes.is_null()).then(|| outcome.changes.to_string()),
                );
                for insert in &inserts {
                    tx.prepare_cached(insert)?.execute(values.clone())?;
                }
            }
            Ok(())
        })
    }

    /// Records the run's end with its figures, and the event `run.succeeded`, `run.failed` or `run.cancelled`.
    pub fn finish(mut self, outcome: Outcome, figures: Value) -> Result<()> {
        self.end(outcome, Some(figures))
    }

    fn end(&mut self, outcome: Outcome, figures: Option<Value>) -> Result<()> {
        let (state, event, error, retryable) = match outcome {
            Outcome::Succeeded => ("succeeded", "run.succeeded", None, false),
            Outcome::Failed { error, retryable } => ("failed", "run.failed", Some(error), retryable),
            Outcome::Cancelled => ("cancelled", "run.cancelled", None, false),
        };
        let start = &self.start;
        let fields = without_nulls(json!({
            "job": self.job, "cause": start.cause, "for": start.logical, "attempt": start.attempt,
            "queue_id": start.queue_entry, "depth": start.detail.get("depth"), "error": error,
            "rows": figures.as_ref().and_then(|figures| figures.get("rows")),
        }));
        // In one transaction: there is no end without its event, so that followers of the job miss none.
        self.ledger.write(&format!("end a run of {}", self.job), |tx| {
            tx.execute(
                "update runs set state = ?, error = ?, retryable = ?, figures = ?, ended_at = ? where id = ?",
                (state, error, retryable, figures.map(|f| f.to_string()), instant::to_text(instant::now()), &self.id),
            )?;
            put_event(tx, event, Some(&self.id), &fields)
        })?;
        self.has_ended = true;
        Ok(())
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        let error = "ended without a result".to_owned();
        if let Err(error) = self.end(Outcome::Failed { error, retryable: false }, None) {
            // It is still marked as running, without a lease: the next look-up marks it as crashed.
            tracing::warn!(%error, run = self.id, "the end of a run could not be recorded");
        }
    }
}

/// A count as SQLite's integer, which is an `i64`; greater counts become the greatest integer.
fn to_i64(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
