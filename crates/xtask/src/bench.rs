//! Benchmarks. Their working files are in `bench/work/`, which git ignores; results are kept in `bench/runs/`, by date
//! and machine.

mod billing;
mod changes;
mod chaos;
mod copy;
mod differential;
mod endpoints;
mod forecast;
mod functions;
mod keys;
mod load;
mod query;
mod through_stream;
mod tpch;

mod contenders;
mod fill;
mod http_client;
mod measure;
mod programs;
mod servers;
mod stream;
mod warehouse;

mod report;

use anyhow::Result;
use clap::Subcommand;

use crate::project::Project;

/// The benchmarks of `cargo x bench`.
#[derive(Subcommand)]
pub enum Benchmark {
    /// A month of 300 plants, from their files to statements, and a plain query of DuckDB
    Billing(billing::Options),
    /// Copy PostgreSQL to a lake and to PostgreSQL: Wattlake, DuckDB, connectorx, logical replication, pgcopydb
    Copy(copy::Options),
    /// The write-ahead log into a lake: Wattlake, pg_recvlogical, logical replication
    Changes(changes::Options),
    /// A stream that is killed 1,000 times during a random workload: source and lake must be equal after each
    Chaos(chaos::Options),
    /// Updates of random keys in tables of 10 and 100 million rows: Wattlake, in seconds and memory
    Keys(keys::Options),
    /// Queries of time series: Wattlake's server through psql, and DuckDB on the same files
    Query(query::Options),
    /// Random queries: compare Wattlake's rows with PostgreSQL's
    Differential(differential::Options),
    /// Predictions of a LightGBM model: InvokeEndpoint, FastAPI and MLflow, and endpoints that are idle
    Endpoints(endpoints::Options),
    /// Forecasts of rivers' flows and of wind: the example's forecaster, and plain references in the same run
    Forecast(forecast::Options),
    /// Invocations, warm and cold: the Invoke API and AWS's runtime interface emulator
    Functions(functions::Options),
    /// The write-ahead log into a lake through NATS JetStream, by one and by two workers, and directly
    Stream(through_stream::Options),
    /// The 22 queries of TPC-H: Wattlake's server, and DuckDB on the same files
    Tpch(tpch::Options),
    /// Dashboard queries over many connections while a transfer writes
    Load(load::Options),
}

/// Runs a benchmark.
pub fn run(project: &Project, benchmark: Benchmark) -> Result<()> {
    match benchmark {
        Benchmark::Billing(options) => billing::run(project, &options),
        Benchmark::Changes(options) => changes::run(project, &options),
        Benchmark::Chaos(options) => chaos::run(project, &options),
        Benchmark::Copy(options) => copy::run(project, &options),
        Benchmark::Differential(options) => differential::run_queries(project, &options),
        Benchmark::Endpoints(options) => endpoints::run(project, &options),
        Benchmark::Forecast(options) => forecast::run(project, &options),
        Benchmark::Functions(options) => functions::run(project, &options),
        Benchmark::Keys(options) => keys::run(project, &options),
        Benchmark::Load(options) => load::run(project, &options),
        Benchmark::Query(options) => query::run(project, &options),
        Benchmark::Stream(options) => through_stream::run(project, &options),
        Benchmark::Tpch(options) => tpch::run(project, &options),
    }
}
