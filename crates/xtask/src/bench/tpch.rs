//! `bench tpch`: the 22 queries of TPC-H, by Wattlake's server through psql and by DuckDB over the same Parquet files.
//! Tables and queries are those of DuckDB's extension; the tables come by a transfer from PostgreSQL.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use super::contenders::Contender;
use super::copy::Profile;
use super::energy::{Energy, SCHEMA, Tables};
use super::programs::Programs;
use super::query::{Asked, Asking, ask, questions, write_report};
use super::report::{commit, kept_folder, machine, today};
use crate::project::{Project, run as run_program};

const TABLES: [&str; 8] = ["customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier"];

#[derive(Args)]
pub struct Options {
    /// 1 makes 6 million rows of lineitem
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Timed ones; another one before them warms both
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Of DuckDB; Wattlake has one for each core
    #[arg(long, default_value_t = 2)]
    threads: u32,
    /// Only these queries: q01 to q22
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Pack the lake first, as its nightly upkeep does
    #[arg(long)]
    pack: bool,
    /// Take the lake of an earlier run of the same scale
    #[arg(long)]
    keep: bool,
    /// Scale 0.01, one round: proves that it works; its numbers mean nothing and are not kept
    #[arg(long)]
    quick: bool,
    /// Of the wattlake binary; `dev` is what the README's commands build
    #[arg(long, value_enum, default_value_t = Profile::Dev)]
    profile: Profile,
}

pub fn run(project: &Project, options: &Options) -> Result<()> {
    let (scale, rounds) = if options.quick { (0.01, 1) } else { (options.scale, options.rounds) };
    ensure!(scale > 0.0 && rounds > 0, "scale and rounds must be above zero");
    let work = project.root.join("bench/work");
    fs::create_dir_all(&work).with_context(|| format!("make {}", work.display()))?;
    let programs = Programs::ready(project, &work, &[Contender::Wattlake], options.profile)?;
    let wattlake = programs.wattlake.as_deref().context("wattlake was not built")?;

    let name = format!("tpch-{scale}");
    let made = made(&programs, work.join(format!("{name}-made")), scale)?;
    let questions = questions::read(&made.join("queries"), &options.only)?;
    let tables = Tables { name, script: made.join("fill.sql"), variables: Vec::new(), settings: "" };
    let energy = Energy::with_tables(&tables, &work, wattlake, options.keep || options.quick)?;
    if options.pack {
        energy.pack()?;
    }
    let served = energy.serve()?;
    let mut ours = Asked::start(&mut energy.psql(), Some(served.pid()), work.join("psql.log"))?;
    ours.ask(&format!("SET search_path = {SCHEMA}")).context("wattlake: choose the schema")?;
    let mut duckdb = Command::new(&programs.python);
    duckdb.env("DUCKDB_THREADS", options.threads.to_string());
    duckdb.arg(programs.script("query_duckdb.py")).arg(energy.lake()).arg(SCHEMA).args(TABLES);
    let mut theirs = Asked::start(&mut duckdb, None, work.join("duckdb.log"))?;

    eprintln!("bench tpch: scale {scale}, {} queries, {rounds} rounds", questions.len());
    let mut all: Vec<Asking> = Vec::new();
    for question in questions {
        let name = question.name.clone();
        let asking = ask(&mut ours, &mut theirs, question, rounds).with_context(|| format!("query {name}"))?;
        eprintln!("{}", asking.line());
        all.push(asking);
    }
    let result: Value = json!({
        "benchmark": "tpch",
        "date": today(project)?,
        "commit": commit(project)?,
        "profile": options.profile.name(),
        "machine": machine()?,
        "versions": programs.packages(&["duckdb"])?,
        "scale": scale,
        "threads": options.threads,
        "is_packed": options.pack,
        "rounds": rounds,
    });
    let folder = if options.quick { work.join("quick") } else { kept_folder(project, &result)? };
    write_report(&folder, "tpch", result, &all)
}

/// The folder of tables and queries; they are the same for the same scale.
fn made(programs: &Programs, folder: PathBuf, scale: f64) -> Result<PathBuf> {
    if !folder.join("queries/q22.sql").exists() {
        eprintln!("bench tpch: make tables of scale {scale}");
        let mut make = Command::new(&programs.python);
        run_program(make.arg(programs.script("tpch_make.py")).arg(&folder).arg(scale.to_string()))
            .context("make the tables")?;
    }
    Ok(folder)
}
