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
}

impl Schema {
    pub fn run(self) -> Result<ExitCode> {
        let which = match self.file {
            File::Warehouse => Which::Warehouse,
            File::Transfer => Which::Transfer,
            File::Mart => Which::Mart,
        };
        println!("{}", serde_json::to_string_pretty(&json_schema(which))?);
        Ok(ExitCode::SUCCESS)
    }
}
