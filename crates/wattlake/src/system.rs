//! The system tables of the ledger and of the configuration, such as `system.runs`, `system.queue`
//! and `system.marts`.

use std::sync::Arc;

use anyhow::Context;
use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array,
};
use chrono::{DateTime, Utc};
use ledger::Ledger;
use sql::SystemTables;

use crate::config;
use crate::flows::mart::{Status, status};

/// How many rows a system table has at most; `wattlake runs --limit` shows older runs.
const ROWS_MAX: usize = 100_000;
/// How many of the newest runs `system.logs` covers.
const LOGGED_RUNS: usize = 1000;

/// The system tables for SQL sessions.
pub struct LedgerTables {
    ledger: Ledger,
    /// The configuration and the lake for `system.marts`; without them it does not exist.
    marts: Option<(config::Warehouse, lake::Lake)>,
}

impl LedgerTables {
    /// The tables of a ledger, without `system.marts`.
    pub fn of(ledger: &Ledger) -> Self {
        LedgerTables { ledger: ledger.clone(), marts: None }
    }

    /// Adds `system.marts`.
    pub fn with_marts(mut self, config: config::Warehouse, lake: lake::Lake) -> Self {
        self.marts = Some((config, lake));
        self
    }
}

type Columns = Vec<(&'static str, ArrayRef)>;
type Failure = anyhow::Error;

impl SystemTables for LedgerTables {
    fn names(&self) -> Vec<&'static str> {
        let marts = self.marts.is_some().then_some("marts");
        ["runs", "events", "transfers", "queue", "schedules", "logs"].into_iter().chain(marts).collect()
    }

    fn scan(&self, name: &str) -> sql::Result<RecordBatch> {
        self.read(name).map_err(|error| {
            let source: Box<dyn std::error::Error + Send + Sync> = error.into();
            sql::Error::new(sql::Kind::Retry, format!("read system.{name}")).because(source)
        })
    }
}

impl LedgerTables {
    fn read(&self, name: &str) -> Result<RecordBatch, Failure> {
        let columns = match name {
            "runs" => runs(&self.ledger)?,
            "events" => events(&self.ledger)?,
            "transfers" => transfers(&self.ledger)?,
            "queue" => queue(&self.ledger)?,
            "schedules" => schedules(&self.ledger)?,
            "logs" => logs(&self.ledger)?,
            "marts" => marts(&self.ledger, self.marts.as_ref())?,
            other => anyhow::bail!("there is no table system.{other}"),
        };
        Ok(RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))?)
    }
}

fn texts<T>(rows: &[T], text: impl Fn(&T) -> Option<String>) -> ArrayRef {
    Arc::new(rows.iter().map(text).collect::<StringArray>())
}

