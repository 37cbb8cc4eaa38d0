//! **transfer**: copies tables of a PostgreSQL to the transfer's target. A run has one row in the
//! ledger and an event a stage; a table that fails is named, and does not stop the others.

use std::sync::Arc;

use anyhow::Result;
use config::{Job, Via};
use ledger::{Outcome, Run, TableOutcome};
use serde_json::{Value, json};
use transfer::base_backup;
use transfer::hand_over::HandOver;
use transfer::plan::{ColumnAs, Mode, OnNoCursor, Overlap, Settings, TableSettings};
use transfer::postgres::Endpoint;
use transfer::publish::StreamTarget;
use transfer::read::{NoProgress, Progress};
use transfer::resume::Permission;
use transfer::run::{Request, TableMode, TableReport, Target, TransferReport};

use crate::flows::base_backups;
use crate::flows::consumer::require_source;
use crate::runs::{self, FlowOutcome, RunRequest};
use crate::warehouse::Warehouse;

/// What one run of a transfer is asked to do.
pub struct TransferOptions<'a> {
    /// The transfer's name.
    pub name: &'a str,
    /// In place of the mode in the transfer's file.
    pub mode: Option<Mode>,
    /// What the user allows the run to do to tables of the target; by the mode where it is absent.
    pub permission: Option<Permission>,
    /// See [`Request::clears_changed`].
    pub clears_changed: bool,
    /// The source tables to carry; all that the file names where it is empty.
    pub tables: Vec<String>,
    pub progress: Arc<dyn Progress>,
}

/// Runs a transfer as a run of `transfer:NAME`. The report has an entry for each table, failed ones included.
pub async fn run(warehouse: &Warehouse, request: &RunRequest, options: TransferOptions<'_>) -> Result<TransferReport> {
    let config = warehouse.transfer(options.name)?;
    let mut settings = settings(warehouse, config);
    let by_hand = options.mode.is_some_and(|mode| mode != settings.mode);
    let permission = options.permission.unwrap_or(if by_hand { Permission::Add } else { Permission::AsConfigured });
    settings.mode = options.mode.unwrap_or(settings.mode);
    let mode = match settings.mode {
        Mode::Initial => "initial",
        Mode::Incremental => "incremental",
        Mode::Changes => {
            return Err(base::Error::bug("run a stream of changes as a run that ends").into());
        }
    };
    let detail = json!({"transfer": options.name, "mode": mode, "tables": options.tables, "source": config.source});
    runs::run(warehouse, Job::Transfer(config), request, detail, async |run| {
        match transfer_tables(warehouse, config, settings, permission, &options, run).await {
            Ok(report) => record_report(run, options.name, &config.source, report),
            Err(error) => {
                run.event("transfer.failed", json!({"transfer": options.name}))?;
                Err(error)
            }
        }
    })
    .await
}

/// Hands tables over from the transfer that carried them to the transfer `name`, which goes on from their position.
pub async fn hand_over(warehouse: &Warehouse, name: &str, tables: Vec<String>) -> Result<Vec<HandOver>> {
    let config = warehouse.transfer(name)?;
    require_source(config, "hand-over")?;
    let detail = json!({"transfer": name, "tables": tables, "source": config.source});
    runs::run(warehouse, Job::Transfer(config), &RunRequest::by_hand(), detail, async |run| {
        let request = Request { tables, ..request(warehouse, config, run).await? };
        let handed_over = transfer::hand_over::hand_over(&request).await?;
        let names: Vec<&String> = handed_over.iter().map(|table| &table.source).collect();
        run.event("transfer.handed_over", json!({"transfer": name, "tables": names}))?;
        let figures = json!({"tables": handed_over.len()});
        Ok(FlowOutcome { output: handed_over, outcome: Outcome::Succeeded, figures })
    })
    .await
}

async fn transfer_tables(
    warehouse: &Warehouse,
    config: &config::Transfer,
    settings: Settings,
    permission: Permission,
    options: &TransferOptions<'_>,
    run: &Run,
) -> Result<TransferReport> {
    let request = Request {
        settings,
        permission,
        clears_changed: options.clears_changed,
        tables: options.tables.clone(),
        progress: Arc::clone(&options.progress),
        ..request(warehouse, config, run).await?
    };
    base_backups::remove_abandoned(warehouse).await?;
    match config.via {
        Via::Direct | Via::Replica => Ok(transfer::run::run(&request).await?),
        Via::Basebackup => {
            let binaries = warehouse.postgres()?;
            let url = warehouse.url(&config.source)?;
            let folder = warehouse.backups_folder().join(options.name);
            let _lock = base_backups::lock(warehouse, options.name).await?;
            let on_event = |name: &str, fields: Value| {
                // An event that can't be written must not undo a backup that was taken.
                if let Err(error) = run.event(name, fields) {
                    tracing::warn!(%error, name, "event not recorded");
                }
            };
            Ok(base_backup::run(&request, &url, &binaries, &folder, &on_event).await?)
        }
    }
}

