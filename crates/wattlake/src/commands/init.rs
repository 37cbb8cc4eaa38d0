use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use config::ExampleFlows;

use crate::program::{program, quoted};

/// Write a new warehouse with comments to start from
#[derive(Debug, Args)]
pub struct Init {
    /// The folder, created where it does not exist
    dir: PathBuf,
    /// Add the example's billing flow (layouts, loads, an algorithm in R, controls, statements), also to an existing
    /// warehouse
    #[arg(long)]
    billing: bool,
    /// Add the example's forecast flow (collects, a forecaster in Python, its endpoint, predictions), also to an existing
    /// warehouse
    #[arg(long)]
    forecast: bool,
}

impl Init {
    /// Writes the files and prints their paths and the next commands.
    pub fn run(self) -> Result<ExitCode> {
        let files = config::init(&self.dir, ExampleFlows { billing: self.billing, forecast: self.forecast })
            .with_context(|| format!("create a warehouse in {}", self.dir.display()))?;
        for file in &files {
            println!("{}", file.display());
        }
        if files.iter().any(|file| file.ends_with("wattlake.toml")) {
            eprintln!("next: edit the connection in {}, then", self.dir.join("wattlake.toml").display());
            eprintln!("  export PLATFORM_PASSWORD=...");
        } else {
            eprintln!("next:");
        }
        eprintln!("  {} -C {} check", program(), quoted(&self.dir));
        Ok(ExitCode::SUCCESS)
    }
}
