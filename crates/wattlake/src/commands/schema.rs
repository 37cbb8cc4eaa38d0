use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::config::{Which, json_schema};

/// Print the JSON schema of a configuration file, for editors
#[derive(Debug, Args)]
pub struct Schema {
    file: File,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum File {
    /// wattlake.toml
    Warehouse,
    /// transfers/NAME.toml
    Transfer,
    /// The lines of marts/NAME.sql that begin with --|
    Mart,
    /// layers/NAME.toml
    Layer,
    /// functions/NAME/job.toml
    FunctionJob,
    /// ingests/NAME.toml
    Ingest,
    /// loads/NAME.toml
    Load,
    /// controls/NAME.toml
    Controls,
    /// The lines of controls/NAME/CONTROL.sql that begin with --|
    Control,
    /// statements/NAME.toml
    Statement,
}

impl Schema {
    pub fn run(self) -> Result<ExitCode> {
        let which = match self.file {
            File::Warehouse => Which::Warehouse,
            File::Transfer => Which::Transfer,
            File::Mart => Which::Mart,
            File::Layer => Which::Layer,
            File::FunctionJob => Which::Call,
            File::Ingest => Which::Ingest,
            File::Load => Which::Load,
            File::Controls => Which::Controls,
            File::Control => Which::Control,
            File::Statement => Which::Statement,
        };
        println!("{}", serde_json::to_string_pretty(&json_schema(which))?);
        Ok(ExitCode::SUCCESS)
    }
}
