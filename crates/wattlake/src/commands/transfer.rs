use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use transfer::plan::Mode;
use transfer::resume::Permission;
use transfer::run::{How, Report, TableReport};
use transfer::validate::TableValidation;

use crate::config::Target;
use crate::flows::transfer::{Carry, hand_over, run, settings, source};
use crate::jobs::Asked;
use crate::progress::Bars;
use crate::report;
use crate::text;
use crate::warehouse::Warehouse;

/// The platform's PostgreSQL into the lake
#[derive(Debug, Subcommand)]
pub enum Transfer {
    Run(Run),
    List(List),
    Status(Status),
    Validate(Validate),
    Resync(Resync),
    HandOver(HandOver),
}

impl Transfer {
    pub async fn run(self, root: &Path) -> Result<ExitCode> {
        let warehouse = Warehouse::open(root)?;
        match self {
            Transfer::Run(command) => command.run(&warehouse).await,
            Transfer::List(command) => command.run(&warehouse),
            Transfer::Status(command) => command.run(&warehouse),
            Transfer::Validate(command) => command.run(&warehouse).await,
            Transfer::Resync(command) => command.run(&warehouse).await,
            Transfer::HandOver(command) => command.run(&warehouse).await,
        }
    }
}

/// Run a transfer now
#[derive(Debug, Args)]
pub struct Run {
    name: String,
    /// Instead of the mode in the transfer's file
    #[arg(long)]
    mode: Option<ModeName>,
    /// Only this table of the source, as SCHEMA.TABLE; may be given again
    #[arg(long = "table", value_name = "TABLE")]
    tables: Vec<String>,
    /// Read tables whole and drop what the target has of them, also the rows that the source no longer has
    #[arg(long)]
    replace: bool,
    /// One JSON object a table
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ModeName {
    /// The tables as they are; the target is replaced in one commit
    Initial,
    /// Only what is new; what was deleted at the source stays
    Incremental,
    /// From the write-ahead log
    Changes,
}

impl Run {
    async fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        let mode = match self.mode {
            None => None,
            Some(ModeName::Initial) => Some(Mode::Initial),
            Some(ModeName::Incremental) => Some(Mode::Incremental),
            Some(ModeName::Changes) => bail!("mode changes is not built yet; use initial or incremental"),
        };
        let permission = self.replace.then_some(Permission::Replace);
        let options = RunOptions { mode, permission, tables: self.tables, clears_changed: false };
        carry(warehouse, &Asked::by_hand(), &self.name, options, self.json).await
    }
}

/// Read tables again and keep what the source no longer has
///
/// Rows of the source take the place of the target's by key, rows gone from the source stay. For tables that a run
/// refuses to go on with: made anew, restarted, with another key or another cursor.
#[derive(Debug, Args)]
pub struct Resync {
    name: String,
    /// A table of the source, as SCHEMA.TABLE; may be given again
    #[arg(long = "table", value_name = "TABLE", required_unless_present = "all", conflicts_with = "all")]
    tables: Vec<String>,
    /// All tables that the transfer carries
    #[arg(long)]
    all: bool,
    /// Where the mapping of a column has changed, make it NULL in rows that the source no longer has
    ///
    /// A mask that came later can't be applied to them: the source, which computes it, has them no more. Files with the
    /// clear values go with the next removal of unused files.
    #[arg(long)]
    clear_changed: bool,
    /// One JSON object a table
    #[arg(long)]
    json: bool,
}

impl Resync {
    async fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        // Without a table, all are.
        let permission = Some(Permission::Resync);
        let options = RunOptions { mode: None, permission, tables: self.tables, clears_changed: self.clear_changed };
        carry(warehouse, &Asked::by_hand(), &self.name, options, self.json).await
    }
}

/// Let a transfer go on with tables that another one carried
///
/// Also where the source has become another server, after an upgrade or a restore: the position stays, and is trusted.
#[derive(Debug, Args)]
pub struct HandOver {
    /// The transfer that goes on
    name: String,
    /// A table of the source, as SCHEMA.TABLE; may be given again
    #[arg(long = "table", value_name = "TABLE", required_unless_present = "all", conflicts_with = "all")]
    tables: Vec<String>,
    /// All tables that the transfer carries
    #[arg(long)]
    all: bool,
}

