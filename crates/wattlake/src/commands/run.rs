use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use base::text;
use chrono::Utc;
use clap::Args;
use config::Job;
use jobs::failure::Interruption;
use jobs::flows;
use jobs::flows::moment::{AS_OF, instant_text};
use jobs::runs::{RunRequest, SERVICE};
use jobs::warehouse::Warehouse;
use ledger::QueueEntry;
use schedule::Period;
use serde_json::json;

use super::{mart, transfer};
use crate::program::open_warehouse;
use crate::report;

/// Run a job now, whatever its kind: transfer:platform, mart:daily, upkeep:lake
#[derive(Debug, Args)]
pub struct Run {
    /// The job's kind and name, or its name where no other job has it
    job: String,
    /// The period to run for, such as 2026-09 or 2026-09-14; 2026-01..2026-09 runs for each month in turn
    #[arg(long = "for", value_name = "PERIOD")]
    period: Option<String>,
    /// For functions, controls, trainings and predictions: what was known at an instant, such as 2026-04-02T06:00:00Z
    #[arg(long, value_name = "INSTANT")]
    as_of: Option<chrono::DateTime<Utc>>,
    /// Put it into the server's queue and return
    #[arg(long)]
    detach: bool,
    /// Print one JSON object for each table or run
    #[arg(long)]
    json: bool,
    /// The entry of the server's queue to run
    #[arg(long, hide = true, requires = "attempt", conflicts_with_all = ["period", "detach"])]
    queued: Option<i64>,
    /// Which attempt of the entry it is, from 1
    #[arg(long, hide = true)]
    attempt: Option<u32>,
    /// Run a service, which ends with the process that starts it
    #[arg(long, hide = true, conflicts_with_all = ["period", "detach", "queued"])]
    service: bool,
}

impl Run {
    /// Runs or queues the job, once for each period; the exit code is that of the last failure.
    pub async fn run(self, root: &Path) -> Result<ExitCode> {
        let warehouse = open_warehouse(root)?;
        let job = warehouse.job(&self.job)?;
        if let (Some(id), Some(attempt)) = (self.queued, self.attempt) {
            let entry = warehouse.ledger.queue_entry(id)?.with_context(|| format!("the queue has no entry {id}"))?;
            let request = RunRequest { queued: Some((id, attempt)), ..RunRequest::by_queue(&entry)? };
            return run_job(&warehouse, &job, &request, self.json).await;
        }
        if self.service {
            return run_job(&warehouse, &job, &RunRequest::by(SERVICE), self.json).await;
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
            let request = RunRequest { period: *period, parameters: self.parameters(), ..RunRequest::by(cause) };
            match run_job(&warehouse, &job, &request, self.json).await {
                Ok(ended) if ended == ExitCode::SUCCESS => {}
                Ok(ended) => (code, failed) = (ended, failed + 1),
                // A user who interrupts one run means all of them.
                Err(error) if periods.len() == 1 || error.is::<Interruption>() => return Err(error),
                Err(error) => (code, failed) = (report::failure(&error), failed + 1),
            }
        }
        if failed > 0 && periods.len() > 1 {
            eprintln!("{failed} of {} runs failed", periods.len());
        }
        Ok(code)
    }

    fn parameters(&self) -> serde_json::Value {
        match self.as_of {
            Some(at) => json!({AS_OF: instant_text(at)}),
            None => json!({}),
        }
    }

