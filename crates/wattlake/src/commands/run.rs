use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use chrono::Utc;
use clap::Args;
use ledger::Entry;
use ledger::schedule::Period;
use serde_json::json;

use super::{mart, transfer};
use crate::config::Job;
use crate::flows;
use crate::flows::moment::{AS_OF, written};
use crate::jobs::{self, Asked, BrokenOff};
use crate::report;
use crate::serve;
use crate::text;
use crate::warehouse::Warehouse;

/// Run a job now, whatever its kind: transfer:platform, mart:daily, upkeep:lake
#[derive(Debug, Args)]
pub struct Run {
    /// Its kind and name; the name alone where it is the only one
    job: String,
    /// The period that it is for, such as 2026-09 or 2026-09-14; 2026-01..2026-09: one after the other
    #[arg(long = "for", value_name = "PERIOD")]
    period: Option<String>,
    /// Look at the world as it was known at an instant, 2026-04-02T06:00:00Z: functions and controls
    #[arg(long, value_name = "INSTANT")]
    as_of: Option<chrono::DateTime<Utc>>,
    /// Leave it to the server: queue it and return
    #[arg(long)]
    detach: bool,
    /// One JSON object a table or a run
    #[arg(long)]
    json: bool,
    /// The server's entry that is to be run
    #[arg(long, hide = true, requires = "attempt", conflicts_with_all = ["period", "detach"])]
    queued: Option<i64>,
    #[arg(long, hide = true)]
    attempt: Option<u32>,
}

impl Run {
    pub async fn run(self, root: &Path) -> Result<ExitCode> {
        let warehouse = Warehouse::open(root)?;
        let job = jobs::find(&warehouse, &self.job)?;
        if let (Some(id), Some(attempt)) = (self.queued, self.attempt) {
            let entry = warehouse.ledger.queued(id)?.with_context(|| format!("there is no entry {id} in the queue"))?;
            let asked = Asked { queued: Some((id, attempt)), ..Asked::by_queue(&entry)? };
            return carry(&warehouse, &job, &asked, self.json).await;
        }
        let periods = match &self.period {
            Some(text) => Period::range(text)?.into_iter().map(Some).collect(),
            None => vec![None],
        };
        if self.detach {
            return self.queue(&warehouse, &job, &periods);
        }
        let mut code = ExitCode::SUCCESS;
        let mut failed = 0;
        for (at, period) in periods.iter().enumerate() {
            if periods.len() > 1 {
                let period = period.map(|period| period.to_string()).unwrap_or_default();
                eprintln!("{} for {period} ({} of {})", job.full_name(), at + 1, periods.len());
            }
            let cause = if periods.len() > 1 { "backfill" } else { "hand" };
            let asked = Asked { period: *period, given: self.given(), ..Asked::by(cause) };
            match carry(&warehouse, &job, &asked, self.json).await {
                Ok(ended) if ended == ExitCode::SUCCESS => {}
                Ok(ended) => (code, failed) = (ended, failed + 1),
                // Whoever stops one means all.
                Err(error) if periods.len() == 1 || error.is::<BrokenOff>() => return Err(error),
                Err(error) => (code, failed) = (report::failure(&error), failed + 1),
            }
        }
        if failed > 0 && periods.len() > 1 {
            eprintln!("{failed} of {} runs failed", periods.len());
        }
        Ok(code)
    }

    fn given(&self) -> serde_json::Value {
        match self.as_of {
            Some(at) => json!({AS_OF: written(at)}),
            None => json!({}),
        }
    }

