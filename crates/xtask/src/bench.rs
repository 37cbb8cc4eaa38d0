//! Benchmarks. Everything they need is made in `bench/work/`, which git ignores; what they measured
//! stays under `bench/runs/`, by date and machine. No number is written down that was not measured.

mod copy;
mod differential;
mod functions;
mod load;
mod query;
mod tpch;

mod contenders;
mod energy;
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
    /// What is asked of series: Wattlake's server through psql beside DuckDB over the same files
    Query(query::Options),
    /// Drawn queries beside PostgreSQL, cell by cell
    Differential(differential::Options),
    /// Invocations, warm and cold: the Invoke API beside AWS's runtime interface emulator
    Functions(functions::Options),
    /// The 22 queries of TPC-H: Wattlake's server beside DuckDB over the same files
    Tpch(tpch::Options),
    /// Dashboards of many users on the server at once, while a transfer writes
    Load(load::Options),
}

pub fn run(project: &Project, name: Name) -> Result<()> {
    match name {
        Name::Copy(options) => copy::run(project, &options),
        Name::Differential(options) => differential::run_queries(project, &options),
        Name::Functions(options) => functions::run(project, &options),
        Name::Load(options) => load::run(project, &options),
        Name::Query(options) => query::run(project, &options),
        Name::Tpch(options) => tpch::run(project, &options),
    }
}
