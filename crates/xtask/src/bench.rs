//! Benchmarks. Everything they need is made in `bench/work/`, which git ignores; what they measured
//! stays under `bench/runs/`, by date and machine. No number is written down that was not measured.

mod copy;

mod contenders;
mod fill;
mod measure;
mod programs;
mod servers;

mod report;

use anyhow::Result;
use clap::Subcommand;

use crate::project::Project;

#[derive(Subcommand)]
pub enum Name {
    /// PostgreSQL -> lake and PostgreSQL -> PostgreSQL: Wattlake beside DuckDB, connectorx, logical replication, pgcopydb
    Copy(copy::Options),
}

pub fn run(project: &Project, name: Name) -> Result<()> {
    match name {
        Name::Copy(options) => copy::run(project, &options),
    }
}
