use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;

use crate::config;
use crate::program::{program, quoted};

/// Write a commented warehouse to start from
#[derive(Debug, Args)]
pub struct Init {
    /// The folder, made where it is missing
    dir: PathBuf,
    /// The example's billing flow with it (layouts, loads, an algorithm in R, controls, statements), or into a
    /// warehouse that is there
    #[arg(long)]
    billing: bool,
}

impl Init {
    pub fn run(self) -> Result<ExitCode> {
        let files = config::init(&self.dir, self.billing)
            .with_context(|| format!("start a warehouse in {}", self.dir.display()))?;
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
