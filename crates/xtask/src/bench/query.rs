//! `bench query`: queries of time series on Wattlake's server through psql, and on DuckDB with the same Parquet files.
//! Both programs are warm, take turns, and must return the same rows.

mod answers;
pub mod queries;
mod query_process;
mod report;

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use super::programs::{Profile, Programs, Selection};
use super::report::{commit, machine, results_folder, today};
use super::warehouse::{BenchWarehouse, SCHEMA, Size, TABLES};
use crate::project::Project;
use queries::BenchQuery;
use query_process::Answer;
pub use query_process::{QueryProcess, peak_mib};
pub use report::write as write_report;

/// The options of `bench query`.
#[derive(Args)]
pub struct Options {
    /// Series of the portfolio, each a year in 10-minute steps: 200 make 10 million rows
    #[arg(long, default_value_t = 200)]
    series: u32,
    /// Measured rounds; one more before them warms both programs up
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Only these queries (names of files in bench/queries)
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Pack the lake first, as its nightly upkeep does
    #[arg(long)]
    pack: bool,
    /// Use the lake of an earlier run of the same size
    #[arg(long)]
    keep: bool,
    /// Run 20 series and two rounds to test the benchmark; the results are not kept
    #[arg(long)]
    quick: bool,
    /// The profile of the wattlake binary; `dev` is what the README's commands build
    #[arg(long, value_enum, default_value_t = Profile::Dev)]
    profile: Profile,
}

/// The measurements of one query in one program.
#[derive(Default)]
struct Times {
    seconds: Vec<f64>,
    peak_mib: f64,
}

impl Times {
    fn add(&mut self, answer: &Answer) {
        self.seconds.push(answer.seconds);
        self.peak_mib = self.peak_mib.max(answer.peak_mib);
    }
}

/// A query with the measurements of both programs.
pub struct QueryComparison {
    query: BenchQuery,
    wattlake: Times,
    duckdb: Times,
}

impl QueryComparison {
    /// A line for the terminal.
    pub fn line(&self) -> String {
        report::line(self)
    }
}

/// Runs the benchmark and writes its results.
pub fn run(project: &Project, options: &Options) -> Result<()> {
    let (series, rounds) = if options.quick { (20, 2) } else { (options.series, options.rounds) };
    ensure!(series > 0 && rounds > 0, "series and rounds must be above zero");
    let work = project.root.join("bench/work");
    fs::create_dir_all(&work).with_context(|| format!("create {}", work.display()))?;
    let selection = Selection { pgcopydb: false, wattlake: Some(options.profile) };
    let programs = Programs::prepare(project, &work, &selection)?;
    let wattlake = programs.wattlake.as_deref().context("wattlake was not built")?;
    let queries = queries::read(&project.root.join("bench/queries"), &options.only)?;

    let size = Size { series, steps: 52_560 };
    let warehouse = BenchWarehouse::prepare(&project.root.join("bench"), &work, wattlake, size, options.keep)?;
    if options.pack {
        warehouse.pack()?;
    }
    let server = warehouse.serve()?;
    let mut ours = QueryProcess::start(&mut warehouse.psql(), Some(server.pid()), work.join("psql.log"))?;
    ours.ask("SET TIME ZONE 'UTC'").context("wattlake: choose UTC")?;
    let mut duckdb = Command::new(&programs.python);
    duckdb.arg(programs.script("query_duckdb.py")).arg(warehouse.lake()).arg(SCHEMA).args(TABLES);
    let mut theirs = QueryProcess::start(&mut duckdb, None, work.join("duckdb.log"))?;

    let rows = count(&mut ours)?;
    eprintln!("bench query: {rows} rows, {} queries, {rounds} rounds", queries.len());
    let mut all = Vec::new();
    for query in queries {
        let name = query.name.clone();
        let comparison = ask(&mut ours, &mut theirs, query, rounds).with_context(|| format!("query {name}"))?;
        eprintln!("{}", comparison.line());
        all.push(comparison);
    }
    let result = json!({
        "benchmark": "query",
        "date": today(project)?,
        "commit": commit(project)?,
        "profile": options.profile.name(),
        "machine": machine()?,
        "versions": programs.packages(&["duckdb"])?,
        "rows": rows,
        "is_packed": options.pack,
        "rounds": rounds,
    });
    let folder = if options.quick { work.join("quick") } else { results_folder(project, &result)? };
    report::write(&folder, "query", result, &all)
}

/// Measures one query in both programs. Before the measured rounds, one run reads the files and compares the results.
pub fn ask(
    ours: &mut QueryProcess,
    theirs: &mut QueryProcess,
    query: BenchQuery,
    rounds: u32,
) -> Result<QueryComparison> {
    let mut comparison = QueryComparison { query, wattlake: Times::default(), duckdb: Times::default() };
    for round in 0..=rounds {
        let our = ours.ask(&comparison.query.wattlake).context("wattlake")?;
        let their = theirs.ask(&comparison.query.duckdb).context("duckdb")?;
        answers::compare(&our.lines, &their.lines).context("Wattlake's rows differ from DuckDB's")?;
        if round > 0 {
            comparison.wattlake.add(&our);
            comparison.duckdb.add(&their);
        }
    }
    Ok(comparison)
}

fn count(ours: &mut QueryProcess) -> Result<u64> {
    let answer = ours.ask("SELECT count(*) FROM bench.measurements")?;
    let rows = answer.lines.get(1).context("count the rows: no answer")?;
    rows.parse().context("count the rows")
}

/// The size, machine and versions of a result, as a sentence.
fn description(result: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let size = match &result["scale"] {
        Value::Null => format!("{} rows", result["rows"]),
        scale => format!("Scale {scale}"),
    };
    format!(
        "{size}, {}. {} cores, {}, {} GiB. Commit {}, profile `{}`, duckdb {}.",
        if result["is_packed"] == true { "packed" } else { "as the initial transfer wrote them" },
        result["machine"]["cores"],
        text(&result["machine"]["cpu"]),
        result["machine"]["memory_gib"],
        text(&result["commit"]),
        text(&result["profile"]),
        text(&result["versions"]["duckdb"]),
    )
}
