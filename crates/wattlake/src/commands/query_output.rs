//! Runs queries over the lake for a command and prints their rows.

use std::io::Write;
use std::sync::Arc;

use anyhow::Result;
use clap::ValueEnum;
use jobs::system::LedgerTables;
use jobs::warehouse::Warehouse;
use lake::AsOf;
use sql::Session;
use sql::output::{self, Format};

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