    fn queue(&self, warehouse: &Warehouse, job: &Job<'_>, periods: &[Option<Period>]) -> Result<ExitCode> {
        let cause = if periods.len() > 1 { "backfill" } else { "hand" };
        for period in periods {
            let now = Utc::now();
            let entry = Entry {
                job: job.full_name(),
                key: format!("{cause}/{}/{}/{}", job.full_name(), period.map_or(String::new(), |p| p.to_string()), now),
                cause: cause.to_owned(),
                logical: period.map(|period| period.to_string()),
                detail: self.given(),
                not_before: now,
            };
            let Some(id) = warehouse.ledger.enqueue(&entry)? else { bail!("{} was queued just now", entry.job) };
            match (self.json, &entry.logical) {
                (true, logical) => println!("{}", json!({"queued": id, "job": entry.job, "for": logical})),
                (false, Some(logical)) => println!("queued {} for {logical} as {id}", entry.job),
                (false, None) => println!("queued {} as {id}", entry.job),
            }
        }
        if !warehouse.ledger.is_held(serve::HELD)? {
            eprintln!("no server runs on this warehouse: it begins when `wattlake serve` does");
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Runs it by its kind, and shows what it came to.
async fn carry(warehouse: &Warehouse, job: &Job<'_>, asked: &Asked, json: bool) -> Result<ExitCode> {
    match job.kind {
        "transfer" => transfer::carry(warehouse, asked, job.name, transfer::RunOptions::default(), json).await,
        "mart" => {
            let figures = flows::mart::refresh(warehouse, asked, job.name, false).await?;
            mart::say(job.name, &figures, json);
            Ok(ExitCode::SUCCESS)
        }
        "function" => {
            let figures = flows::function::run(warehouse, asked, job.name).await?;
            say(job, &figures, json);
            Ok(ExitCode::SUCCESS)
        }
        "ingest" => ingest(warehouse, asked, job.name, json).await,
        "load" => load(warehouse, asked, job, json).await,
        "control" => control(warehouse, asked, job, json).await,
        "statement" => super::statement::issue(warehouse, asked, job.name, json).await,
        "upkeep" => upkeep(warehouse, asked, json).await,
        kind => bail!("{kind} is no kind of job"),
    }
}

fn say(job: &Job<'_>, figures: &serde_json::Value, json: bool) {
    if json {
        println!("{figures}");
        return;
    }
    let inputs = figures["inputs"].as_object().into_iter().flatten();
    let inputs: Vec<String> =
        inputs.map(|(name, rows)| format!("{name} {}", text::count(rows.as_u64().unwrap_or_default()))).collect();
    let number = |key: &str| figures[key].as_u64().unwrap_or_default();
    println!(
        "{}: version {} answered {} in {:.2} s (rows in: {})\nresult {}",
        job.full_name(),
        number("version"),
        text::bytes(number("result_bytes")),
        number("milliseconds") as f64 / 1e3,
        inputs.join(", "),
        figures["result"].as_str().unwrap_or_default()
    );
}

async fn ingest(warehouse: &Warehouse, asked: &Asked, name: &str, json: bool) -> Result<ExitCode> {
    let report = flows::ingest::run(warehouse, asked, name).await?;
    if json {
        for file in &report.files {
            println!("{}", json!({"file": file.name, "verdict": file.judged.as_str(), "faults": file.faults}));
        }
        return Ok(ExitCode::SUCCESS);
    }
    for file in &report.files {
        println!("{:<11} {}", file.judged.as_str(), file.name);
        for fault in &file.faults {
            println!("            {fault}");
        }
    }
    for (name, why) in &report.left {
        println!("{:<11} {name}: it {why}", "left");
    }
    let figures = report.figures();
    let count = |key: &str| text::count(figures[key].as_u64().unwrap_or_default());
    println!(
        "{} files came: {} accepted, {} quarantined, {} duplicates; {} unchanged",
        count("files"),
        count("accepted"),
        count("quarantined"),
        count("duplicates"),
        count("unchanged")
    );
    Ok(ExitCode::SUCCESS)
}

async fn load(warehouse: &Warehouse, asked: &Asked, job: &Job<'_>, json: bool) -> Result<ExitCode> {
    let figures = flows::load::run(warehouse, asked, job.name).await?;
    if json {
        println!("{figures}");
        return Ok(ExitCode::SUCCESS);
    }
    let count = |key: &str| text::count(figures[key].as_u64().unwrap_or_default());
    println!(
        "{}: {} rows of {} files and {} documents: {} new, {} changed, {} withdrawn, {} as they were",
        job.full_name(),
        count("rows"),
        count("files"),
        count("documents"),
        count("new"),
        count("changed"),
        count("withdrawn"),
        count("same")
    );
    Ok(ExitCode::SUCCESS)
}

async fn control(warehouse: &Warehouse, asked: &Asked, job: &Job<'_>, json: bool) -> Result<ExitCode> {
    let report = flows::control::run(warehouse, asked, job.name).await?;
    for verdict in &report.verdicts {
        if json {
            println!("{}", verdict.json());
        } else {
            println!("{}", verdict.told());
        }
    }
    Ok(if report.blocking().is_empty() { ExitCode::SUCCESS } else { ExitCode::from(report::code::FAILED) })
}

async fn upkeep(warehouse: &Warehouse, asked: &Asked, json: bool) -> Result<ExitCode> {
    let on_table = |table: &lake::TableReport| {
        if let Some(error) = &table.error {
            eprintln!("{}: {}", table.name, report::chain(error));
        }
    };
    let figures = flows::upkeep::run(warehouse, asked, &on_table).await?;
    if json {
        println!("{figures}");
    } else {
        let number = |key: &str| figures[key].as_u64().unwrap_or_default();
        println!(
            "{} tables: {} files packed into {}, {} files vacuumed ({}), {} checkpoints",
            number("tables"),
            number("packed_files"),
            number("into_files"),
            number("vacuumed_files"),
            text::bytes(number("vacuumed_bytes")),
            number("checkpoints")
        );
    }
    let is_well = figures["failed"] == 0;
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::from(report::code::RETRY) })
}
