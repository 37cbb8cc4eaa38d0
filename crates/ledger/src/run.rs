//! One run of a job, from its beginning to its outcome. It holds the job's lease while it exists.

use serde_json::{Value, json};

use crate::lease::Lease;
use crate::ledger::{put_event, without_nulls};
use crate::rows::TABLE_COLUMNS;
use crate::{Ledger, Result, instant};

/// What a run is begun with.
#[derive(Clone, Debug)]
pub struct Start {
    /// "hand", or what the entry of the queue says.
    pub cause: String,
    /// What it is asked to do.
    pub detail: Value,
    /// The period that it is for, such as "2026-09".
    pub logical: Option<String>,
    /// Hashes of what it works with, by name, so that it can be told whether another would differ.
    pub inputs: Value,
    /// The entry of the queue that causes it.
    pub queued: Option<i64>,
    pub attempt: u32,
    /// At most one living run for each of these, whatever its job.
    pub keys: Vec<String>,
}

impl Default for Start {
    fn default() -> Self {
        Start {
            cause: "hand".to_owned(),
            detail: Value::Null,
            logical: None,
            inputs: json!({}),
            queued: None,
            attempt: 1,
            keys: Vec::new(),
        }
    }
}

/// Dropped without [`Run::finish`], it counts as failed.
#[derive(Debug)]
pub struct Run {
    ledger: Ledger,
    id: String,
    job: String,
    start: Start,
    has_ended: bool,
    /// Last: given back after the end is written.
    _leases: Vec<Lease>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Succeeded,
    Failed { error: String },
    Cancelled,
}

/// What a run did to one table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TableOutcome {
    pub transfer: String,
    pub source_table: String,
    pub target_table: String,
    pub state: String,
    pub mode: String,
    pub rows: u64,
    pub bytes_read: u64,
    pub bytes_written: u64,
    pub seconds: f64,
    pub position: Option<String>,
    pub reason: Option<String>,
    pub hint: Option<String>,
}

impl Run {
    pub(crate) fn new(ledger: Ledger, id: String, job: &str, start: Start, leases: Vec<Lease>) -> Self {
        Self { ledger, id, job: job.to_owned(), start, has_ended: false, _leases: leases }
    }

    /// The period that it is for.
    pub fn logical(&self) -> Option<&str> {
        self.start.logical.as_deref()
    }

    /// Hashes that are only known once it is under way; added to those it began with.
    pub fn note_inputs(&self, inputs: &serde_json::Map<String, Value>) -> Result<()> {
        self.ledger.write("note a run's inputs", |tx| {
            let sql = "update runs set inputs = json_patch(inputs, ?) where id = ?";
            tx.execute(sql, (Value::Object(inputs.clone()).to_string(), &self.id)).map(drop)
        })
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn job(&self) -> &str {
        &self.job
    }

    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// A job that follows it knows how long the chain is already.
    pub fn event(&self, name: &str, mut fields: Value) -> Result<()> {
        if let (Some(depth), Some(fields)) = (self.start.detail.get("depth"), fields.as_object_mut()) {
            fields.insert("depth".to_owned(), depth.clone());
        }
        self.ledger.event(name, Some(&self.id), fields).map(drop)
    }

    /// Notes what became of a table.
    pub fn table(&self, outcome: TableOutcome) -> Result<()> {
        self.tables(&[outcome])
    }

    /// Notes what became of each table, of all in one transaction.
    pub fn tables(&self, outcomes: &[TableOutcome]) -> Result<()> {
        let marks = "?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?";
        let state = format!("insert or replace into transfer_tables ({TABLE_COLUMNS}) values ({marks})");
        let history = format!("insert into run_tables ({TABLE_COLUMNS}) values ({marks})");
        self.ledger.write("note the states of tables", |tx| {
            for outcome in outcomes {
                let values = (
                    &outcome.transfer,
                    &outcome.source_table,
                    &outcome.target_table,
                    &outcome.state,
                    &outcome.mode,
                    kept(outcome.rows),
                    kept(outcome.bytes_read),
                    kept(outcome.bytes_written),
                    outcome.seconds,
                    &outcome.position,
                    &outcome.reason,
                    &outcome.hint,
                    &self.id,
                    instant::to_text(instant::now()),
                );
                tx.prepare_cached(&state)?.execute(values.clone())?;
                tx.prepare_cached(&history)?.execute(values)?;
            }
            Ok(())
        })
    }

    pub fn finish(mut self, outcome: Outcome, figures: Value) -> Result<()> {
        self.end(outcome, Some(figures))
    }

    fn end(&mut self, outcome: Outcome, figures: Option<Value>) -> Result<()> {
        let (state, event, error) = match outcome {
            Outcome::Succeeded => ("succeeded", "run.succeeded", None),
            Outcome::Failed { error } => ("failed", "run.failed", Some(error)),
            Outcome::Cancelled => ("cancelled", "run.cancelled", None),
        };
        let start = &self.start;
        let fields = without_nulls(json!({
            "job": self.job, "cause": start.cause, "for": start.logical, "attempt": start.attempt,
            "queue_id": start.queued, "depth": start.detail.get("depth"), "error": error,
            "rows": figures.as_ref().and_then(|figures| figures.get("rows")),
        }));
        // Together: whoever follows the job never misses an end.
        self.ledger.write(&format!("end a run of {}", self.job), |tx| {
            tx.execute(
                "update runs set state = ?, error = ?, figures = ?, ended_at = ? where id = ?",
                (state, error, figures.map(|f| f.to_string()), instant::to_text(instant::now()), &self.id),
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
        if let Err(error) = self.end(Outcome::Failed { error }, None) {
            // It stays marked as running, without a lease: the next to look marks it as crashed.
            tracing::warn!(%error, run = self.id, "end a run");
        }
    }
}

/// SQLite's integers end at i64: 9 exabytes.
fn kept(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
