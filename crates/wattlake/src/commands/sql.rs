use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, bail};
use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use clap::{Args, ValueEnum};
use lake::AsOf;
use sql::Session;
use sql::output::{self, Format};

use crate::system::LedgerTables;
use crate::warehouse::Warehouse;

/// Query the lake in SQL: one query, or an interactive session with history and completion
///
/// All tables of the lake can be read, and system.runs, system.events, system.transfers, system.marts, system.tables
/// and system.versions. An earlier state of a table: "measures@v3" or "measures@2026-01-31T00:00:00Z".
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

/// The formats of `--format`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum FormatName {
    Table,
    Csv,
    /// One array of objects
    Json,
    Parquet,
}

impl FormatName {
    /// The format of the crate `sql`.
    pub fn format(self) -> Format {
        match self {
            FormatName::Table => Format::Table,
            FormatName::Csv => Format::Csv,
            FormatName::Json => Format::Json,
            FormatName::Parquet => Format::Parquet,
        }
    }
}

/// A day means its first instant, UTC.
fn instant(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(at) = DateTime::parse_from_rfc3339(&text.replace(' ', "T")) {
        return Ok(at.to_utc());
    }
    for form in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M"] {
        if let Ok(at) = NaiveDateTime::parse_from_str(&text.replace(' ', "T"), form) {
            return Ok(at.and_utc());
        }
    }
    match NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        Ok(day) => Ok(day.and_time(chrono::NaiveTime::MIN).and_utc()),
        Err(_) => Err("write it as 2026-01-31, 2026-01-31 08:00 or 2026-01-31T08:00:00+01:00".into()),
    }
}

/// A session over the lake with system tables, marts and the warehouse's time zone.
pub async fn session(warehouse: &Warehouse, as_of: Option<AsOf>) -> Result<Session> {
    let lake = warehouse.lake().await?;
    let system = LedgerTables::of(&warehouse.ledger).with_marts(warehouse.config.clone(), lake.clone());
    let session = Session::new(lake, Arc::new(system), as_of)?.with_views(warehouse.config.views());
    Ok(session.with_time_zone(&warehouse.config.serve.timezone))
}

/// Runs one query and prints its rows as a table.
pub async fn print_query(warehouse: &Warehouse, query: &str) -> Result<()> {
    let session = session(warehouse, None).await?;
    print_with(&session, query, Format::Table, 10_000).await
}

/// Runs the queries of a text in turn and writes their rows to standard output, at most `max_rows` of each in a table.
pub async fn print_with(session: &Session, query: &str, format: Format, max_rows: u64) -> Result<()> {
    for statement in session.query(query).await? {
        let mut out = std::io::BufWriter::with_capacity(1 << 16, std::io::stdout());
        let written = output::write(statement, format, &mut out, max_rows).await?;
        out.flush()?;
        if written.rows > written.rows_shown {
            eprintln!(
                "showed {} of {} rows; --max-rows shows more, and --format csv, json or parquet writes all",
                written.rows_shown, written.rows
            );
        }
    }
    Ok(())
}

impl Sql {
    /// Runs the query, the session or the queries of standard input.
    pub async fn run(self, root: &Path) -> Result<ExitCode> {
        let warehouse = Warehouse::open(root)?;
        let session = session(&warehouse, self.as_of.map(AsOf::Instant)).await?;
        let format = self.format.format();
        if matches!(format, Format::Parquet) && std::io::stdout().is_terminal() {
            bail!("Parquet can't be written to a terminal: redirect it to a file with > result.parquet");
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
