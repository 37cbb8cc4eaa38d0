//! `lake optimize`: packs tables by hand, as a run in the ledger.

use std::process::ExitCode;

use anyhow::{Result, anyhow};
use base::text;
use clap::Args;
use config::Job;
use jobs::runs::{self, FlowOutcome, RunRequest};
use jobs::warehouse::Warehouse;
use lake::{PackOptions, PackSummary, Table};
use ledger::Outcome;
use serde_json::json;

use super::names::tables;

/// Pack small files, files with many hidden rows and unsorted files into big, sorted ones
///
/// The rows of the tables do not change. Old files stay for earlier versions until a vacuum.
#[derive(Debug, Args)]
pub struct Optimize {
    /// Only this table
    table: Option<String>,
    /// Sort by these columns in place of the key that the table was loaded with
    #[arg(long, value_delimiter = ',', requires = "table")]
    order: Vec<String>,
    /// Print what would be packed, and pack nothing
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object for each table
    #[arg(long)]
    json: bool,
}

impl Optimize {
    /// Packs the tables, or prints the preview.
    pub async fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        let pack = PackOptions { order: self.order.clone(), ..PackOptions::default() };
        if self.dry_run {
            return self.preview(warehouse, &pack).await;
        }
        let lake = warehouse.lake().await?;
        let names = tables(&lake, self.table.as_deref()).await?;
        let detail = json!({"optimize": self.table});
        let first = runs::run(warehouse, Job::Upkeep(&warehouse.config.upkeep), &RunRequest::by_hand(), detail, async |run| {
            let (mut rows, mut total, mut failed) = (Vec::new(), PackSummary::default(), Vec::new());
            for name in &names {
                eprintln!("packing {name}");
                let packed = match lake.table(name).await {
                    Ok(Some(table)) => table.pack(run.id(), &pack).await,
                    Ok(None) => continue,
                    Err(error) => Err(error),
                };
                match packed {
                    Ok(packed) => {
                        total.files_before += packed.files_before;
                        total.files_after += packed.files_after;
                        total.bytes_before += packed.bytes_before;
                        total.bytes_after += packed.bytes_after;
                        rows.push(self.row(&name.to_string(), &packed));
                    }
                    Err(error) => {
                        eprintln!("{name}: {}", base::chain(&error));
                        failed.push((name.clone(), error));
                    }
                }
            }
            let outcome = match failed.len() {
                0 => Outcome::Succeeded,
                count => Outcome::Failed {
                    error: format!("{count} of {} tables could not be packed", names.len()),
                    retryable: failed.iter().all(|(_, error)| error.kind == lake::Kind::Retry),
                },
            };
            let figures = json!({
                "tables": names.len(), "failed": failed.len(), "files_before": total.files_before,
                "files_after": total.files_after, "bytes_before": total.bytes_before, "bytes_after": total.bytes_after,
            });
            self.print(&rows);
            Ok(FlowOutcome { output: failed.into_iter().next(), outcome, figures })
        })
        .await?;
        match first {
            None => Ok(ExitCode::SUCCESS),
            Some((name, error)) => Err(anyhow!(error).context(format!("pack {name}"))),
        }
    }

    async fn preview(&self, warehouse: &Warehouse, pack: &PackOptions) -> Result<ExitCode> {
        let lake = warehouse.lake().await?;
        let mut rows = Vec::new();
        for name in tables(&lake, self.table.as_deref()).await? {
            let Some(table) = lake.table(&name).await? else { continue };
            let packed = Table::pack_preview(&table, pack)?;
            rows.push(self.row(&name.to_string(), &packed));
        }
        self.print(&rows);
        Ok(ExitCode::SUCCESS)
    }

    /// Prints the result of a table as JSON, or returns it as a row of the table to print at the end.
    fn row(&self, name: &str, packed: &PackSummary) -> Vec<String> {
        if self.json {
            let mut shown = json!({
                "table": name, "files_before": packed.files_before, "bytes_before": packed.bytes_before,
                "rows": packed.rows, "rows_purged": packed.rows_purged, "dry_run": self.dry_run,
            });
            if !self.dry_run {
                shown["files_after"] = packed.files_after.into();
                shown["bytes_after"] = packed.bytes_after.into();
            }
            println!("{shown}");
        }
        let mut line = vec![name.to_owned(), packed.files_before.to_string(), text::bytes(packed.bytes_before)];
        if !self.dry_run {
            line.extend([packed.files_after.to_string(), text::bytes(packed.bytes_after)]);
        }
        line.extend([text::count(packed.rows), text::count(packed.rows_purged)]);
        line
    }

    fn print(&self, rows: &[Vec<String>]) {
        if self.json {
            return;
        }
        let header: &[&str] = if self.dry_run {
            &["table", ">files", ">size", ">rows", ">purged"]
        } else {
            &["table", ">files before", ">size before", ">files after", ">size after", ">rows", ">purged"]
        };
        print!("{}", text::table(header, rows));
    }
}
