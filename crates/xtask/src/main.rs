//! `cargo x`: what is done to the project rather than by it — formatting, lints, tests, the style
//! check, the licences, the benchmarks. It never links the product: it stays quick to build, and
//! drives the product as a user does, through its binary.

mod project;

mod checks;
mod stress;
mod tidy;

mod bench;
mod deny;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use project::Project;

#[derive(Parser)]
#[command(
    name = "cargo x",
    about = "What is done to the project: checks and benchmarks",
    disable_help_subcommand = true
)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Format every crate
    Fmt {
        /// Change nothing; fail where something would change
        #[arg(long)]
        check: bool,
    },
    /// Clippy over everything, warnings are errors
    Lint,
    /// All tests, by cargo-nextest where it is installed
    Test {
        /// So many times, while every core is kept busy by something else
        #[arg(long, value_name = "RUNS", num_args = 0..=1, default_missing_value = "10")]
        #[arg(value_parser = clap::value_parser!(u32).range(1..))]
        stress: Option<u32>,
        /// Passed on to the test runner, for example a filter
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// The style of the house: sizes, names, edges, links (no build)
    Tidy,
    /// The licence of every dependency against deny.toml
    Deny,
    /// Measure; see bench/README.md
    Bench {
        #[command(subcommand)]
        name: bench::Name,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The chain, once; never a backtrace: what fails here is a program or a rule, not this code.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    let project = Project::open()?;
    match task {
        Task::Fmt { check } => checks::fmt(&project, check),
        Task::Lint => checks::lint(&project),
        Task::Test { stress: Some(runs), rest } => stress::test(&project, runs, &rest),
        Task::Test { stress: None, rest } => checks::test(&project, &rest),
        Task::Tidy => tidy::run(&project),
        Task::Deny => deny::run(&project),
        Task::Bench { name } => bench::run(&project, name),
    }
}
