use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, bail};
use base::text;
use clap::{Args, Subcommand, ValueEnum};
use jobs::flows::stream::request_reread;
use jobs::flows::transfer::{TransferOptions, hand_over, run, settings, source};
use jobs::runs::RunRequest;
use jobs::warehouse::Warehouse;
use ledger::ValidationRow;
use serde_json::json;
use transfer::changes::StreamEnd;
use transfer::plan::Mode;
use transfer::resume::Permission;
use transfer::run::{TableMode, TableReport, TransferReport};
use transfer::validate::TableValidation;

use super::consume;
use super::drop_slot::DropSlot;
use crate::program::open_warehouse;
use crate::progress::ProgressBars;
use crate::report;

/// Transfers from PostgreSQL into the lake or into another PostgreSQL: transfers/NAME.toml
#[derive(Debug, Subcommand)]
pub enum Transfer {
    Run(Run),
    List(List),
    Status(Status),
    Validate(Validate),
    Resync(Resync),
    HandOver(HandOver),
    DropSlot(DropSlot),
    Worker(consume::Worker),
    #[command(subcommand)]
    Quarantine(consume::Quarantine),
    Replay(consume::Replay),
}

impl Transfer {
    /// Opens the warehouse and runs the subcommand.
    pub async fn run(self, root: &Path) -> Result<ExitCode> {
        let warehouse = open_warehouse(root)?;
        match self {
            Transfer::Run(command) => command.run(&warehouse).await,
            Transfer::List(command) => command.run(&warehouse),
            Transfer::Status(command) => command.run(&warehouse),
            Transfer::Validate(command) => command.run(&warehouse).await,
            Transfer::Resync(command) => command.run(&warehouse).await,
            Transfer::HandOver(command) => command.run(&warehouse).await,
            Transfer::DropSlot(command) => command.run(&warehouse).await,
            Transfer::Worker(command) => command.run(&warehouse).await,
            Transfer::Quarantine(command) => command.run(&warehouse).await,
            Transfer::Replay(command) => command.run(&warehouse).await,
        }
    }
}

/// Run a transfer now
///
/// A transfer with mode = "changes" runs until it is stopped, as it does as a service of `wattlake serve`.
#[derive(Debug, Args)]
pub struct Run {
    name: String,
    /// Use this mode in place of the one in the transfer's file
    #[arg(long)]
    mode: Option<ModeName>,
    /// Only this table of the source, as SCHEMA.TABLE; may be repeated
    #[arg(long = "table", value_name = "TABLE")]
    tables: Vec<String>,
    /// Read tables whole and replace them in the target, also rows that the source no longer has
    #[arg(long)]
    replace: bool,
    /// With mode = "changes": end when the lake has all that is committed at the source now
    #[arg(long)]
    until_caught_up: bool,
    /// Print one JSON object for each table
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ModeName {
    /// All rows; the target is replaced in one commit
    Initial,
    /// New and changed rows only; rows deleted at the source stay
    Incremental,
}

impl Run {
    async fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        let mode = match self.mode {
            None => None,
            Some(ModeName::Initial) => Some(Mode::Initial),
            Some(ModeName::Incremental) => Some(Mode::Incremental),
        };
        let permission = self.replace.then_some(Permission::Replace);
        let until = if self.until_caught_up { StreamEnd::CaughtUp } else { StreamEnd::Never };
        let options = RunOptions { mode, permission, tables: self.tables, clears_changed: false, until };
        run_transfer(warehouse, &RunRequest::by_hand(), &self.name, options, self.json).await
    }
}

/// Read tables again whole and keep the rows that the source no longer has
///
/// Rows of the source replace the target's by key. For tables that a run refuses to continue: created again at the
/// source, restored from a backup, with another key or another cursor.
#[derive(Debug, Args)]
pub struct Resync {
    name: String,
    /// A table of the source, as SCHEMA.TABLE; may be repeated
    #[arg(long = "table", value_name = "TABLE", required_unless_present = "all", conflicts_with = "all")]
    tables: Vec<String>,
    /// All tables of the transfer
    #[arg(long)]
    all: bool,
    /// Where the mapping of a column has changed, make it NULL in rows that the source no longer has
    ///
    /// A new mask can't be applied to such rows, since the source computes masks. The next vacuum removes the files
    /// with the unmasked values.
    #[arg(long)]
    clear_changed: bool,
    /// Print one JSON object for each table
    #[arg(long)]
    json: bool,
}

