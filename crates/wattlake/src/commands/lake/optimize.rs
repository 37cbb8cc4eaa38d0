//! `lake optimize`: packs tables by hand, as a run of the ledger like any other.

use std::process::ExitCode;

use anyhow::{Result, anyhow};
use clap::Args;
use lake::{Pack, Packed, Table};
use ledger::Outcome;
use serde_json::json;

use super::tables;
use crate::config::job::UPKEEP;
use crate::jobs::{self, Asked, Ended};
use crate::report;
use crate::text;
use crate::warehouse::Warehouse;

/// Pack small files, files with many hidden rows and unsorted files into big, sorted ones
///
/// What the tables show stays the same. Old files stay for earlier versions until a vacuum.
#[derive(Debug, Args)]
pub struct Optimize {
    /// Only this table
    table: Option<String>,
    /// Sort by these columns instead of the key that the table was loaded with
    #[arg(long, value_delimiter = ',', requires = "table")]
    order: Vec<String>,
    /// Say what would be packed, and pack nothing
    #[arg(long)]
    dry_run: bool,
    /// One JSON object a table
    #[arg(long)]
    json: bool,
}

impl Optimize {
    pub async fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        let pack = Pack { order: self.order.clone(), ..Pack::default() };
        if self.dry_run {
            return self.preview(warehouse, &pack).await;
        }
        let lake = warehouse.lake().await?;
        let names = tables(&lake, self.table.as_deref()).await?;
        let detail = json!({"optimize": self.table});
        let first = jobs::run(warehouse, UPKEEP, &Asked::by_hand(), detail, async |run| {
            let (mut rows, mut total, mut failed) = (Vec::new(), Packed::default(), Vec::new());
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
                        rows.push(self.told(&name.to_string(), &packed));
                    }
                    Err(error) => {
                        eprintln!("{name}: {}", report::chain(&error));
                        failed.push((name.clone(), error));
                    }
                }
            }
            let outcome = match failed.len() {
                0 => Outcome::Succeeded,
                count => Outcome::Failed { error: format!("{count} of {} tables could not be packed", names.len()) },
            };
            let figures = json!({
                "tables": names.len(), "failed": failed.len(), "files_before": total.files_before,
                "files_after": total.files_after, "bytes_before": total.bytes_before, "bytes_after": total.bytes_after,
            });
            self.print(&rows);
            let may_pass = failed.iter().all(|(_, error)| error.kind == lake::Kind::Retry);
            Ok(Ended { shown: failed.into_iter().next(), outcome, figures, may_pass })
        })
        .await?;
        match first {
            None => Ok(ExitCode::SUCCESS),
            Some((name, error)) => Err(anyhow!(error).context(format!("pack {name}"))),
        }
    }

    async fn preview(&self, warehouse: &Warehouse, pack: &Pack) -> Result<ExitCode> {
        let lake = warehouse.lake().await?;
        let mut rows = Vec::new();
        for name in tables(&lake, self.table.as_deref()).await? {
            let Some(table) = lake.table(&name).await? else { continue };
            let packed = Table::to_pack(&table, pack)?;
            rows.push(self.told(&name.to_string(), &packed));
        }
        self.print(&rows);
        Ok(ExitCode::SUCCESS)
    }

    /// As JSON at once, or as a line of the table that is printed at the end.
    fn told(&self, name: &str, packed: &Packed) -> Vec<String> {
        if self.json {
            let mut told = json!({
                "table": name, "files_before": packed.files_before, "bytes_before": packed.bytes_before,
                "rows": packed.rows, "rows_purged": packed.rows_purged, "dry_run": self.dry_run,
            });
            if !self.dry_run {
                told["files_after"] = packed.files_after.into();
                told["bytes_after"] = packed.bytes_after.into();
            }
            println!("{told}");
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
