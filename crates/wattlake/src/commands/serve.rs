use std::path::Path;
use std::process::ExitCode;

use crate::program::open_warehouse;
use anyhow::Result;
use clap::{Args, ValueEnum};

/// Serve SQL over PostgreSQL's protocol, and health and metrics over HTTP, and run scheduled jobs
///
/// Addresses are in [serve] of wattlake.toml, users in [roles]. SIGTERM and Ctrl-C stop the server: running queries
/// have a few seconds to end.
#[derive(Debug, Args)]
pub struct Serve {
    /// The format of log lines on standard error
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// Text for people
    #[default]
    Text,
    /// One JSON object for each line
    Json,
}

impl Serve {
    /// Whether log lines are written as JSON.
    pub fn logs_json(&self) -> bool {
        self.log_format == LogFormat::Json
    }

    /// Serves until the process is told to stop.
    pub async fn run(self, root: &Path) -> Result<ExitCode> {
        server::run(open_warehouse(root)?).await?;
        Ok(ExitCode::SUCCESS)
    }
}