impl Resync {
    async fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        // No table means all of them.
        let permission = Some(Permission::Resync);
        let (tables, clears_changed) = (self.tables, self.clear_changed);
        let transfer = warehouse.transfer(&self.name)?;
        if transfer.mode == config::Mode::Changes
            && warehouse.ledger.job_is_running(&format!("transfer:{}", self.name))?
        {
            let tables = request_reread(warehouse, &self.name, tables).await?;
            println!("the running stream reads {} again", text::quantity(tables.len() as u64, "table"));
            return Ok(ExitCode::SUCCESS);
        }
        let until = if transfer.mode == config::Mode::Changes { StreamEnd::CaughtUp } else { StreamEnd::Never };
        let options = RunOptions { mode: None, permission, tables, clears_changed, until };
        run_transfer(warehouse, &RunRequest::by_hand(), &self.name, options, self.json).await
    }
}

/// Let a transfer continue with the tables of another transfer
///
/// Also where the source is another server than before, after an upgrade or a restore: the position is taken over
/// without a check.
#[derive(Debug, Args)]
pub struct HandOver {
    /// The transfer that continues
    name: String,
    /// A table of the source, as SCHEMA.TABLE; may be repeated
    #[arg(long = "table", value_name = "TABLE", required_unless_present = "all", conflicts_with = "all")]
    tables: Vec<String>,
    /// All tables of the transfer
    #[arg(long)]
    all: bool,
}

