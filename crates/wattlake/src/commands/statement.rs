use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use base::text;
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use jobs::flows::moment::{AS_OF, instant_text};
use jobs::flows::rows;
use jobs::flows::statement::{self, Entry, entries, euros};
use jobs::runs::RunRequest;
use jobs::warehouse::Warehouse;
use lake::TableName;
use schedule::Period;
use serde_json::{Value, json};

use crate::program::open_warehouse;
use crate::report::code;

/// Bills as documents, by statements/NAME.toml; `wattlake run statement:NAME` issues them
#[derive(Debug, Subcommand)]
pub enum Statement {
    List(List),
    Draft(Draft),
}

impl Statement {
    /// Opens the warehouse and runs the subcommand.
    pub async fn run(self, root: &Path) -> Result<ExitCode> {
        let warehouse = open_warehouse(root)?;
        match self {
            Statement::List(command) => command.run(&warehouse).await,
            Statement::Draft(command) => command.run(&warehouse).await,
        }
    }
}

/// List issued statements
#[derive(Debug, Args)]
pub struct List {
    /// Only statements of this month, such as 2026-09
    #[arg(long = "for", value_name = "PERIOD")]
    period: Option<Period>,
    /// Print one JSON object for each statement
    #[arg(long)]
    json: bool,
}

impl List {
    async fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        let lake = warehouse.lake().await?;
        let session = rows::session(warehouse, &lake)?;
        let period = self.period.map(|period| period.to_string());
        let mut shown = Vec::new();
        for config in warehouse.config.statements.values() {
            let all = entries(&session, &TableName::new(&config.schema, &config.table)).await?;
            let wanted = |entry: &Entry| {
                entry.statement == config.name && period.as_ref().is_none_or(|period| entry.period == *period)
            };
            for entry in all.into_iter().filter(wanted) {
                let file = config.folder.join(&entry.period).join(format!("{}.html", entry.number));
                if self.json {
                    println!("{}", json_of(&entry, &file));
                    continue;
                }
                let issued = entry.issued_at.format("%Y-%m-%d").to_string();
                let replaces = entry.replaces.clone().unwrap_or_default();
                let due = euros(entry.cents + entry.vat_cents);
                shown.push(vec![entry.number, entry.producer, issued, due, replaces]);
            }
        }
        if !self.json {
            print!("{}", text::table(&["number", "producer", "issued", ">EUR due", "in place of"], &shown));
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn json_of(entry: &Entry, page: &Path) -> Value {
    json!({
        "statement": entry.statement, "number": entry.number, "for": entry.period, "producer_id": entry.producer_id,
        "producer": entry.producer, "replaces": entry.replaces, "issued_at": instant_text(entry.issued_at),
        "lines": entry.lines, "amount_cents": entry.cents, "vat_cents": entry.vat_cents, "page": page, "workbook": page.with_extension("xlsx"),
        "page_sha256": entry.page.to_string(), "workbook_sha256": entry.workbook.to_string(),
    })
}

/// Write drafts of a month's pages and workbooks; nothing is issued
#[derive(Debug, Args)]
pub struct Draft {
    /// The statement's name, as in statements/NAME.toml
    name: String,
    /// The month, such as 2026-09
    #[arg(long = "for", value_name = "PERIOD")]
    period: Period,
    /// Only this producer's
    #[arg(long, value_name = "ID")]
    producer: Option<String>,
    /// Read tables as of an instant
    #[arg(long, value_name = "INSTANT")]
    as_of: Option<DateTime<Utc>>,
}

impl Draft {
    async fn run(self, warehouse: &Warehouse) -> Result<ExitCode> {
        let parameters = self.as_of.map_or(json!({}), |at| json!({AS_OF: instant_text(at)}));
        let request = RunRequest { period: Some(self.period), parameters, ..RunRequest::by_hand() };
        for file in statement::drafts(warehouse, &request, &self.name, self.producer.as_deref()).await? {
            println!("{}", file.display());
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Issues statements as a run of their job, and prints them. Returns a failure where a control blocks them.
pub async fn issue(warehouse: &Warehouse, request: &RunRequest, name: &str, json: bool) -> Result<ExitCode> {
    let report = statement::run(warehouse, request, name).await?;
    for issued in &report.issued {
        if json {
            println!("{}", json_of(&issued.entry, &issued.page));
        } else {
            let due = euros(issued.entry.cents + issued.entry.vat_cents);
            println!("{:<24} {due:>16} EUR  {}", issued.entry.number, issued.page.display());
        }
    }
    for verdict in &report.failed {
        if json {
            println!("{}", verdict.json());
        } else {
            println!("{}", verdict.summary());
        }
    }
    for (producer, controls) in &report.held {
        if json {
            println!("{}", json!({"held": producer, "controls": controls}));
        } else {
            println!("{:<24} held back by {}", producer, controls.join(", "));
        }
    }
    for (producer, reason) in &report.refused {
        if json {
            println!("{}", json!({"refused": producer, "reason": reason}));
        } else {
            println!("{producer:<24} refused: {reason}");
        }
    }
    if let (Some(notice), false) = (report.notice, json) {
        println!("note: {notice}");
    }
    if !json {
        println!("{}", report.summary());
    }
    let Some(error) = report.error() else { return Ok(ExitCode::SUCCESS) };
    match report.held.is_empty() {
        true => eprintln!("{error}"),
        false => eprintln!("{error}: correct what they found, or waive it with `wattlake control waive`"),
    }
    Ok(ExitCode::from(code::FAILED))
}
