//! `cargo x`: the project's tasks: formatting, lints, tests, the style check, licences, benchmarks.
//! It never links the product, so that it builds quickly, and runs it as a user does, by its binary.

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
#[command(name = "cargo x", about = "The project's tasks: checks and benchmarks", disable_help_subcommand = true)]
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
    /// Run Clippy on everything; warnings are errors
    Lint,
    /// Run all tests, by cargo-nextest where it is installed
    Test {
        /// Run so many times while every core is busy
        #[arg(long, value_name = "RUNS", num_args = 0..=1, default_missing_value = "10")]
        #[arg(value_parser = clap::value_parser!(u32).range(1..))]
        stress: Option<u32>,
        /// Passed on to the test runner, for example a filter
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// Check the project's style: sizes, names, dependencies, links (no build)
    Tidy,
    /// Check the licence of every dependency against deny.toml
    Deny,
    /// Run a benchmark; see bench/README.md
    Bench {
        #[command(subcommand)]
        benchmark: bench::Benchmark,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The chain of causes without a backtrace: a program or a rule has failed, not this code.
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
        Task::Bench { benchmark } => bench::run(&project, benchmark),
    }
}
