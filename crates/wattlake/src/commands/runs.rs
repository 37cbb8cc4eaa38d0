use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use base::text;
use clap::Args;
use jobs::system::{EVENTS, RUNS};

use crate::program::open_warehouse;

/// List the runs of all jobs, the newest first
#[derive(Debug, Args)]
pub struct Runs {
    /// Only this job, such as transfer:platform; also one that is not configured any more
    job: Option<String>,
    /// At most so many runs
    #[arg(long, default_value_t = 20)]
    limit: usize,
    /// Print one JSON object for each run
    #[arg(long)]
    json: bool,
}

impl Runs {
    /// Prints the runs.
    pub fn run(self, root: &Path) -> Result<ExitCode> {
        let warehouse = open_warehouse(root)?;
        let job = self.job.map(|job| warehouse.job_with_runs(&job)).transpose()?;
        let runs = warehouse.ledger.runs(self.limit, job.as_deref())?;
        if self.json {
            for run in runs {
                println!("{}", RUNS.json(&run));
            }
            return Ok(ExitCode::SUCCESS);
        }
        let rows: Vec<Vec<String>> = runs
            .iter()
            .map(|run| {
                let took = run.ended_at.map(|end| (end - run.started_at).as_seconds_f64());
                let figure = |name: &str| run.figures.get(name).and_then(serde_json::Value::as_u64);
                vec![
                    run.started_at.format("%Y-%m-%d %H:%M:%S").to_string(),
                    run.job.clone(),
                    run.cause.clone(),
                    run.state.clone(),
                    took.map(text::seconds).unwrap_or_default(),
                    figure("rows").map(text::count).unwrap_or_default(),
                    run.error.clone().unwrap_or_default(),
                ]
            })
            .collect();
        print!("{}", text::table(&["started (UTC)", "job", "cause", "state", ">took", ">rows", "error"], &rows));
        Ok(ExitCode::SUCCESS)
    }
}

/// List events, the newest first
#[derive(Debug, Args)]
pub struct Events {
    /// Only events of this name, such as transfer.finished
    name: Option<String>,
    /// At most so many events
    #[arg(long, default_value_t = 20)]
    limit: usize,
    /// Print one JSON object for each event
    #[arg(long)]
    json: bool,
}

impl Events {
    /// Prints the events.
    pub fn run(self, root: &Path) -> Result<ExitCode> {
        let warehouse = open_warehouse(root)?;
        let events = warehouse.ledger.events(self.limit, self.name.as_deref())?;
        if self.json {
            for event in events {
                println!("{}", EVENTS.json(&event));
            }
            return Ok(ExitCode::SUCCESS);
        }
        let rows: Vec<Vec<String>> = events
            .iter()
            .map(|event| {
                vec![event.at.format("%Y-%m-%d %H:%M:%S%.3f").to_string(), event.name.clone(), event.fields.to_string()]
            })
            .collect();
        print!("{}", text::table(&["at (UTC)", "event", "fields"], &rows));
        Ok(ExitCode::SUCCESS)
    }
}
