use std::collections::BTreeMap;
use std::fs::File;
use std::io::Seek;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::{ArrayRef, RecordBatch};
use base::text;
use clap::{Args, Subcommand};
use config::Warehouse as Configuration;
use ingest::archive::{Delivered, open};
use ingest::layout::{Format, Layout as FileLayout, library};
use ingest::read::{self, FaultKind, ReadReport, Rows, Verdict};
use jobs::warehouse::{Warehouse, unknown};
use serde_json::{Value, json};
use sql::output::{self, Format as OutputFormat};

use crate::program::open_warehouse;
use crate::report;

/// How many faults of a file are printed.
const FAULTS_SHOWN: usize = 20;
/// How many files of an archive are tried.
const FILES_TRIED_MAX: usize = 100;

/// Layouts of files, by layouts/NAME.toml, and ready-made ones
#[derive(Debug, Subcommand)]
pub enum Layout {
    List(List),
    Show(Show),
    Try(Try),
    Guess(Guess),
}

impl Layout {
    /// Opens the warehouse and runs the subcommand.
    pub fn run(self, root: &Path) -> Result<ExitCode> {
        match self {
            Layout::List(command) => command.run(&open_warehouse(root)?),
            Layout::Show(command) => command.run(),
            Layout::Try(command) => command.run(&open_warehouse(root)?),
            Layout::Guess(command) => command.run(),
        }
    }
}

