use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use base::text;
use chrono::TimeDelta;
use clap::{Args, Subcommand};
use jobs::flows::upkeep::life;
use jobs::warehouse::Warehouse;
use serde_json::json;

mod names;
mod optimize;

use crate::program::open_warehouse;
use names::tables;
use optimize::Optimize;

/// The lake's tables and their upkeep
#[derive(Debug, Subcommand)]
pub enum Lake {
    List(List),
    Describe(Describe),
    Optimize(Optimize),
    Vacuum(Vacuum),
}

impl Lake {
    /// Opens the warehouse and runs the subcommand.
    pub async fn run(self, root: &Path) -> Result<ExitCode> {
        let warehouse = open_warehouse(root)?;
        match self {
            Lake::List(command) => command.run(&warehouse).await,
            Lake::Describe(command) => command.run(&warehouse).await,
            Lake::Optimize(command) => command.run(&warehouse).await,
            Lake::Vacuum(command) => command.run(&warehouse).await,
        }
    }
}

/// List the tables with their rows, files and bytes
#[derive(Debug, Args)]
pub struct List {
    /// Print one JSON object for each table
    #[arg(long)]
    json: bool,
}

impl List {
    async fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        let lake = warehouse.lake().await?;
        let mut rows = Vec::new();
        for name in lake.tables().await? {
            let Some(table) = lake.table(&name).await? else { continue };
            let size = table.size()?;
            let bytes_per_row = size.bytes as f64 / size.rows.max(1) as f64;
            if self.json {
                println!(
                    "{}",
                    json!({"table": name.to_string(), "version": table.version(), "rows": size.rows,
                           "files": size.files, "bytes": size.bytes, "bytes_per_row": bytes_per_row})
                );
            }
            rows.push(vec![
                name.to_string(),
                table.version().to_string(),
                text::count(size.rows),
                size.files.to_string(),
                text::bytes(size.bytes),
                format!("{bytes_per_row:.2}"),
            ]);
        }
        if !self.json {
            print!("{}", text::table(&["table", ">version", ">rows", ">files", ">size", ">bytes per row"], &rows));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Show a table's columns and its versions
#[derive(Debug, Args)]
pub struct Describe {
    table: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Describe {
    async fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        let lake = warehouse.lake().await?;
        let Some(name) = tables(&lake, Some(&self.table)).await?.pop() else { return Ok(ExitCode::SUCCESS) };
        let Some(table) = lake.table(&name).await? else {
            bail!(base::Error::retry(format!("the table {name} was removed meanwhile")))
        };
        let (schema, history) = (table.schema()?, table.history().await?);
        if self.json {
            let columns: Vec<_> =
                schema.fields().iter().map(|f| json!({"name": f.name(), "type": f.data_type().to_string()})).collect();
            let versions: Vec<_> = history
                .iter()
                .map(|v| json!({"version": v.version, "at": v.at.map(|at| at.to_rfc3339()), "operation": v.operation, "run": v.run,
                                "rows_added": v.rows_added, "rows_removed": v.rows_removed}))
                .collect();
            println!(
                "{}",
                json!({"table": name.to_string(), "url": lake.table_url(&name)?.to_string(), "columns": columns, "versions": versions})
            );
            return Ok(ExitCode::SUCCESS);
        }
        println!("{name} at {}\n", lake.table_url(&name)?);
        let rows: Vec<Vec<String>> =
            schema.fields().iter().map(|f| vec![f.name().clone(), f.data_type().to_string()]).collect();
        println!("{}", text::table(&["column", "type"], &rows));
        let rows: Vec<Vec<String>> = history
            .iter()
            .map(|v| {
                vec![
                    v.version.to_string(),
                    v.at.map(|at| at.format("%Y-%m-%d %H:%M:%S%.3f").to_string()).unwrap_or_default(),
                    v.operation.clone(),
                    v.rows_added.map(text::count).unwrap_or_default(),
                    v.rows_removed.map(text::count).unwrap_or_default(),
                ]
            })
            .collect();
        print!("{}", text::table(&[">version", "at (UTC)", "operation", ">rows in", ">rows out"], &rows));
        Ok(ExitCode::SUCCESS)
    }
}

/// Remove files that no kept version needs, and files that a crash left behind
///
/// Files of running jobs are never removed. Versions younger than the retention stay readable.
#[derive(Debug, Args)]
pub struct Vacuum {
    /// Only this table
    table: Option<String>,
    /// Keep the versions of the last days, so many
    #[arg(long, default_value_t = lake::RETENTION_DAYS)]
    retain_days: i64,
    /// Print what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object for each table
    #[arg(long)]
    json: bool,
}

impl Vacuum {
    async fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        let lake = warehouse.lake().await?;
        let life = life(&warehouse.ledger);
        let mut rows = Vec::new();
        for name in tables(&lake, self.table.as_deref()).await? {
            let Some(table) = lake.table(&name).await? else { continue };
            let vacuumed = table.vacuum(Some(TimeDelta::days(self.retain_days)), &life, self.dry_run).await?;
            if self.json {
                println!(
                    "{}",
                    json!({"table": name.to_string(), "orphans": vacuumed.orphans, "expired": vacuumed.expired,
                           "bytes": vacuumed.bytes, "dry_run": self.dry_run})
                );
            }
            rows.push(vec![
                name.to_string(),
                vacuumed.orphans.to_string(),
                vacuumed.expired.to_string(),
                text::bytes(vacuumed.bytes),
            ]);
        }
        for name in lake.uncommitted().await? {
            let removed = if self.dry_run { 0 } else { lake.sweep_uncommitted(&name, &life).await? };
            rows.push(vec![format!("{name} (never committed)"), removed.to_string(), "0".into(), String::new()]);
        }
        if !self.json {
            print!("{}", text::table(&["table", ">orphans", ">expired", ">freed"], &rows));
        }
        Ok(ExitCode::SUCCESS)
    }
}
