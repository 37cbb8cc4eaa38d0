use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use base::text;
use clap::Args;
use jobs::system::{QUEUE, QUEUE_STATES};
use ledger::{CancelOutcome, Ledger, QueueRow, RunRow};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::program::open_warehouse;

/// List queued, running and ended runs of the queue, the newest first
#[derive(Debug, Args)]
pub struct Queue {
    /// Only entries in this state
    #[arg(long, value_parser = QUEUE_STATES)]
    state: Option<String>,
    /// At most so many entries
    #[arg(long, default_value_t = 20)]
    limit: usize,
    /// Print one JSON object for each entry
    #[arg(long)]
    json: bool,
}

impl Queue {
    /// Prints the entries.
    pub fn run(self, root: &Path) -> Result<ExitCode> {
        let warehouse = open_warehouse(root)?;
        let entries = warehouse.ledger.queue(self.limit, self.state.as_deref())?;
        if self.json {
            for entry in entries {
                println!("{}", QUEUE.json(&entry));
            }
            return Ok(ExitCode::SUCCESS);
        }
        let line = |entry: &QueueRow| {
            vec![
                entry.id.to_string(),
                entry.job.clone(),
                entry.cause.clone(),
                entry.logical.clone().unwrap_or_default(),
                entry.state.clone(),
                entry.not_before.format("%Y-%m-%d %H:%M:%S").to_string(),
                entry.attempts.to_string(),
                entry.error.clone().unwrap_or_default(),
            ]
        };
        let rows: Vec<Vec<String>> = entries.iter().map(line).collect();
        let header = [">entry", "job", "cause", "for", "state", "not before (UTC)", ">attempts", "error"];
        print!("{}", text::table(&header, &rows));
        Ok(ExitCode::SUCCESS)
    }
}

/// Stop a run, or remove an entry from the queue
///
/// Only uncommitted work is lost. A run that does not stop within ten seconds is killed by the server. Cancelled runs
/// are not retried.
#[derive(Debug, Args)]
pub struct Cancel {
    /// A run's id, an entry's number in the queue, or a job, whose waiting and running entries are all cancelled
    what: String,
    /// Print one JSON object for each cancelled run or entry
    #[arg(long)]
    json: bool,
}

impl Cancel {
    /// Cancels, and prints a line for each run or entry.
    pub fn run(self, root: &Path) -> Result<ExitCode> {
        let warehouse = open_warehouse(root)?;
        let ledger = &warehouse.ledger;
        let mut lines = Vec::new();
        if let Ok(id) = self.what.parse() {
            lines.push(cancel_entry(ledger, id)?);
        } else if let Some(run) = ledger.run(&self.what)? {
            lines.push(cancel_run(ledger, &run)?);
        } else {
            let job = warehouse
                .job_with_runs(&self.what)
                .with_context(|| format!("{:?} is neither a run, nor a number in the queue, nor a job", self.what))?;
            let open = ["waiting", "running"].map(|state| ledger.queue(usize::MAX, Some(state)));
            for entry in open.into_iter().collect::<ledger::Result<Vec<_>>>()?.concat() {
                if entry.job == job {
                    lines.push(cancel_entry(ledger, entry.id)?);
                }
            }
            let newest = ledger.runs(1, Some(&job))?;
            for run in newest.iter().filter(|run| run.state == "running" && run.queue_id.is_none()) {
                lines.push(cancel_run(ledger, run)?);
            }
            if lines.is_empty() {
                bail!(base::Error::input(format!("{job} has no waiting or running entry")));
            }
        }
        for line in lines {
            if self.json {
                println!("{}", json!({"cancelled": line}));
            } else {
                println!("{line}");
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn cancel_entry(ledger: &Ledger, id: i64) -> Result<String> {
    Ok(match ledger.cancel(id)? {
        CancelOutcome::Withdrawn => format!("entry {id} is removed from the queue"),
        CancelOutcome::Requested => {
            // The server would send the signal as well, but it may not be running.
            let run = ledger.queue_entry(id)?.and_then(|entry| entry.run_id);
            if let Some(run) = run.map(|run| ledger.run(&run)).transpose()?.flatten() {
                interrupt(ledger, &run)?;
            }
            format!("entry {id} is being stopped")
        }
        CancelOutcome::AlreadyEnded(state) => {
            bail!(base::Error::input(format!("entry {id} has ended already: {state}")))
        }
        CancelOutcome::Unknown => {
            let error = base::Error::input(format!("there is no entry {id} in the queue"));
            bail!(error.hint("`wattlake queue` lists the entries"))
        }
    })
}

fn cancel_run(ledger: &Ledger, run: &RunRow) -> Result<String> {
    if let Some(entry) = run.queue_id.filter(|_| run.state == "running") {
        return cancel_entry(ledger, entry);
    }
    if !interrupt(ledger, run)? {
        bail!(base::Error::input(format!("run {} has ended already: {}", run.id, run.state)));
    }
    Ok(format!("run {} is being stopped", run.id))
}

/// Sends SIGINT to a run's process; false where the run has ended. The process holds the run's lease: while it is held,
/// the process number can't belong to another process.
fn interrupt(ledger: &Ledger, run: &RunRow) -> Result<bool> {
    if !ledger.is_run_alive(&run.id)? {
        return Ok(false);
    }
    let pid = i32::try_from(run.pid).ok().and_then(Pid::from_raw).context("read the process number of a run")?;
    kill_process(pid, Signal::INT).with_context(|| format!("signal the process {} of run {}", run.pid, run.id))?;
    Ok(true)
}