    fn queue(&self, warehouse: &Warehouse, job: &Job<'_>, periods: &[Option<Period>]) -> Result<ExitCode> {
        let cause = if periods.len() > 1 { "backfill" } else { "hand" };
        for period in periods {
            let now = Utc::now();
            let entry = QueueEntry {
                job: job.full_name(),
                key: format!("{cause}/{}/{}/{}", job.full_name(), period.map_or(String::new(), |p| p.to_string()), now),
                cause: cause.to_owned(),
                logical: period.map(|period| period.to_string()),
                detail: self.parameters(),
                not_before: now,
            };
            let Some(id) = warehouse.ledger.enqueue(&entry)? else {
                bail!(base::Error::retry(format!("{} is queued already", entry.job)))
            };
            match (self.json, &entry.logical) {
                (true, logical) => println!("{}", json!({"queued": id, "job": entry.job, "for": logical})),
                (false, Some(logical)) => println!("queued {} for {logical} as {id}", entry.job),
                (false, None) => println!("queued {} as {id}", entry.job),
            }
        }
        if !warehouse.ledger.is_lease_held(server::SERVER_LOCK)? {
            eprintln!("no server runs on this warehouse: the job starts once `wattlake serve` runs");
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Runs a job in this process, by its kind, and prints its result.
async fn run_job(warehouse: &Warehouse, job: &Job<'_>, request: &RunRequest, json: bool) -> Result<ExitCode> {
    let name = job.name();
    match job {
        Job::Transfer(_) => {
            transfer::run_transfer(warehouse, request, name, transfer::RunOptions::default(), json).await
        }
        Job::Mart(_) => {
            let figures = flows::mart::refresh(warehouse, request, name, false).await?;
            mart::print_refresh(name, &figures, json);
            Ok(ExitCode::SUCCESS)
        }
        Job::Function(..) => {
            let figures = flows::function::run(warehouse, request, name).await?;
            print_function_run(job, &figures, json);
            Ok(ExitCode::SUCCESS)
        }
        Job::Ingest(_) => ingest(warehouse, request, name, json).await,
        Job::Collect(_) => super::collect::run(warehouse, request, name, json).await,
        Job::Load(_) => load(warehouse, request, job, json).await,
        Job::Control(_) => control(warehouse, request, job, json).await,
        Job::Statement(_) => super::statement::issue(warehouse, request, name, json).await,
        Job::Training(_) => {
            let figures = flows::training::run(warehouse, request, name, std::sync::Arc::new(|_| ())).await?;
            super::model::print_training(&figures, json);
            Ok(ExitCode::SUCCESS)
        }
        Job::Prediction(_) => {
            let figures = flows::prediction::run(warehouse, request, name).await?;
            print_prediction(name, &figures, json);
            Ok(ExitCode::SUCCESS)
        }
        Job::Upkeep(_) => upkeep(warehouse, request, json).await,
    }
}

fn print_function_run(job: &Job<'_>, figures: &serde_json::Value, json: bool) {
    if json {
        println!("{figures}");
        return;
    }
    let inputs = figures["inputs"].as_object().into_iter().flatten();
    let inputs: Vec<String> =
        inputs.map(|(name, rows)| format!("{name} {}", text::count(rows.as_u64().unwrap_or_default()))).collect();
    let number = |key: &str| figures[key].as_u64().unwrap_or_default();
    println!(
        "{}: version {} answered {} in {:.2} s{}\nresult {}",
        job.full_name(),
        number("version"),
        text::bytes(number("result_bytes")),
        number("milliseconds") as f64 / 1e3,
        if inputs.is_empty() { String::new() } else { format!(" (input rows: {})", inputs.join(", ")) },
        figures["result"].as_str().unwrap_or_default()
    );
}

fn print_prediction(name: &str, figures: &serde_json::Value, json: bool) {
    let count = |key: &str| text::count(figures[key].as_u64().unwrap_or_default());
    let issued_at = figures["issued_at"].as_str().unwrap_or_default();
    match figures["known"].as_u64() {
        _ if json => println!("{figures}"),
        Some(1..) => println!("prediction:{name}: {} rows issued at {issued_at} are there already", count("known")),
        _ => println!(
            "prediction:{name}: {} rows issued at {issued_at} by variant {}, from {} rows",
            count("rows"),
            figures["variant"].as_str().unwrap_or_default(),
            count("sent")
        ),
    }
}

async fn ingest(warehouse: &Warehouse, request: &RunRequest, name: &str, json: bool) -> Result<ExitCode> {
    let report = flows::ingest::run(warehouse, request, name).await?;
    if json {
        for file in &report.files {
            println!("{}", json!({"file": file.name, "verdict": file.verdict.as_str(), "faults": file.faults}));
        }
        return Ok(ExitCode::SUCCESS);
    }
    for file in &report.files {
        println!("{:<11} {}", file.verdict.as_str(), file.name);
        for fault in &file.faults {
            println!("            {fault}");
        }
    }
    for (name, why) in &report.skipped {
        println!("{:<11} {name}: it {why}", "left");
    }
    let figures = report.figures();
    let count = |key: &str| text::count(figures[key].as_u64().unwrap_or_default());
    let unpacked = match figures["unpacked"].as_u64() {
        None | Some(0) => String::new(),
        Some(archives) => format!(", {} unpacked", text::count(archives)),
    };
    println!(
        "{} files arrived: {} accepted, {} quarantined, {} duplicates{unpacked}; {} unchanged",
        count("files"),
        count("accepted"),
        count("quarantined"),
        count("duplicates"),
        count("unchanged")
    );
    Ok(ExitCode::SUCCESS)
}

async fn load(warehouse: &Warehouse, request: &RunRequest, job: &Job<'_>, json: bool) -> Result<ExitCode> {
    let figures = flows::load::run(warehouse, request, job.name()).await?;
    if json {
        println!("{figures}");
        return Ok(ExitCode::SUCCESS);
    }
    let count = |key: &str| text::count(figures[key].as_u64().unwrap_or_default());
    println!(
        "{}: {} rows of {} files and {} documents: {} new, {} changed, {} withdrawn, {} unchanged",
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

async fn control(warehouse: &Warehouse, request: &RunRequest, job: &Job<'_>, json: bool) -> Result<ExitCode> {
    let report = flows::control::run(warehouse, request, job.name()).await?;
    for verdict in &report.verdicts {
        if json {
            println!("{}", verdict.json());
        } else {
            println!("{}", verdict.summary());
        }
    }
    Ok(if report.blocking().is_empty() { ExitCode::SUCCESS } else { ExitCode::from(report::code::FAILED) })
}

async fn upkeep(warehouse: &Warehouse, request: &RunRequest, json: bool) -> Result<ExitCode> {
    let on_table = |table: &lake::TableUpkeepReport| {
        if let Some(error) = &table.error {
            eprintln!("{}: {}", table.name, base::chain(error));
        }
    };
    let figures = flows::upkeep::run(warehouse, request, &on_table).await?;
    if json {
        println!("{figures}");
    } else {
        let number = |key: &str| figures[key].as_u64().unwrap_or_default();
        println!(
            "{}: {} files packed into {}, {} files vacuumed ({}), {} checkpoints",
            text::quantity(number("tables"), "table"),
            number("packed_files"),
            number("into_files"),
            number("vacuumed_files"),
            text::bytes(number("vacuumed_bytes")),
            number("checkpoints")
        );
    }
    let is_success = figures["failed"] == 0;
    Ok(if is_success { ExitCode::SUCCESS } else { ExitCode::from(report::code::RETRY) })
}
