use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::serve;
use crate::warehouse::Warehouse;

/// Serve the lake until stopped: SQL on PostgreSQL's protocol, health and metrics by HTTP
///
/// What it listens on is in [serve] of wattlake.toml, who may connect in [roles]. SIGTERM and
/// Ctrl-C stop it: queries have a few seconds to end.
#[derive(Debug, Args)]
pub struct Serve {
    /// How each line of the log is written to standard error
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

impl Serve {
    pub fn logs_json(&self) -> bool {
        self.log_format == LogFormat::Json
    }

    pub async fn run(self, root: &Path) -> Result<ExitCode> {
        serve::run(Warehouse::open(root)?).await?;
        Ok(ExitCode::SUCCESS)
    }
}