impl HandOver {
    async fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        let tables = hand_over(warehouse, &self.name, self.tables).await?;
        for table in tables {
            println!("{}: {} continues with {}, from {}", table.source, self.name, table.target, table.position);
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Options of a run that are not in the transfer's file.
pub struct RunOptions {
    /// In place of the mode in the file.
    pub mode: Option<Mode>,
    /// To read tables again whole.
    pub permission: Option<Permission>,
    /// Source tables as `schema.table`; all where it is empty.
    pub tables: Vec<String>,
    /// Make columns whose mapping changed NULL in rows that the source no longer has.
    pub clears_changed: bool,
    /// How long a stream of changes runs.
    pub until: StreamEnd,
}

impl Default for RunOptions {
    fn default() -> Self {
        let until = StreamEnd::Never;
        RunOptions { mode: None, permission: None, tables: Vec::new(), clears_changed: false, until }
    }
}

/// Runs a transfer and prints its result; the exit code is that of the first table that failed.
pub async fn run_transfer(
    warehouse: &Warehouse,
    request: &RunRequest,
    name: &str,
    options: RunOptions,
    json: bool,
) -> Result<ExitCode> {
    if warehouse.transfer(name)?.mode == config::Mode::Changes {
        return super::stream::run_stream(warehouse, request, name, options, json).await;
    }
    let bars = Arc::new(ProgressBars::new());
    let RunOptions { mode, permission, tables, clears_changed, until } = options;
    if until == StreamEnd::CaughtUp {
        let error = base::Error::input(format!("transfer {name}: --until-caught-up is for mode = \"changes\""));
        return Err(error.hint("remove the option: the run ends by itself").into());
    }
    let options = TransferOptions { name, mode, permission, clears_changed, tables, progress: bars.clone() };
    let outcome = run(warehouse, request, options).await;
    bars.clear();
    let report = outcome?;
    if json {
        report.tables.iter().for_each(|table| println!("{}", json_of(table)));
    } else {
        print!("{}", report_text(&report));
    }
    Ok(exit(&report))
}

fn json_of(table: &TableReport) -> serde_json::Value {
    json!({
        "source": table.source, "target": table.target, "mode": TableMode::as_str(table.mode),
        "rows": table.rows, "replaced": table.replaced, "bytes_read": table.bytes_read,
        "bytes_written": table.bytes_written, "seconds": table.seconds, "version": table.version,
        "position": table.position.as_ref().and_then(|p| p.high.as_ref()).map(ToString::to_string),
        "state": table.error.as_ref().and_then(|e| e.state),
        "error": table.error.as_ref().map(|e| base::chain(e)),
        "hint": table.error.as_ref().and_then(|e| e.hint.clone()),
    })
}

/// A line for each table, its error and hint, and a line for all tables.
pub fn report_text(report: &TransferReport) -> String {
    let rows: Vec<Vec<String>> = report
        .tables
        .iter()
        .map(|table| {
            let state = match (&table.error, table.version, table.rows) {
                (Some(_), ..) => "failed".to_owned(),
                (None, _, 0) if table.mode == TableMode::Incremental => "nothing new".to_owned(),
                _ => TableMode::as_str(table.mode).to_owned(),
            };
            vec![
                table.source.clone(),
                state,
                text::count(table.rows),
                if table.replaced > 0 { text::count(table.replaced) } else { String::new() },
                text::bytes(table.bytes_read),
                text::bytes(table.bytes_written),
                text::seconds(table.seconds),
            ]
        })
        .collect();
    let mut text = text::table(&["table", "how", ">rows", ">of them changed", ">read", ">written", ">took"], &rows);
    for table in &report.tables {
        if let Some(error) = &table.error {
            text.push_str(&format!("\n{}: {}\n", table.source, base::chain(error)));
            if let Some(hint) = &error.hint {
                text.push_str(&format!("  hint: {hint}\n"));
            }
        }
    }
    let total: u64 = report.tables.iter().map(|t| t.rows).sum();
    let per_second = (total as f64 / report.seconds.max(0.001)) as u64;
    text.push_str(&format!(
        "\n{} of {} in {} ({} rows/s)\n",
        text::quantity(total, "row"),
        text::quantity(report.tables.len() as u64, "table"),
        text::seconds(report.seconds),
        text::count(per_second)
    ));
    text
}

fn exit(report: &TransferReport) -> ExitCode {
    match report.tables.iter().find_map(|table| table.error.as_ref()) {
        None => ExitCode::SUCCESS,
        Some(error) => ExitCode::from(report::exit_code_of_kind(error.kind)),
    }
}

/// List the transfers of the warehouse
#[derive(Debug, Args)]
pub struct List {
    /// Print one JSON object for each transfer
    #[arg(long)]
    json: bool,
}

impl List {
    fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        let mut rows = Vec::new();
        for (name, config) in &warehouse.config.transfers {
            let target = config.target_name();
            let last = warehouse.ledger.runs(1, Some(&format!("transfer:{name}")))?.into_iter().next();
            let (mode, via) = (format!("{:?}", config.mode).to_lowercase(), format!("{:?}", config.via).to_lowercase());
            if self.json {
                println!(
                    "{}",
                    json!({"name": name, "source": config.source, "target": target, "mode": mode, "via": via, "file": config.file, "last_run": last})
                );
            }
            let last = last.map_or_else(
                || "never".to_owned(),
                |run| format!("{} {}", run.state, run.started_at.format("%Y-%m-%d %H:%M")),
            );
            rows.push(vec![name.clone(), config.source.clone(), target, mode, via, last]);
        }
        if !self.json {
            print!("{}", text::table(&["transfer", "source", "target", "mode", "via", "last run (UTC)"], &rows));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Show the state of each table of a transfer
#[derive(Debug, Args)]
pub struct Status {
    name: String,
    /// Print one JSON object for each table
    #[arg(long)]
    json: bool,
}

impl Status {
    fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        warehouse.transfer(&self.name)?;
        let tables = warehouse.ledger.transfer_tables(Some(&self.name))?;
        if self.json {
            for table in tables {
                println!("{}", serde_json::to_string(&table)?);
            }
            return Ok(ExitCode::SUCCESS);
        }
        let rows: Vec<Vec<String>> = tables
            .iter()
            .map(|table| {
                vec![
                    table.source_table.clone(),
                    table.state.clone(),
                    table.mode.clone(),
                    text::count(table.rows),
                    table.updated_at.format("%Y-%m-%d %H:%M:%S").to_string(),
                    table.reason.clone().unwrap_or_default(),
                ]
            })
            .collect();
        print!("{}", text::table(&["table", "state", "how", ">rows", "at (UTC)", "reason"], &rows));
        Ok(ExitCode::SUCCESS)
    }
}

/// Compare the lake with the source, row by row, under one snapshot
///
/// Distinguishes rows purged at the source, which the lake keeps, from lost rows, and names the first of each.
/// Exits with 1 where a row is lost or differs.
#[derive(Debug, Args)]
pub struct Validate {
    name: String,
    /// Only this table of the source, as SCHEMA.TABLE; may be repeated
    #[arg(long = "table", value_name = "TABLE")]
    tables: Vec<String>,
    /// Print one JSON object for each table
    #[arg(long)]
    json: bool,
}

impl Validate {
    async fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        let config = warehouse.transfer(&self.name)?;
        let refused = match config.target {
            _ if config.is_consumer() => Some("it reads a stream, and has no source to compare with"),
            config::Target::Lake => None,
            _ => Some("its target is not the lake"),
        };
        if let Some(why) = refused {
            let error = base::Error::input(format!("validate {}: {why}", self.name));
            bail!(error.hint("compare the tables of both sides by queries"));
        }
        let bars = Arc::new(ProgressBars::new());
        let progress: Arc<dyn transfer::read::Progress> = bars.clone();
        let (source, lake) = (source(warehouse, config)?, warehouse.lake().await?);
        let outcome =
            transfer::validate::validate(&settings(warehouse, config), &source, &lake, &self.tables, &progress).await;
        bars.clear();
        let tables = outcome?;
        let ledger = &warehouse.ledger;
        for table in &tables {
            ledger.record_validation(&self.name, &table.source, &validation_row(table))?;
        }
        if self.json {
            tables.iter().for_each(|table| println!("{}", validation_json(table)));
        } else {
            print!("{}", validation_text(&tables));
        }
        let is_ok = tables.iter().all(TableValidation::is_ok);
        Ok(if is_ok { ExitCode::SUCCESS } else { ExitCode::from(report::code::FAILED) })
    }
}

/// The comparison as `system.transfers` shows it.
fn validation_row(table: &TableValidation) -> ValidationRow {
    ValidationRow {
        state: table.state().to_owned(),
        position: table.position.map(|position| position.to_string()),
        figures: json!({
            "source_rows": table.source_rows, "lake_rows": table.lake_rows, "lost": table.lost,
            "differs": table.differs, "doubled": table.doubled, "purged": table.purged, "pending": table.pending,
        }),
        at: chrono::Utc::now(),
    }
}

fn validation_json(table: &TableValidation) -> serde_json::Value {
    let samples: Vec<_> = table.samples.iter().map(|(d, key)| json!({"difference": d.as_str(), "key": key})).collect();
    json!({
        "source": table.source, "target": table.target, "ok": table.is_ok(), "state": table.state(),
        "position": table.position.map(|position| position.to_string()),
        "source_rows": table.source_rows, "lake_rows": table.lake_rows,
        "ranges": table.ranges, "ranges_differing": table.ranges_differing,
        "lost": table.lost, "differs": table.differs, "doubled": table.doubled, "purged": table.purged, "pending": table.pending,
        "samples": samples, "seconds": table.seconds, "error": table.error.as_ref().map(|e| base::chain(e)),
        "hint": table.error.as_ref().and_then(|e| e.hint.clone()),
    })
}

/// A line for each table, then the keys of the first rows of each difference.
pub fn validation_text(tables: &[TableValidation]) -> String {
    let rows: Vec<Vec<String>> = tables
        .iter()
        .map(|table| {
            let verdict = match table.state() {
                "validated" => "ok",
                "differs" => "DIFFERS",
                failed => failed,
            };
            let number = |n: u64| if n == 0 { String::new() } else { text::count(n) };
            vec![
                table.source.clone(),
                verdict.to_owned(),
                text::count(table.source_rows),
                text::count(table.lake_rows),
                number(table.lost),
                number(table.differs),
                number(table.doubled),
                number(table.purged),
                number(table.pending),
                text::seconds(table.seconds),
            ]
        })
        .collect();
    let header = [
        "table",
        "verdict",
        ">source rows",
        ">lake rows",
        ">lost",
        ">differ",
        ">doubled",
        ">purged at source",
        ">pending",
        ">took",
    ];
    let mut text = text::table(&header, &rows);
    if let Some(position) = tables.iter().find_map(|table| table.position) {
        text.push_str(&format!("The stream runs: both sides were compared at {position} of the source's log.\n"));
    }
    for table in tables {
        if let Some(error) = &table.error {
            text.push_str(&format!("\n{}: {}\n", table.source, base::chain(error)));
            if let Some(hint) = &error.hint {
                text.push_str(&format!("  hint: {hint}\n"));
            }
        }
        for (difference, key) in &table.samples {
            text.push_str(&format!("  {} {}: {key}\n", table.source, difference.as_str()));
        }
    }
    text
}
