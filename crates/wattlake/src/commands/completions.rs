use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

/// Print the completion script for a shell
#[derive(Debug, Args)]
pub struct Completions {
    shell: Shell,
}

impl Completions {
    /// Prints the script to standard output.
    pub fn run(self) -> Result<ExitCode> {
        clap_complete::generate(self.shell, &mut super::Arguments::command(), "wattlake", &mut std::io::stdout());
        Ok(ExitCode::SUCCESS)
    }
}