/// What a run asks of its transfer as its file has it: all tables, and no progress.
pub async fn request(warehouse: &Warehouse, config: &config::Transfer, run: &Run) -> Result<Request> {
    Ok(Request {
        settings: settings(warehouse, config),
        source: source(warehouse, config)?,
        target: target(warehouse, config).await?,
        run: run.id().to_owned(),
        tables: Vec::new(),
        permission: Permission::AsConfigured,
        clears_changed: false,
        progress: Arc::new(NoProgress),
        scratch: warehouse.scratch_folder(),
    })
}

/// The source's server, with the transfer's `lock_timeout`.
pub fn source(warehouse: &Warehouse, config: &config::Transfer) -> Result<Endpoint> {
    Ok(warehouse.endpoint(&config.source)?.with_lock_timeout(config.lock_timeout))
}

/// The transfer's target, opened.
pub async fn target(warehouse: &Warehouse, config: &config::Transfer) -> Result<Target> {
    Ok(match &config.target {
        config::Target::Lake => Target::Lake(warehouse.lake().await?),
        config::Target::Postgres(connection) => Target::Postgres(warehouse.endpoint(connection)?),
        config::Target::Stream => Target::Stream(stream_target(warehouse, config).await?),
    })
}

/// The stream that a transfer publishes into.
async fn stream_target(warehouse: &Warehouse, config: &config::Transfer) -> Result<StreamTarget> {
    match &config.stream {
        Some(config::Stream { address, role: config::StreamRole::Publish { options, messages } }) => {
            let (lake, credentials) = (warehouse.lake().await?, warehouse.aws_credentials());
            Ok(StreamTarget::new(address.clone(), *options, *messages, credentials, lake))
        }
        _ => Err(base::Error::bug("publish by a transfer that has no stream to publish into").into()),
    }
}

/// Records the result of each table in the ledger, and makes the run's outcome of them.
fn record_report(run: &Run, name: &str, source: &str, report: TransferReport) -> Result<FlowOutcome<TransferReport>> {
    run.tables(&report.tables.iter().map(|table| outcome(name, table)).collect::<Vec<_>>())?;
    for table in &report.tables {
        match &table.error {
            None => {
                tracing::info!(rows = table.rows, seconds = table.seconds, "{}: {}", table.source, table.mode.as_str())
            }
            Some(error) => tracing::info!("{}: {}", table.source, base::chain(error)),
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
    // Another attempt copies the tables that failed; for the others it costs little.
    let retryable = errors.iter().any(|error| error.kind == transfer::Kind::Retry);
    let outcome = match failed {
        0 => Outcome::Succeeded,
        _ => Outcome::Failed { error: format!("{failed} of {tables} tables failed"), retryable },
    };
    Ok(FlowOutcome { output: report, outcome, figures })
}

pub(crate) fn outcome(transfer: &str, table: &TableReport) -> TableOutcome {
    TableOutcome {
        transfer: transfer.to_owned(),
        source_table: table.source.clone(),
        target_table: table.target.clone(),
        state: match &table.error {
            Some(error) => error.state.unwrap_or("errored").to_owned(),
            None => "copied".to_owned(),
        },
        mode: if table.error.is_some() && table.target.is_empty() { "refused" } else { TableMode::as_str(table.mode) }
            .to_owned(),
        rows: table.rows,
        bytes_read: table.bytes_read,
        bytes_written: table.bytes_written,
        seconds: table.seconds,
        position: table.position.as_ref().and_then(|p| p.high.as_ref()).map(ToString::to_string),
        reason: table.error.as_ref().map(|e| base::chain(e)),
        hint: table.error.as_ref().and_then(|e| e.hint.clone()),
        changes: Value::Null,
    }
}

/// The settings of a transfer's file as the transfer crate takes them.
pub fn settings(warehouse: &Warehouse, config: &config::Transfer) -> Settings {
    let mode = match config.mode {
        config::Mode::Initial => Mode::Initial,
        config::Mode::Incremental => Mode::Incremental,
        config::Mode::Changes => Mode::Changes,
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
        program: warehouse.environment.command.clone(),
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
        changes: config.changes.clone(),
        tables: config.tables.iter().map(|(name, settings)| (name.clone(), table(settings))).collect(),
    }
}
