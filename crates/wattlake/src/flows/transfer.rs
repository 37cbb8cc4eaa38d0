//! **transfer**: the platform's PostgreSQL into its target. One run, one row in the ledger, an
//! event a stage; tables in error are named and do not stop the others.

use std::sync::Arc;

use anyhow::Result;
use ledger::{Outcome, Run, TableOutcome};
use serde_json::{Value, json};
use transfer::hand_over::HandOver;
use transfer::plan::{ColumnAs, Mode, OnNoCursor, Overlap, Settings, TableSettings};
use transfer::postgres::Endpoint;
use transfer::read::{Progress, Quiet};
use transfer::resume::Permission;
use transfer::run::{How, Report, Request, TableReport, Target};
use transfer::via;

use crate::config::{self, Via};
use crate::flows::copies;
use crate::jobs::{self, Asked, Ended};
use crate::program::program_in;
use crate::report;
use crate::warehouse::Warehouse;

/// What to carry.
pub struct Carry<'a> {
    pub name: &'a str,
    /// Instead of the file's own mode.
    pub mode: Option<Mode>,
    /// What the user has asked for by name.
    pub permission: Option<Permission>,
    /// As [`Request::clears_changed`].
    pub clears_changed: bool,
    /// All that the file names where it is empty.
    pub tables: Vec<String>,
    pub progress: Arc<dyn Progress>,
}

pub async fn run(warehouse: &Warehouse, asked: &Asked, carry: Carry<'_>) -> Result<Report> {
    let config = warehouse.transfer(carry.name)?;
    let mut settings = settings(warehouse, config);
    let by_hand = carry.mode.is_some_and(|mode| mode != settings.mode);
    let permission = carry.permission.unwrap_or(if by_hand { Permission::Add } else { Permission::File });
    settings.mode = carry.mode.unwrap_or(settings.mode);
    let mode = if settings.mode == Mode::Initial { "initial" } else { "incremental" };
    let detail = json!({"transfer": carry.name, "mode": mode, "tables": carry.tables, "source": config.source});
    jobs::run(warehouse, &format!("transfer:{}", carry.name), asked, detail, async |run| {
        match carry_out(warehouse, config, settings, permission, &carry, run).await {
            Ok(report) => ended(run, carry.name, &config.source, report),
            Err(error) => {
                run.event("transfer.failed", json!({"transfer": carry.name}))?;
                Err(error)
            }
        }
    })
    .await
}

/// Lets a transfer go on with tables that another one carried.
pub async fn hand_over(warehouse: &Warehouse, name: &str, tables: Vec<String>) -> Result<Vec<HandOver>> {
    let config = warehouse.transfer(name)?;
    let detail = json!({"transfer": name, "tables": tables, "source": config.source});
    jobs::run(warehouse, &format!("transfer:{name}"), &Asked::by_hand(), detail, async |run| {
        let request = Request {
            settings: settings(warehouse, config),
            source: source(warehouse, config)?,
            target: target(warehouse, config).await?,
            run: run.id().to_owned(),
            tables,
            permission: Permission::File,
            clears_changed: false,
            progress: Arc::new(Quiet),
        };
        let taken = transfer::hand_over::hand_over(&request).await?;
        let names: Vec<&String> = taken.iter().map(|table| &table.source).collect();
        run.event("transfer.handed_over", json!({"transfer": name, "tables": names}))?;
        let figures = json!({"tables": taken.len()});
        Ok(Ended { shown: taken, outcome: Outcome::Succeeded, figures, may_pass: false })
    })
    .await
}

async fn carry_out(
    warehouse: &Warehouse,
    config: &config::Transfer,
    settings: Settings,
    permission: Permission,
    carry: &Carry<'_>,
    run: &Run,
) -> Result<Report> {
    let request = Request {
        settings,
        source: source(warehouse, config)?,
        permission,
        clears_changed: carry.clears_changed,
        target: target(warehouse, config).await?,
        run: run.id().to_owned(),
        tables: carry.tables.clone(),
        progress: Arc::clone(&carry.progress),
    };
    copies::sweep(warehouse).await?;
    match config.via {
        Via::Direct | Via::Replica => Ok(transfer::run::run(&request).await?),
        Via::Basebackup => {
            let binaries = warehouse.postgres()?;
            let url = warehouse.url(&config.source)?;
            let folder = warehouse.backups_folder().join(carry.name);
            let _held = copies::hold(warehouse, carry.name).await?;
            let on_event = |name: &str, fields: Value| {
                // An event that can't be written must not undo a backup that was taken.
                if let Err(error) = run.event(name, fields) {
                    tracing::warn!(%error, name, "event not recorded");
                }
            };
            Ok(via::basebackup(&request, &url, &binaries, &folder, &on_event).await?)
        }
    }
}