impl HandOver {
    async fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        let taken = hand_over(warehouse, &self.name, self.tables).await?;
        for table in taken {
            println!("{}: {} goes on with {}, from {} on", table.source, self.name, table.target, table.position);
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What is asked of a transfer beyond its file.
#[derive(Default)]
pub struct RunOptions {
    pub mode: Option<Mode>,
    pub permission: Option<Permission>,
    pub tables: Vec<String>,
    pub clears_changed: bool,
}

/// Runs it and shows what it came to.
pub async fn carry(
    warehouse: &Warehouse,
    asked: &Asked,
    name: &str,
    options: RunOptions,
    json: bool,
) -> Result<ExitCode> {
    let bars = Arc::new(Bars::new());
    let RunOptions { mode, permission, tables, clears_changed } = options;
    let carry = Carry { name, mode, permission, clears_changed, tables, progress: bars.clone() };
    let outcome = run(warehouse, asked, carry).await;
    bars.clear();
    let report = outcome?;
    if json {
        report.tables.iter().for_each(|table| println!("{}", json_of(table)));
    } else {
        print!("{}", told(&report));
    }
    Ok(exit(&report))
}

fn json_of(table: &TableReport) -> serde_json::Value {
    json!({
        "source": table.source, "target": table.target, "mode": How::as_str(table.how),
        "rows": table.rows, "replaced": table.replaced, "bytes_read": table.bytes_read,
        "bytes_written": table.bytes_written, "seconds": table.seconds, "version": table.version,
        "position": table.position.as_ref().and_then(|p| p.high.as_ref()).map(ToString::to_string),
        "state": table.error.as_ref().and_then(|e| e.state),
        "error": table.error.as_ref().map(|e| report::chain(e)),
        "hint": table.error.as_ref().and_then(|e| e.hint.clone()),
    })
}

/// A line a table and a line for all.
pub fn told(report: &Report) -> String {
    let rows: Vec<Vec<String>> = report
        .tables
        .iter()
        .map(|table| {
            let state = match (&table.error, table.version, table.rows) {
                (Some(_), ..) => "failed".to_owned(),
                (None, _, 0) if table.how == How::Incremental => "nothing new".to_owned(),
                _ => How::as_str(table.how).to_owned(),
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
    let mut told = text::table(&["table", "how", ">rows", ">of them changed", ">read", ">written", ">took"], &rows);
    for table in &report.tables {
        if let Some(error) = &table.error {
            told.push_str(&format!("\n{}: {}\n", table.source, report::chain(error)));
            if let Some(hint) = &error.hint {
                told.push_str(&format!("  hint: {hint}\n"));
            }
        }
    }
    let total: u64 = report.tables.iter().map(|t| t.rows).sum();
    let per_second = (total as f64 / report.seconds.max(0.001)) as u64;
    told.push_str(&format!(
        "\n{} rows of {} tables in {} ({} rows/s)\n",
        text::count(total),
        report.tables.len(),
        text::seconds(report.seconds),
        text::count(per_second)
    ));
    told
}

fn exit(report: &Report) -> ExitCode {
    match report.tables.iter().find_map(|table| table.error.as_ref()) {
        None => ExitCode::SUCCESS,
        Some(error) => match error.kind {
            transfer::Kind::FixInput => ExitCode::from(report::code::FIX_INPUT),
            transfer::Kind::FixSetup => ExitCode::from(report::code::FIX_SETUP),
            transfer::Kind::Retry => ExitCode::from(report::code::RETRY),
            transfer::Kind::Bug => ExitCode::from(report::code::FAILED),
        },
    }
}

/// List the transfers of the warehouse
#[derive(Debug, Args)]
pub struct List {
    /// One JSON object a transfer
    #[arg(long)]
    json: bool,
}

impl List {
    fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        let mut rows = Vec::new();
        for (name, config) in &warehouse.config.transfers {
            let target = match &config.target {
                Target::Lake => "lake".to_owned(),
                Target::Postgres(connection) => connection.clone(),
            };
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

/// Show how each table of a transfer stands
#[derive(Debug, Args)]
pub struct Status {
    name: String,
    /// One JSON object a table
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

/// Prove the lake against the source, row by row, under one snapshot
///
/// Tells rows purged at the source, which the lake keeps, from rows lost, and names the first of
/// each. Exits with 1 where a row is lost or differs.
#[derive(Debug, Args)]
pub struct Validate {
    name: String,
    /// Only this table of the source, as SCHEMA.TABLE; may be given again
    #[arg(long = "table", value_name = "TABLE")]
    tables: Vec<String>,
    /// One JSON object a table
    #[arg(long)]
    json: bool,
}

impl Validate {
    async fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        let config = warehouse.transfer(&self.name)?;
        if config.target != Target::Lake {
            bail!("validate compares the source with the lake, and transfer {} goes to a PostgreSQL", self.name);
        }
        let bars = Arc::new(Bars::new());
        let progress: Arc<dyn transfer::read::Progress> = bars.clone();
        let (source, lake) = (source(warehouse, config)?, warehouse.lake().await?);
        let outcome =
            transfer::validate::validate(&settings(warehouse, config), &source, &lake, &self.tables, &progress).await;
        bars.clear();
        let tables = outcome?;
        if self.json {
            tables.iter().for_each(|table| println!("{}", validation_json(table)));
        } else {
            print!("{}", validation_told(&tables));
        }
        let is_ok = tables.iter().all(TableValidation::is_ok);
        Ok(if is_ok { ExitCode::SUCCESS } else { ExitCode::from(report::code::FAILED) })
    }
}

fn validation_json(table: &TableValidation) -> serde_json::Value {
    let samples: Vec<_> = table.samples.iter().map(|(d, key)| json!({"difference": d.as_str(), "key": key})).collect();
    json!({
        "source": table.source, "target": table.target, "ok": table.is_ok(),
        "source_rows": table.source_rows, "lake_rows": table.lake_rows,
        "ranges": table.ranges, "ranges_differing": table.ranges_differing,
        "lost": table.lost, "differs": table.differs, "doubled": table.doubled, "purged": table.purged, "pending": table.pending,
        "samples": samples, "seconds": table.seconds, "error": table.error.as_ref().map(|e| report::chain(e)),
        "hint": table.error.as_ref().and_then(|e| e.hint.clone()),
    })
}

/// A line a table, then the first rows of each difference.
pub fn validation_told(tables: &[TableValidation]) -> String {
    let rows: Vec<Vec<String>> = tables
        .iter()
        .map(|table| {
            let verdict = match &table.error {
                Some(_) => "failed",
                None if table.is_ok() => "ok",
                None => "DIFFERS",
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
    let mut told = text::table(&header, &rows);
    for table in tables {
        if let Some(error) = &table.error {
            told.push_str(&format!("\n{}: {}\n", table.source, report::chain(error)));
            if let Some(hint) = &error.hint {
                told.push_str(&format!("  hint: {hint}\n"));
            }
        }
        for (difference, key) in &table.samples {
            told.push_str(&format!("  {} {}: {key}\n", table.source, difference.as_str()));
        }
    }
    told
}
