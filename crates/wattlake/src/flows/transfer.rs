//! **transfer**: the platform's PostgreSQL into its target. One run, one row in the ledger, an
//! event a stage; tables in error are named and do not stop the others.

use std::sync::Arc;

use anyhow::{Context, Result};
use ledger::{Outcome, Run, Start, TableOutcome};
use serde_json::{Value, json};
use transfer::plan::{ColumnAs, Mode, OnNoCursor, Overlap, Settings, TableSettings};
use transfer::read::Progress;
use transfer::run::{How, Report, Request, TableReport, Target};
use transfer::via;

use crate::config::{self, Via};
use crate::report;
use crate::warehouse::Warehouse;

/// What to run, and why.
pub struct Job<'a> {
    pub name: &'a str,
    /// Instead of the file's own mode.
    pub mode: Option<Mode>,
    pub tables: Vec<String>,
    pub cause: &'a str,
    pub progress: Arc<dyn Progress>,
}

pub async fn run(warehouse: &Warehouse, job: Job<'_>) -> Result<Report> {
    let config = warehouse.transfer(job.name)?;
    let mut settings = settings(config);
    settings.mode = job.mode.unwrap_or(settings.mode);
    let mode = if settings.mode == Mode::Initial { "initial" } else { "incremental" };
    let detail = json!({"transfer": job.name, "mode": mode, "tables": job.tables, "source": config.source});
    let run = warehouse
        .ledger
        .begin(&format!("transfer:{}", job.name), Start { cause: job.cause.to_owned(), detail, ..Start::default() })?;
    let carried = tokio::select! {
        carried = carry(warehouse, config, settings, &job, &run) => carried,
        _ = tokio::signal::ctrl_c() => Err(Stopped.into()),
    };
    record(run, job.name, &config.source, carried)
}

async fn carry(
    warehouse: &Warehouse,
    config: &config::Transfer,
    settings: Settings,
    job: &Job<'_>,
    run: &Run,
) -> Result<Report> {
    let request = Request {
        settings,
        source: warehouse.endpoint(&config.source)?,
        target: target(warehouse, config).await?,
        run: run.id().to_owned(),
        tables: job.tables.clone(),
        progress: Arc::clone(&job.progress),
    };
    match config.via {
        Via::Direct | Via::Replica => Ok(transfer::run::run(&request).await?),
        Via::Basebackup => {
            let binaries = warehouse.postgres()?;
            let url = warehouse.url(&config.source)?;
            let folder = warehouse.backup_folder(job.name);
            let on_event = |name: &str, fields: Value| {
                // An event that can't be written must not undo a backup that was taken.
                if let Err(error) = warehouse.ledger.event(name, Some(run.id()), fields) {
                    tracing::warn!(%error, name, "event not recorded");
                }
            };
            Ok(via::basebackup(&request, &url, &binaries, &folder, &on_event).await?)
        }
    }
}

async fn target(warehouse: &Warehouse, config: &config::Transfer) -> Result<Target> {
    Ok(match &config.target {
        config::Target::Lake => Target::Lake(warehouse.lake().await?),
        config::Target::Postgres(connection) => Target::Postgres(warehouse.endpoint(connection)?),
    })
}

/// The user pressed Ctrl-C: tables that were not committed stay as they were.
#[derive(Debug)]
struct Stopped;

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("stopped; tables that were not committed yet stay as they were")
    }
}

impl std::error::Error for Stopped {}

/// Writes the run's end into the ledger.
fn record(run: Run, name: &str, source: &str, carried: Result<Report>) -> Result<Report> {
    let carried = match carried {
        Ok(report) => report,
        Err(error) => {
            let was_stopped = error.is::<Stopped>();
            let outcome =
                if was_stopped { Outcome::Cancelled } else { Outcome::Failed { error: report::chain(error.as_ref()) } };
            let event = if was_stopped { "transfer.cancelled" } else { "transfer.failed" };
            run.event(event, json!({"transfer": name}))?;
            run.finish(outcome, json!({}))?;
            return Err(error);
        }
    };
    for table in &carried.tables {
        run.table(outcome(name, table))?;
    }
    let failed = carried.tables.iter().filter(|t| t.error.is_some()).count();
    let rows: u64 = carried.tables.iter().map(|t| t.rows).sum();
    let figures = json!({
        "tables": carried.tables.len(), "failed": failed, "rows": rows,
        "bytes_read": carried.tables.iter().map(|t| t.bytes_read).sum::<u64>(),
        "bytes_written": carried.tables.iter().map(|t| t.bytes_written).sum::<u64>(),
        "seconds": carried.seconds,
    });
    let event = if failed == 0 { "transfer.finished" } else { "transfer.failed" };
    run.event(
        event,
        json!({"transfer": name, "source": source, "tables": carried.tables.len(), "failed": failed, "rows": rows}),
    )?;
    let outcome = if failed == 0 {
        Outcome::Succeeded
    } else {
        Outcome::Failed { error: format!("{failed} of {} tables failed", carried.tables.len()) }
    };
    run.finish(outcome, figures).context("write the run's end")?;
    Ok(carried)
}

fn outcome(transfer: &str, table: &TableReport) -> TableOutcome {
    TableOutcome {
        transfer: transfer.to_owned(),
        source_table: table.source.clone(),
        target_table: table.target.clone(),
        state: if table.error.is_some() { "errored" } else { "copied" }.to_owned(),
        mode: if table.error.is_some() && table.target.is_empty() { "refused" } else { How::as_str(table.how) }
            .to_owned(),
        rows: table.rows,
        bytes_read: table.bytes_read,
        bytes_written: table.bytes_written,
        seconds: table.seconds,
        position: table.position.map(|p| p.high.to_string()),
        reason: table.error.as_ref().map(|e| report::chain(e)),
        mend: table.error.as_ref().and_then(|e| e.mend.clone()),
    }
}

/// From the file's words to the crate's.
pub fn settings(config: &config::Transfer) -> Settings {
    let mode = match config.mode {
        config::Mode::Initial => Mode::Initial,
        config::Mode::Incremental => Mode::Incremental,
    };
    let on_no_cursor = |value: config::OnNoCursor| match value {
        config::OnNoCursor::Error => OnNoCursor::Error,
        config::OnNoCursor::Reload => OnNoCursor::Reload,
    };
    let table = |table: &config::TableSettings| TableSettings {
        cursor: table.cursor.clone(),
        overlap: table.overlap.as_ref().map(|overlap| match overlap {
            config::Overlap::Time(time) => Overlap::Time(*time),
            config::Overlap::Ids(ids) => Overlap::Ids(*ids),
        }),
        key: table.key.clone(),
        on_no_cursor: table.on_no_cursor.map(on_no_cursor),
        columns: table
            .columns
            .iter()
            .map(|(name, carried)| {
                let carried = match carried {
                    config::ColumnAs::Text => ColumnAs::Text,
                    config::ColumnAs::Double => ColumnAs::Double,
                    config::ColumnAs::Decimal(precision, scale) => ColumnAs::Decimal(*precision, *scale),
                };
                (name.clone(), carried)
            })
            .collect(),
    };
    Settings {
        name: config.name.clone(),
        mode,
        into: config.into.clone(),
        include: config.include.clone(),
        exclude: config.exclude.clone(),
        mapping: config.mapping.clone(),
        streams: config.streams,
        parallel_tables: config.parallel_tables,
        views: config.views,
        on_no_cursor: on_no_cursor(config.on_no_cursor),
        overlap: config.overlap,
        tables: config.tables.iter().map(|(name, settings)| (name.clone(), table(settings))).collect(),
    }
}