/// The source's server, with the transfer's patience for locks.
pub fn source(warehouse: &Warehouse, config: &config::Transfer) -> Result<Endpoint> {
    Ok(warehouse.endpoint(&config.source)?.with_lock_timeout(config.lock_timeout))
}

pub async fn target(warehouse: &Warehouse, config: &config::Transfer) -> Result<Target> {
    Ok(match &config.target {
        config::Target::Lake => Target::Lake(warehouse.lake().await?),
        config::Target::Postgres(connection) => Target::Postgres(warehouse.endpoint(connection)?),
    })
}

/// Notes what became of each table.
fn ended(run: &Run, name: &str, source: &str, report: Report) -> Result<Ended<Report>> {
    run.tables(&report.tables.iter().map(|table| outcome(name, table)).collect::<Vec<_>>())?;
    for table in &report.tables {
        match &table.error {
            None => {
                tracing::info!(rows = table.rows, seconds = table.seconds, "{}: {}", table.source, table.how.as_str())
            }
            Some(error) => tracing::info!("{}: {}", table.source, report::chain(error)),
        }
    }
    let errors: Vec<_> = report.tables.iter().filter_map(|table| table.error.as_ref()).collect();
    let (tables, failed) = (report.tables.len(), errors.len());
    let rows: u64 = report.tables.iter().map(|t| t.rows).sum();
    let figures = json!({
        "tables": tables, "failed": failed, "rows": rows,
        "bytes_read": report.tables.iter().map(|t| t.bytes_read).sum::<u64>(),
        "bytes_written": report.tables.iter().map(|t| t.bytes_written).sum::<u64>(),
        "seconds": report.seconds,
    });
    let event = if failed == 0 { "transfer.finished" } else { "transfer.failed" };
    run.event(event, json!({"transfer": name, "source": source, "tables": tables, "failed": failed, "rows": rows}))?;
    let outcome = match failed {
        0 => Outcome::Succeeded,
        _ => Outcome::Failed { error: format!("{failed} of {tables} tables failed") },
    };
    // Another attempt carries what may pass; it costs little where nothing is new.
    let may_pass = errors.iter().any(|error| error.kind == transfer::Kind::Retry);
    Ok(Ended { shown: report, outcome, figures, may_pass })
}

fn outcome(transfer: &str, table: &TableReport) -> TableOutcome {
    TableOutcome {
        transfer: transfer.to_owned(),
        source_table: table.source.clone(),
        target_table: table.target.clone(),
        state: match &table.error {
            Some(error) => error.state.unwrap_or("errored").to_owned(),
            None => "copied".to_owned(),
        },
        mode: if table.error.is_some() && table.target.is_empty() { "refused" } else { How::as_str(table.how) }
            .to_owned(),
        rows: table.rows,
        bytes_read: table.bytes_read,
        bytes_written: table.bytes_written,
        seconds: table.seconds,
        position: table.position.as_ref().and_then(|p| p.high.as_ref()).map(ToString::to_string),
        reason: table.error.as_ref().map(|e| report::chain(e)),
        hint: table.error.as_ref().and_then(|e| e.hint.clone()),
    }
}

/// From the file's words to the crate's.
pub fn settings(warehouse: &Warehouse, config: &config::Transfer) -> Settings {
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
                    config::ColumnAs::Bytes => ColumnAs::Bytes,
                    config::ColumnAs::Decimal(precision, scale) => ColumnAs::Decimal(*precision, *scale),
                };
                (name.clone(), carried)
            })
            .collect(),
    };
    Settings {
        name: config.name.clone(),
        program: program_in(&warehouse.config.root),
        others: warehouse.config.transfers.keys().filter(|name| **name != config.name).cloned().collect(),
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
