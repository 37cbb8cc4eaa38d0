//! `bench query`: what analysts and dashboards ask of series, by Wattlake's server through psql and by
//! DuckDB over the same Parquet files. Both are warm, take turns, and must agree on every answer.

mod answers;
mod asked;
pub mod questions;
mod report;

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use super::contenders::Contender;
use super::copy::Profile;
use super::energy::{Energy, SCHEMA, Size, TABLES};
use super::programs::Programs;
use super::report::{commit, kept_folder, machine, today};
use crate::project::Project;
use asked::Answer;
pub use asked::{Asked, peak_mib};
use questions::Question;
pub use report::write as write_report;

#[derive(Args)]
pub struct Options {
    /// Of the portfolio, each a year in 10-minute steps: 200 make 10 million rows
    #[arg(long, default_value_t = 200)]
    series: u32,
    /// Timed ones; another one before them warms both
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Only these queries (names of files in bench/queries)
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Pack the lake first, as its nightly upkeep does
    #[arg(long)]
    pack: bool,
    /// Take the lake of an earlier run of the same size
    #[arg(long)]
    keep: bool,
    /// 20 series, two rounds: proves that it works; its numbers mean nothing and are not kept
    #[arg(long)]
    quick: bool,
    /// Of the wattlake binary; `dev` is what the README's commands build
    #[arg(long, value_enum, default_value_t = Profile::Dev)]
    profile: Profile,
}

/// Of one question, by one program.
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

pub struct Asking {
    question: Question,
    wattlake: Times,
    duckdb: Times,
}

impl Asking {
    pub fn line(&self) -> String {
        report::line(self)
    }
}

pub fn run(project: &Project, options: &Options) -> Result<()> {
    let (series, rounds) = if options.quick { (20, 2) } else { (options.series, options.rounds) };
    ensure!(series > 0 && rounds > 0, "series and rounds must be above zero");
    let work = project.root.join("bench/work");
    fs::create_dir_all(&work).with_context(|| format!("make {}", work.display()))?;
    let programs = Programs::ready(project, &work, &[Contender::Wattlake], options.profile)?;
    let wattlake = programs.wattlake.as_deref().context("wattlake was not built")?;
    let questions = questions::read(&project.root.join("bench/queries"), &options.only)?;

    let size = Size { series, steps: 52_560 };
    let energy = Energy::ready(&project.root.join("bench"), &work, wattlake, size, options.keep)?;
    if options.pack {
        energy.pack()?;
    }
    let served = energy.serve()?;
    let mut ours = Asked::start(&mut energy.psql(), Some(served.pid()), work.join("psql.log"))?;
    ours.ask("SET TIME ZONE 'UTC'").context("wattlake: choose UTC")?;
    let mut duckdb = Command::new(&programs.python);
    duckdb.arg(programs.script("query_duckdb.py")).arg(energy.lake()).arg(SCHEMA).args(TABLES);
    let mut theirs = Asked::start(&mut duckdb, None, work.join("duckdb.log"))?;

    let rows = count(&mut ours)?;
    eprintln!("bench query: {rows} rows, {} queries, {rounds} rounds", questions.len());
    let mut all = Vec::new();
    for question in questions {
        let name = question.name.clone();
        let asking = ask(&mut ours, &mut theirs, question, rounds).with_context(|| format!("query {name}"))?;
        eprintln!("{}", asking.line());
        all.push(asking);
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
    let folder = if options.quick { work.join("quick") } else { kept_folder(project, &result)? };
    report::write(&folder, "query", result, &all)
}

/// The first round is not timed: it reads the files, and proves that both give the same answer.
pub fn ask(ours: &mut Asked, theirs: &mut Asked, question: Question, rounds: u32) -> Result<Asking> {
    let mut asking = Asking { question, wattlake: Times::default(), duckdb: Times::default() };
    for round in 0..=rounds {
        let our = ours.ask(&asking.question.wattlake).context("wattlake")?;
        let their = theirs.ask(&asking.question.duckdb).context("duckdb")?;
        answers::compare(&our.lines, &their.lines).context("wattlake's answer is not DuckDB's")?;
        if round > 0 {
            asking.wattlake.add(&our);
            asking.duckdb.add(&their);
        }
    }
    Ok(asking)
}

fn count(ours: &mut Asked) -> Result<u64> {
    let answer = ours.ask("SELECT count(*) FROM bench.measurements")?;
    let rows = answer.lines.get(1).context("count the rows: no answer")?;
    rows.parse().context("count the rows")
}

/// What `result` says apart from the numbers themselves.
fn described(result: &Value) -> String {
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
