use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::{ArrayRef, RecordBatch};
use base::text;
use clap::{Args, Subcommand};
use config::Warehouse as Configuration;
use ingest::layout::{Format, Layout as FileLayout};
use ingest::read::{self, FaultKind, ReadReport, Rows, Verdict};
use jobs::warehouse::{Warehouse, unknown};
use serde_json::{Value, json};
use sql::output::{self, Format as OutputFormat};

use crate::program::open_warehouse;
use crate::report;

/// How many faults of a file are printed.
const FAULTS_SHOWN: usize = 20;

/// Layouts of files, by layouts/NAME.toml
#[derive(Debug, Subcommand)]
pub enum Layout {
    List(List),
    Try(Try),
}

impl Layout {
    /// Opens the warehouse and runs the subcommand.
    pub fn run(self, root: &Path) -> Result<ExitCode> {
        let warehouse = open_warehouse(root)?;
        match self {
            Layout::List(command) => command.run(&warehouse),
            Layout::Try(command) => command.run(&warehouse),
        }
    }
}

/// List the layouts, and the jobs that use them
#[derive(Debug, Args)]
pub struct List {
    /// Print one JSON object for each layout
    #[arg(long)]
    json: bool,
}

impl List {
    fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        let mut rows = Vec::new();
        for (name, used) in layouts(&warehouse.config) {
            let (format, columns, jobs) = (format_name(&used.layout.format), used.layout.columns.len(), used.jobs);
            if self.json {
                println!("{}", json!({"layout": name, "format": format, "columns": columns, "jobs": jobs}));
            } else {
                rows.push(vec![name, format.to_owned(), columns.to_string(), jobs.join(", ")]);
            }
        }
        if !self.json {
            print!("{}", text::table(&["layout", "format", ">columns", "used by"], &rows));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Read a file by a layout, and print what each row would become; nothing is stored
///
/// Without --layout it is read by each layout, and the one is used that accepts it, or that finds the fewest faults.
#[derive(Debug, Args)]
pub struct Try {
    /// The file
    file: PathBuf,
    /// The layout, as `layout list` has it
    #[arg(long)]
    layout: Option<String>,
    /// The most rows to print
    #[arg(long, default_value_t = 10, value_name = "N")]
    rows: usize,
    /// Print the verdict, then one JSON object for each row
    #[arg(long)]
    json: bool,
}

impl Try {
    fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        let all = layouts(&warehouse.config);
        let tried: Vec<(&String, &UsedLayout)> = match &self.layout {
            Some(name) => match all.get_key_value(name) {
                Some(one) => vec![one],
                None => return Err(unknown("layout", name, "the warehouse", all.keys())),
            },
            None => all.iter().collect(),
        };
        let mut best: Option<(&String, &UsedLayout, ReadReport, Vec<Rows>)> = None;
        for (name, used) in tried {
            let (report, rows) = self.read(&used.layout)?;
            let is_better = best.as_ref().is_none_or(|(.., before, _)| rank(&report) < rank(before));
            if is_better {
                best = Some((name, used, report, rows));
            }
        }
        let Some((name, used, report, rows)) = best else {
            let error = base::Error::input("there is no layout to try");
            return Err(error.hint("write layouts/NAME.toml, and name it in a job").into());
        };
        self.print(name, &used.layout, &report, &rows)?;
        let is_accepted = report.verdict == Verdict::Accept;
        Ok(if is_accepted { ExitCode::SUCCESS } else { ExitCode::from(report::code::FIX_INPUT) })
    }

    /// Reads the whole file; returns its first rows too.
    fn read(&self, layout: &FileLayout) -> Result<(ReadReport, Vec<Rows>)> {
        let context = || format!("read {}", self.file.display());
        let file = File::open(&self.file).with_context(context)?;
        let mut rows: Vec<Rows> = Vec::new();
        let mut count = 0;
        let report = read::read(file, layout, &mut |batch| {
            if count < self.rows {
                count += batch.batch.num_rows();
                rows.push(batch);
            }
            Ok(())
        });
        Ok((report.with_context(context)?, rows))
    }

    fn print(&self, name: &str, layout: &FileLayout, report: &ReadReport, rows: &[Rows]) -> Result<()> {
        let reason = match &report.verdict {
            Verdict::Accept => None,
            Verdict::Quarantine { reason } => Some(reason),
        };
        let verdict = if reason.is_some() { "quarantined" } else { "accepted" };
        let subjects: Vec<Value> = report.subjects.iter().map(|subject| json!(subject)).collect();
        let faults: Vec<String> = report.faults.iter().take(FAULTS_SHOWN).map(ToString::to_string).collect();
        if self.json {
            let object = json!({
                "layout": name, "verdict": verdict, "reason": reason, "rows": report.rows, "subjects": subjects,
                "faults": faults,
            });
            println!("{object}");
        } else {
            println!("{verdict:<11} {} by {name}: {}", self.file.display(), text::quantity(report.rows, "row"));
            reason.into_iter().chain(&faults).for_each(|line| println!("            {line}"));
        }
        let mut left = self.rows;
        let mut out = std::io::stdout();
        let batches = rows.iter().map(|rows| {
            let shown = left.min(rows.batch.num_rows());
            left -= shown;
            with_lines(layout, rows).map(|batch| batch.slice(0, shown))
        });
        let batches: Vec<RecordBatch> = batches.collect::<Result<_>>()?;
        let Some(schema) = batches.first().map(RecordBatch::schema) else { return Ok(()) };
        let whole = arrow::compute::concat_batches(&schema, &batches).context("put rows together")?;
        if !self.json {
            output::write_batch(&whole, OutputFormat::Table, &mut out)?;
            return Ok(());
        }
        let mut array = Vec::new();
        output::write_batch(&whole, OutputFormat::Json, &mut array)?;
        for row in serde_json::from_slice::<Vec<Value>>(&array).context("write rows as JSON")? {
            println!("{row}");
        }
        Ok(())
    }
}

/// A layout, and the jobs that use it.
struct UsedLayout {
    layout: FileLayout,
    jobs: Vec<String>,
}

/// All layouts of the jobs, by their paths in the warehouse.
fn layouts(config: &Configuration) -> BTreeMap<String, UsedLayout> {
    let ingests = config.ingests.values().map(|one| (&one.layout_file, &one.layout, format!("ingest:{}", one.name)));
    let collects = config.collects.values().map(|one| (&one.layout_file, &one.layout, format!("collect:{}", one.name)));
    let predictions =
        config.predictions.values().map(|one| (&one.layout_file, &one.layout, format!("prediction:{}", one.name)));
    let mut all: BTreeMap<String, UsedLayout> = BTreeMap::new();
    for (file, layout, job) in ingests.chain(collects).chain(predictions) {
        let name = file.strip_prefix(&config.root).unwrap_or(file).display().to_string();
        all.entry(name).or_insert_with(|| UsedLayout { layout: layout.clone(), jobs: Vec::new() }).jobs.push(job);
    }
    all
}

/// Less is better: whether the file is quarantined, whether it could not be read to its end, and its faults.
fn rank(report: &ReadReport) -> (bool, bool, u64) {
    let is_stopped = report.counts.keys().any(|kind| matches!(kind, FaultKind::Header | FaultKind::Unreadable));
    (report.verdict != Verdict::Accept, is_stopped, report.counts.values().sum())
}

/// The rows with the line or row of the file before them.
fn with_lines(layout: &FileLayout, rows: &Rows) -> Result<RecordBatch> {
    let lines: ArrayRef = Arc::new(rows.lines.clone());
    let named = layout.columns.iter().zip(rows.batch.columns());
    let named = named.map(|(column, values)| (column.name.clone(), Arc::clone(values), true));
    let columns = std::iter::once(("line".to_owned(), lines, true)).chain(named);
    RecordBatch::try_from_iter_with_nullable(columns).context("number the rows")
}

fn format_name(format: &Format) -> &'static str {
    match format {
        Format::Csv(_) => "csv",
        Format::Xlsx(_) => "xlsx",
        Format::Json => "json",
        Format::Ndjson => "ndjson",
        Format::Parquet => "parquet",
        Format::Document(document) => match document.syntax {
            ingest::layout::Syntax::Json => "json",
            ingest::layout::Syntax::Xml => "xml",
        },
    }
}
