//! `bench tpch`: the 22 queries of TPC-H on Wattlake's server through psql, and on DuckDB with the same Parquet files.
//! Tables and queries are from DuckDB's extension; a transfer copies the tables from PostgreSQL into the lake.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use super::programs::{Profile, Programs, Selection};
use super::query::{QueryComparison, QueryProcess, ask, queries, write_report};
use super::report::{commit, machine, results_folder, today};
use super::warehouse::{BenchWarehouse, SCHEMA, Tables};
use crate::project::{Project, run as run_program};

const TABLES: [&str; 8] = ["customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier"];

/// The options of `bench tpch`.
#[derive(Args)]
pub struct Options {
    /// The scale factor: 1 makes 6 million rows of lineitem
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Measured rounds; one more before them warms both programs up
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// DuckDB's threads; Wattlake has one for each core
    #[arg(long, default_value_t = 2)]
    threads: u32,
    /// Only these queries: q01 to q22
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Pack the lake first, as its nightly upkeep does
    #[arg(long)]
    pack: bool,
    /// Use the lake of an earlier run of the same scale
    #[arg(long)]
    keep: bool,
    /// Run scale 0.01 and one round to test the benchmark; the results are not kept
    #[arg(long)]
    quick: bool,
    /// The profile of the wattlake binary; `dev` is what the README's commands build
    #[arg(long, value_enum, default_value_t = Profile::Dev)]
    profile: Profile,
}

/// Runs the benchmark and writes its results.
pub fn run(project: &Project, options: &Options) -> Result<()> {
    let (scale, rounds) = if options.quick { (0.01, 1) } else { (options.scale, options.rounds) };
    ensure!(scale > 0.0 && rounds > 0, "scale and rounds must be above zero");
    let work = project.root.join("bench/work");
    fs::create_dir_all(&work).with_context(|| format!("create {}", work.display()))?;
    let selection = Selection { pgcopydb: false, wattlake: Some(options.profile) };
    let programs = Programs::prepare(project, &work, &selection)?;
    let wattlake = programs.wattlake.as_deref().context("wattlake was not built")?;

    let name = format!("tpch-{scale}");
    let generated = generate(&programs, work.join(format!("{name}-made")), scale)?;
    let queries = queries::read(&generated.join("queries"), &options.only)?;
    let tables = Tables { name, script: generated.join("fill.sql"), variables: Vec::new(), settings: "" };
    let warehouse = BenchWarehouse::with_tables(&tables, &work, wattlake, options.keep || options.quick)?;
    if options.pack {
        warehouse.pack()?;
    }
    let server = warehouse.serve()?;
    let mut ours = QueryProcess::start(&mut warehouse.psql(), Some(server.pid()), work.join("psql.log"))?;
    ours.ask(&format!("SET search_path = {SCHEMA}")).context("wattlake: choose the schema")?;
    let mut duckdb = Command::new(&programs.python);
    duckdb.env("DUCKDB_THREADS", options.threads.to_string());
    duckdb.arg(programs.script("query_duckdb.py")).arg(warehouse.lake()).arg(SCHEMA).args(TABLES);
    let mut theirs = QueryProcess::start(&mut duckdb, None, work.join("duckdb.log"))?;

    eprintln!("bench tpch: scale {scale}, {} queries, {rounds} rounds", queries.len());
    let mut all: Vec<QueryComparison> = Vec::new();
    for query in queries {
        let name = query.name.clone();
        let comparison = ask(&mut ours, &mut theirs, query, rounds).with_context(|| format!("query {name}"))?;
        eprintln!("{}", comparison.line());
        all.push(comparison);
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
    let folder = if options.quick { work.join("quick") } else { results_folder(project, &result)? };
    write_report(&folder, "tpch", result, &all)
}

/// Makes the folder of tables and queries, where it does not exist for this scale.
fn generate(programs: &Programs, folder: PathBuf, scale: f64) -> Result<PathBuf> {
    if !folder.join("queries/q22.sql").exists() {
        eprintln!("bench tpch: make tables of scale {scale}");
        let mut make = Command::new(&programs.python);
        run_program(make.arg(programs.script("tpch_make.py")).arg(&folder).arg(scale.to_string()))
            .context("make the tables")?;
    }
    Ok(folder)
}
