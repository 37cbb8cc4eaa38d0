use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, ValueEnum};
use config::{FileKind, json_schema};

/// Print the JSON schema of a kind of configuration file, for editors
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
    /// collects/NAME.toml
    Collect,
    /// loads/NAME.toml
    Load,
    /// controls/NAME.toml
    Controls,
    /// The lines of controls/NAME/CONTROL.sql that begin with --|
    Control,
    /// statements/NAME.toml
    Statement,
    /// containers/NAME/container.toml
    Container,
    /// endpoints/NAME.toml
    Endpoint,
    /// trainings/NAME.toml
    Training,
    /// predictions/NAME.toml
    Prediction,
    /// layouts/NAME.toml
    Layout,
}

impl Schema {
    /// Prints the schema.
    pub fn run(self) -> Result<ExitCode> {
        let kind = match self.file {
            File::Warehouse => FileKind::Warehouse,
            File::Transfer => FileKind::Transfer,
            File::Mart => FileKind::Mart,
            File::Layer => FileKind::Layer,
            File::FunctionJob => FileKind::FunctionJob,
            File::Ingest => FileKind::Ingest,
            File::Collect => FileKind::Collect,
            File::Load => FileKind::Load,
            File::Controls => FileKind::Controls,
            File::Control => FileKind::Control,
            File::Statement => FileKind::Statement,
            File::Container => FileKind::Container,
            File::Endpoint => FileKind::Endpoint,
            File::Training => FileKind::Training,
            File::Prediction => FileKind::Prediction,
            File::Layout => {
                print!("{}", ingest::layout::JSON_SCHEMA);
                return Ok(ExitCode::SUCCESS);
            }
        };
        println!("{}", serde_json::to_string_pretty(&json_schema(kind))?);
        Ok(ExitCode::SUCCESS)
    }
}