fn instants<T>(rows: &[T], at: impl Fn(&T) -> Option<DateTime<Utc>>) -> ArrayRef {
    let micros = rows.iter().map(|row| at(row).map(|at| at.timestamp_micros()));
    Arc::new(micros.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}

fn counts<T>(rows: &[T], count: impl Fn(&T) -> u64) -> ArrayRef {
    Arc::new(rows.iter().map(|row| Some(count(row))).collect::<UInt64Array>())
}

fn runs(ledger: &Ledger) -> Result<Columns, Failure> {
    let rows = ledger.runs(ROWS_MAX, None)?;
    let seconds = rows.iter().map(|r| r.ended_at.map(|end| (end - r.started_at).as_seconds_f64()));
    let carried = rows.iter().map(|r| r.figures.get("rows").and_then(serde_json::Value::as_i64));
    Ok(vec![
        ("id", texts(&rows, |r| Some(r.id.clone()))),
        ("job", texts(&rows, |r| Some(r.job.clone()))),
        ("cause", texts(&rows, |r| Some(r.cause.clone()))),
        ("state", texts(&rows, |r| Some(r.state.clone()))),
        ("started_at", instants(&rows, |r| Some(r.started_at))),
        ("ended_at", instants(&rows, |r| r.ended_at)),
        ("seconds", Arc::new(seconds.collect::<Float64Array>())),
        ("rows", Arc::new(carried.collect::<Int64Array>())),
        ("detail", texts(&rows, |r| Some(r.detail.to_string()))),
        ("figures", texts(&rows, |r| Some(r.figures.to_string()))),
        ("error", texts(&rows, |r| r.error.clone())),
        ("for", texts(&rows, |r| r.logical.clone())),
        ("attempt", counts(&rows, |r| u64::from(r.attempt))),
        ("inputs", texts(&rows, |r| Some(r.inputs.to_string()))),
        ("queue_id", Arc::new(rows.iter().map(|r| r.queue_id).collect::<Int64Array>())),
    ])
}

fn queue(ledger: &Ledger) -> Result<Columns, Failure> {
    let rows = ledger.queue(ROWS_MAX, None)?;
    Ok(vec![
        ("id", Arc::new(rows.iter().map(|r| Some(r.id)).collect::<Int64Array>())),
        ("job", texts(&rows, |r| Some(r.job.clone()))),
        ("cause", texts(&rows, |r| Some(r.cause.clone()))),
        ("for", texts(&rows, |r| r.logical.clone())),
        ("state", texts(&rows, |r| Some(r.state.clone()))),
        ("attempts", counts(&rows, |r| u64::from(r.attempts))),
        ("not_before", instants(&rows, |r| Some(r.not_before))),
        ("created_at", instants(&rows, |r| Some(r.created_at))),
        ("started_at", instants(&rows, |r| r.started_at)),
        ("ended_at", instants(&rows, |r| r.ended_at)),
        ("run_id", texts(&rows, |r| r.run_id.clone())),
        ("error", texts(&rows, |r| r.error.clone())),
        ("detail", texts(&rows, |r| Some(r.detail.to_string()))),
    ])
}

fn schedules(ledger: &Ledger) -> Result<Columns, Failure> {
    let rows = ledger.schedules()?;
    Ok(vec![
        ("name", texts(&rows, |r| Some(r.name.clone()))),
        ("job", texts(&rows, |r| Some(r.job.clone()))),
        ("trigger", texts(&rows, |r| Some(r.spec.clone()))),
        ("timezone", texts(&rows, |r| Some(r.zone.clone()).filter(|zone| !zone.is_empty()))),
        ("seen_to", instants(&rows, |r| Some(r.seen_to))),
        ("last_slot", texts(&rows, |r| r.last_slot.clone())),
        ("next_at", instants(&rows, |r| r.next_at)),
        ("paused", Arc::new(rows.iter().map(|r| Some(r.paused)).collect::<BooleanArray>())),
    ])
}

/// The log lines of the newest runs.
fn logs(ledger: &Ledger) -> Result<Columns, Failure> {
    let mut rows = Vec::new();
    for run in ledger.runs(LOGGED_RUNS, None)? {
        rows.extend(ledger.logs(&run.id, ROWS_MAX)?);
        if rows.len() >= ROWS_MAX {
            break;
        }
    }
    Ok(vec![
        ("run_id", texts(&rows, |r| Some(r.run_id.clone()))),
        ("seq", Arc::new(rows.iter().map(|r| Some(r.seq)).collect::<Int64Array>())),
        ("at", instants(&rows, |r| Some(r.at))),
        ("level", texts(&rows, |r| Some(r.level.clone()))),
        ("line", texts(&rows, |r| Some(r.line.clone()))),
    ])
}

fn events(ledger: &Ledger) -> Result<Columns, Failure> {
    let rows = ledger.events(ROWS_MAX, None)?;
    Ok(vec![
        ("seq", Arc::new(rows.iter().map(|r| Some(r.seq)).collect::<Int64Array>())),
        ("at", instants(&rows, |r| Some(r.at))),
        ("name", texts(&rows, |r| Some(r.name.clone()))),
        ("run_id", texts(&rows, |r| r.run_id.clone())),
        ("fields", texts(&rows, |r| Some(r.fields.to_string()))),
    ])
}

fn transfers(ledger: &Ledger) -> Result<Columns, Failure> {
    let rows = ledger.transfer_tables(None)?;
    Ok(vec![
        ("transfer", texts(&rows, |r| Some(r.transfer.clone()))),
        ("source_table", texts(&rows, |r| Some(r.source_table.clone()))),
        ("target_table", texts(&rows, |r| Some(r.target_table.clone()))),
        ("state", texts(&rows, |r| Some(r.state.clone()))),
        ("mode", texts(&rows, |r| Some(r.mode.clone()))),
        ("rows", counts(&rows, |r| r.rows)),
        ("bytes_read", counts(&rows, |r| r.bytes_read)),
        ("bytes_written", counts(&rows, |r| r.bytes_written)),
        ("seconds", Arc::new(rows.iter().map(|r| Some(r.seconds)).collect::<Float64Array>())),
        ("position", texts(&rows, |r| r.position.clone())),
        ("reason", texts(&rows, |r| r.reason.clone())),
        ("hint", texts(&rows, |r| r.hint.clone())),
        ("run_id", texts(&rows, |r| Some(r.run_id.clone()))),
        ("updated_at", instants(&rows, |r| Some(r.updated_at))),
    ])
}

fn marts(ledger: &Ledger, known: Option<&(config::Warehouse, lake::Lake)>) -> Result<Columns, Failure> {
    let (config, lake) = known.context("system.marts was not set up for this session")?;
    let mut rows: Vec<(&config::Mart, Status)> = Vec::new();
    // System tables are read on a thread that may block.
    let runtime = tokio::runtime::Handle::current();
    for mart in config.marts.values() {
        rows.push((mart, runtime.block_on(status(config, lake, ledger, mart))?));
    }
    let inputs = |status: &Status| {
        let inputs = status.inputs.iter().map(|(name, version)| (name.to_string(), serde_json::json!(version)));
        serde_json::Value::Object(inputs.collect()).to_string()
    };
    Ok(vec![
        ("schema", texts(&rows, |(mart, _)| Some(mart.schema.clone()))),
        ("table", texts(&rows, |(mart, _)| Some(mart.table.clone()))),
        ("mart", texts(&rows, |(mart, _)| Some(mart.name.clone()))),
        ("kind", texts(&rows, |(mart, _)| Some(mart.kind.as_str().to_owned()))),
        ("state", texts(&rows, |(_, status)| Some(status.state.as_str().to_owned()))),
        ("why", texts(&rows, |(_, status)| status.state.why().map(str::to_owned))),
        ("rows", Arc::new(rows.iter().map(|(_, status)| status.rows).collect::<UInt64Array>())),
        ("refreshed_at", instants(&rows, |(_, status)| status.refreshed_at)),
        ("inputs", texts(&rows, |(_, status)| Some(inputs(status)))),
        ("description", texts(&rows, |(mart, _)| mart.description.clone())),
    ])
}
