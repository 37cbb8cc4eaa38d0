use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use chrono::{DateTime, Utc};
use clap::Args;
use lake::AsOf;
use sql::output::Format;

use super::query_output::{FormatName, print_with, session};
use crate::program::open_warehouse;
use crate::report;

/// Query the lake in SQL: one query, or an interactive session with history and completion
///
/// All tables of the lake can be read, and the state of the warehouse in system.runs, system.transfers, system.events,
/// system.queue, system.schedules, system.logs, system.marts, system.tables and system.versions. An earlier state of a
/// table: "measures@v3" or "measures@2026-01-31T00:00:00Z".
#[derive(Debug, Args)]
pub struct Sql {
    /// The query; without it, an interactive session on a terminal, else the queries of standard input
    query: Option<String>,
    /// The output format
    #[arg(long, default_value = "table")]
    format: FormatName,
    /// Read every table as of an instant: 2026-01-31, 2026-01-31T08:00:00Z
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    as_of: Option<DateTime<Utc>>,
    /// Show at most so many rows, with --format table
    #[arg(long, default_value_t = 10_000)]
    max_rows: u64,
}

/// A day means its first instant, UTC.
fn instant(text: &str) -> Result<DateTime<Utc>, String> {
    sql::instant::parse(text)
        .ok_or_else(|| "write it as 2026-01-31, 2026-01-31 08:00 or 2026-01-31T08:00:00+01:00".to_owned())
}

impl Sql {
    /// Runs the query, the session or the queries of standard input.
    pub async fn run(self, root: &Path) -> Result<ExitCode> {
        let warehouse = open_warehouse(root)?;
        let session = session(&warehouse, self.as_of.map(AsOf::Instant)).await?;
        let format = self.format.format();
        if matches!(format, Format::Parquet) && std::io::stdout().is_terminal() {
            let hint = "redirect it to a file with > result.parquet";
            return Err(report::input("Parquet can't be written to a terminal", hint));
        }
        match self.query {
            Some(query) => print_with(&session, &query, format, self.max_rows).await?,
            None if std::io::stdin().is_terminal() => {
                super::shell::run(session, self.format, self.max_rows, &warehouse).await?;
            }
            None => {
                let query = std::io::read_to_string(std::io::stdin())?;
                print_with(&session, &query, format, self.max_rows).await?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