/// List the layouts, and the jobs that use them; then the ready-made ones
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
            let (format, columns) = (format_name(&used.layout.format), used.layout.columns.len());
            if self.json {
                let (jobs, is_ready_made) = (used.jobs, used.about.is_some());
                let about = used.about;
                let object = json!({
                    "layout": name, "format": format, "columns": columns, "jobs": jobs, "ready_made": is_ready_made,
                    "about": about,
                });
                println!("{object}");
            } else {
                let use_of = used.about.map_or_else(|| used.jobs.join(", "), str::to_owned);
                rows.push(vec![name, format.to_owned(), columns.to_string(), use_of]);
            }
        }
        if !self.json {
            print!("{}", text::table(&["layout", "format", ">columns", "used by, or what it is for"], &rows));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Print a ready-made layout, so that it can be saved as layouts/NAME.toml
#[derive(Debug, Args)]
pub struct Show {
    /// Its name, as `layout list` has it
    name: String,
}

impl Show {
    fn run(self) -> Result<ExitCode> {
        let names: Vec<String> = library::all().iter().map(|one| one.name.to_owned()).collect();
        let found = library::all().iter().find(|one| one.name == self.name);
        let one = found.ok_or_else(|| unknown("layout", &self.name, "the list of ready-made layouts", &names))?;
        print!("{}", one.text);
        Ok(ExitCode::SUCCESS)
    }
}

/// Propose a layout for a file, with what you should check
///
/// The layout is printed, and can be saved as layouts/NAME.toml. Lines with "# ?" are not proven by the file.
#[derive(Debug, Args)]
pub struct Guess {
    /// The file; of an archive, its first file is used
    file: PathBuf,
    /// Print one JSON object with the layout, the doubts and what the layout makes of the file
    #[arg(long)]
    json: bool,
}

impl Guess {
    fn run(self) -> Result<ExitCode> {
        // Of a file that may be a workbook, which is a zip, only the content tells.
        let files = delivered(&self.file, None)?;
        let (name, file) = files.into_iter().next().context("the archive has no files")?;
        let proposal = ingest::guess::propose(again(&file)?, &name)?;
        let parsed = FileLayout::parse(&proposal.layout);
        let layout =
            parsed.map_err(|_| base::Error::input(format!("guess a layout for {name}: it is no text of rows")))?;
        let report = read::read(file, &name, &layout, &mut |_| Ok(()))?;
        let verdict = if report.verdict == Verdict::Accept { "accepted" } else { "quarantined" };
        let faults: Vec<String> = report.faults.iter().take(FAULTS_SHOWN).map(ToString::to_string).collect();
        if self.json {
            let object = json!({
                "file": name, "layout": proposal.layout, "doubts": proposal.doubts, "verdict": verdict,
                "rows": report.rows, "faults": faults,
            });
            println!("{object}");
            return Ok(ExitCode::SUCCESS);
        }
        print!("{}", proposal.layout);
        eprintln!("\n{name} by this layout: {verdict}, {}", text::quantity(report.rows, "row"));
        faults.iter().take(5).for_each(|fault| eprintln!("  {fault}"));
        if !proposal.doubts.is_empty() {
            eprintln!("To be checked:");
            proposal.doubts.iter().for_each(|doubt| eprintln!("  - {doubt}"));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The files that a file is or has, each with its name. With a layout, a workbook that it expects is not unpacked.
fn delivered(path: &Path, layout: Option<&FileLayout>) -> Result<Vec<(String, File)>> {
    let context = || format!("read {}", path.display());
    let name = path.to_string_lossy().into_owned();
    let file = File::open(path).with_context(context)?;
    let workbook = FileLayout::parse("format = \"xlsx\"\n[columns.any]\ntype = \"text\"\n").ok();
    let Some(format) = layout.or(workbook.as_ref()).map(|layout| &layout.format) else { return Ok(Vec::new()) };
    Ok(match open(file, &name, format).with_context(context)? {
        Delivered::Plain(file) => vec![(name, file)],
        Delivered::Archive(mut archive) => {
            let mut files = Vec::new();
            while let Some(one) = archive.next(&std::env::temp_dir())? {
                files.push((format!("{name}/{}", one.name), one.content));
                if files.len() == FILES_TRIED_MAX {
                    break;
                }
            }
            files
        }
        Delivered::Damaged(why) => return Err(base::Error::input(format!("{name}: {why}")).into()),
    })
}

/// The same file again, from its beginning.
fn again(mut file: &File) -> Result<File> {
    file.rewind()?;
    let mut copy = tempfile::tempfile().context("create a temporary file")?;
    std::io::copy(&mut file, &mut copy).context("copy the file")?;
    file.rewind()?;
    copy.rewind()?;
    Ok(copy)
}

/// Read a file by a layout, and print what each row would become; nothing is stored
///
/// Without --layout it is read by each layout, and the one is used that accepts it, or that finds the fewest faults.
/// The files of an archive are read one after another.
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
                None => {
                    // A file that is none says why.
                    if let Ok(text) = std::fs::read_to_string(warehouse.config.root.join(name))
                        && let Err(problems) = FileLayout::parse(&text)
                    {
                        let problems: Vec<String> = problems.iter().map(|problem| format!("\n  {problem}")).collect();
                        return Err(base::Error::input(format!("{name} is no layout:{}", problems.concat())).into());
                    }
                    return Err(unknown("layout", name, "the warehouse", all.keys()));
                }
            },
            None => all.iter().collect(),
        };
        let mut is_accepted = true;
        // Whether a zip is a workbook or an archive depends on the layout; without one, a workbook is none.
        let only = tried.first().filter(|_| tried.len() == 1).map(|(_, used)| &used.layout);
        for (file_name, file) in delivered(&self.file, only)? {
            let mut best: Option<(&String, &UsedLayout, ReadReport, Vec<Rows>)> = None;
            for (name, used) in &tried {
                let (report, rows) = self.read(&file, &file_name, &used.layout)?;
                if best.as_ref().is_none_or(|(.., before, _)| rank(&report) < rank(before)) {
                    best = Some((name, used, report, rows));
                }
            }
            let Some((name, used, report, rows)) = best else {
                let error = base::Error::input("there is no layout to try");
                return Err(error.hint("write layouts/NAME.toml, and name it in a job").into());
            };
            self.print(&file_name, name, &used.layout, &report, &rows)?;
            is_accepted &= report.verdict == Verdict::Accept;
        }
        Ok(if is_accepted { ExitCode::SUCCESS } else { ExitCode::from(report::code::FIX_INPUT) })
    }

    /// Reads the whole file; returns its first rows too.
    fn read(&self, file: &File, name: &str, layout: &FileLayout) -> Result<(ReadReport, Vec<Rows>)> {
        let mut rows: Vec<Rows> = Vec::new();
        let mut count = 0;
        let report = read::read(again(file)?, name, layout, &mut |batch| {
            if count < self.rows {
                count += batch.batch.num_rows();
                rows.push(batch);
            }
            Ok(())
        });
        Ok((report.with_context(|| format!("read {name}"))?, rows))
    }

    fn print(&self, file: &str, name: &str, layout: &FileLayout, report: &ReadReport, rows: &[Rows]) -> Result<()> {
        let reason = match &report.verdict {
            Verdict::Accept => None,
            Verdict::Quarantine { reason } => Some(reason),
        };
        let verdict = if reason.is_some() { "quarantined" } else { "accepted" };
        let subjects: Vec<Value> = report.subjects.iter().map(|subject| json!(subject)).collect();
        let faults: Vec<String> = report.faults.iter().take(FAULTS_SHOWN).map(ToString::to_string).collect();
        if self.json {
            let object = json!({
                "file": file, "layout": name, "verdict": verdict, "reason": reason, "rows": report.rows, "subjects": subjects,
                "faults": faults,
            });
            println!("{object}");
        } else {
            println!("{verdict:<11} {file} by {name}: {}", text::quantity(report.rows, "row"));
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
    /// What a ready-made layout is for.
    about: Option<&'static str>,
}

/// All layouts of the jobs, by their paths in the warehouse, and the ready-made ones by their names.
fn layouts(config: &Configuration) -> BTreeMap<String, UsedLayout> {
    let ingests = config.ingests.values().map(|one| (&one.layout_file, &one.layout, format!("ingest:{}", one.name)));
    let collects = config.collects.values().map(|one| (&one.layout_file, &one.layout, format!("collect:{}", one.name)));
    let predictions =
        config.predictions.values().map(|one| (&one.layout_file, &one.layout, format!("prediction:{}", one.name)));
    let mut all: BTreeMap<String, UsedLayout> = BTreeMap::new();
    for (file, layout, job) in ingests.chain(collects).chain(predictions) {
        let name = file.strip_prefix(&config.root).unwrap_or(file).display().to_string();
        all.entry(name)
            .or_insert_with(|| UsedLayout { layout: layout.clone(), jobs: Vec::new(), about: None })
            .jobs
            .push(job);
    }
    // Those that no job uses yet.
    for path in walk(&config.root.join("layouts")) {
        let name = path.strip_prefix(&config.root).unwrap_or(&path).display().to_string();
        let parsed = std::fs::read_to_string(&path).ok().and_then(|text| FileLayout::parse(&text).ok());
        if let Some(layout) = parsed {
            all.entry(name).or_insert(UsedLayout { layout, jobs: Vec::new(), about: None });
        }
    }
    for one in library::all() {
        // Each of them is parsed by a test.
        let Ok(layout) = FileLayout::parse(one.text) else { continue };
        all.entry(one.name.to_owned()).or_insert(UsedLayout { layout, jobs: Vec::new(), about: Some(one.about()) });
    }
    all
}

/// The TOML files of a folder and of the folders in it.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(walk(&path));
        } else if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    files
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
