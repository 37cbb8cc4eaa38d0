//! The commands of the program, a file for each. The doc comments of their arguments are the help texts.

mod check;
mod collect;
mod completions;
mod consume;
mod control;
mod demo;
mod drop_slot;
mod endpoint;
pub mod function;
mod init;
mod lake;
mod layer;
mod layout;
mod logs;
mod mart;
mod model;
mod query_output;
mod queue;
mod run;
mod runs;
mod schedules;
mod schema;
mod serve;
mod shell;
mod sql;
mod statement;
mod stream;
mod transfer;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

/// A data warehouse for energy aggregators: transfers the platform's PostgreSQL into an open lake with its whole
/// history, and answers SQL over it.
#[derive(Debug, Parser)]
#[command(name = "wattlake", version, max_term_width = 100, propagate_version = true)]
pub struct Arguments {
    /// The warehouse's folder, with its wattlake.toml
    #[arg(
        short = 'C',
        long = "warehouse",
        global = true,
        default_value = ".",
        value_name = "DIR",
        overrides_with = "warehouse",
        env = "WATTLAKE_WAREHOUSE"
    )]
    pub warehouse: PathBuf,
    /// Log more details
    #[arg(short, long, global = true)]
    pub verbose: bool,
    // Without a doc comment, which clap would print as help.
    #[command(subcommand)]
    pub command: Command,
}

// Without a doc comment, which clap would print as help.
#[derive(Debug, Subcommand)]
pub enum Command {
    Init(init::Init),
    Check(check::Check),
    #[command(subcommand)]
    Transfer(transfer::Transfer),
    Sql(sql::Sql),
    #[command(subcommand)]
    Lake(lake::Lake),
    #[command(subcommand)]
    Mart(mart::Mart),
    #[command(subcommand)]
    Function(function::Function),
    #[command(subcommand)]
    Layer(layer::Layer),
    #[command(subcommand)]
    Layout(layout::Layout),
    #[command(subcommand)]
    Model(model::Model),
    #[command(subcommand)]
    Endpoint(endpoint::Endpoint),
    #[command(subcommand)]
    Control(control::Control),
    #[command(subcommand)]
    Statement(statement::Statement),
    Run(run::Run),
    Runs(runs::Runs),
    Logs(logs::Logs),
    Events(runs::Events),
    Emit(logs::Emit),
    Queue(queue::Queue),
    Cancel(queue::Cancel),
    Schedules(schedules::Schedules),
    Pause(schedules::Pause),
    Resume(schedules::Resume),
    Serve(serve::Serve),
    Demo(demo::Demo),
    Schema(schema::Schema),
    Completions(completions::Completions),
}

impl Command {
    /// Whether it runs until it is stopped: a server logs more than other commands.
    pub fn is_server(&self) -> bool {
        matches!(self, Command::Serve(_))
    }

    /// Whether log lines are written as JSON.
    pub fn logs_json(&self) -> bool {
        matches!(self, Command::Serve(serve) if serve.logs_json())
    }
}

/// Runs the command that the arguments name and returns its exit code.
pub async fn run(arguments: Arguments) -> Result<ExitCode> {
    // Paths that are resolved against it are absolute then, and hold in every working directory.
    let root = std::path::absolute(&arguments.warehouse)
        .with_context(|| format!("find the warehouse's folder {}", arguments.warehouse.display()))?;
    let root = root.as_path();
    match arguments.command {
        Command::Init(command) => command.run(),
        Command::Check(command) => command.run(root).await,
        Command::Transfer(command) => command.run(root).await,
        Command::Sql(command) => command.run(root).await,
        Command::Lake(command) => command.run(root).await,
        Command::Mart(command) => command.run(root).await,
        Command::Function(command) => command.run(root).await,
        Command::Layer(command) => command.run(root),
        Command::Layout(command) => command.run(root),
        Command::Model(command) => command.run(root).await,
        Command::Endpoint(command) => command.run(root).await,
        Command::Control(command) => command.run(root).await,
        Command::Statement(command) => command.run(root).await,
        Command::Run(command) => command.run(root).await,
        Command::Runs(command) => command.run(root),
        Command::Logs(command) => command.run(root).await,
        Command::Events(command) => command.run(root),
        Command::Emit(command) => command.run(root),
        Command::Queue(command) => command.run(root),
        Command::Cancel(command) => command.run(root),
        Command::Schedules(command) => command.run(root),
        Command::Pause(command) => command.run(root),
        Command::Resume(command) => command.run(root),
        Command::Serve(command) => command.run(root).await,
        Command::Demo(command) => command.run().await,
        Command::Schema(command) => command.run(),
        Command::Completions(command) => command.run(),
    }
}

#[cfg(test)]
mod tests;
