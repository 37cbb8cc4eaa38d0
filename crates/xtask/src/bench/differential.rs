//! `bench differential`: runs many random queries on Wattlake and on PostgreSQL and compares the rows. It runs the test
//! `random_queries`, which generates and compares fewer by default.

use std::fs;

use anyhow::{Context, Result};
use clap::Args;

use crate::project::{Project, run};

/// The options of `bench differential`.
#[derive(Args)]
pub struct Options {
    /// How many queries
    #[arg(long, default_value_t = 5_000)]
    queries: u64,
    /// The seed of the random numbers
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Runs the test and writes differences to `bench/work/differences.txt`.
pub fn run_queries(project: &Project, options: &Options) -> Result<()> {
    let folder = project.root.join("bench/work");
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let differences = folder.join("differences.txt");
    let mut test = project.cargo()?;
    test.args([
        "test",
        "--workspace",
        "--features",
        "wattlake/failpoints",
        "--lib",
        "--",
        "--nocapture",
        "random_queries",
    ])
    .env("WATTLAKE_QUERIES", options.queries.to_string())
    .env("WATTLAKE_SEED", options.seed.to_string())
    .env("WATTLAKE_DIFFERENCES", &differences);
    println!("differences are written to {}", differences.display());
    run(&mut test)
}
