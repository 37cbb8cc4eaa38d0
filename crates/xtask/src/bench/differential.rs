//! `bench differential`: drawn queries in large numbers, Wattlake's answers beside PostgreSQL's. The queries and the
//! judgement are the test's, which draws fewer.

use std::fs;

use anyhow::{Context, Result};
use clap::Args;

use crate::project::{Project, run};

#[derive(Args)]
pub struct Options {
    #[arg(long, default_value_t = 5_000)]
    queries: u64,
    /// Where the draw begins
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub fn run_queries(project: &Project, options: &Options) -> Result<()> {
    let folder = project.root.join("bench/work");
    fs::create_dir_all(&folder).with_context(|| format!("make folder {}", folder.display()))?;
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
        "drawn_queries",
    ])
    .env("WATTLAKE_QUERIES", options.queries.to_string())
    .env("WATTLAKE_SEED", options.seed.to_string())
    .env("WATTLAKE_DIFFERENCES", &differences);
    println!("what differs is in {}", differences.display());
    run(&mut test)
}
