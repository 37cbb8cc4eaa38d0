use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use ledger::{Cancel as Met, Ledger, QueueRow, RunRow};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::jobs;
use crate::text;
use crate::warehouse::Warehouse;

/// List what is to be run, what is under way and what became of it, the newest first
#[derive(Debug, Args)]
pub struct Queue {
    /// Only entries in this state: waiting, running, succeeded, failed or cancelled
    #[arg(long, value_parser = ["waiting", "running", "succeeded", "failed", "cancelled"])]
    state: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 20)]
    limit: usize,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

impl Queue {
    pub fn run(self, root: &Path) -> Result<ExitCode> {
        let warehouse = Warehouse::open(root)?;
        let entries = warehouse.ledger.queue(self.limit, self.state.as_deref())?;
        if self.json {
            for entry in entries {
                println!("{}", serde_json::to_string(&entry)?);
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

/// Stop a run, or take an entry out of the queue
///
/// What a run has not committed is lost, nothing else; a run that does not stop within ten seconds
/// is ended by the server. It is not tried again.
#[derive(Debug, Args)]
pub struct Cancel {
    /// A run's id, an entry's number in the queue, or a job: all of its that waits or runs
    what: String,
    #[arg(long)]
    json: bool,
}

impl Cancel {
    pub fn run(self, root: &Path) -> Result<ExitCode> {
        let warehouse = Warehouse::open(root)?;
        let ledger = &warehouse.ledger;
        let mut told = Vec::new();
        if let Ok(id) = self.what.parse() {
            told.push(cancel_entry(ledger, id)?);
        } else if let Some(run) = ledger.run(&self.what)? {
            told.push(cancel_run(ledger, &run)?);
        } else {
            let job = jobs::find(&warehouse, &self.what)
                .with_context(|| format!("{:?} is no run, no number of an entry and no job", self.what))?
                .full_name();
            let open = ["waiting", "running"].map(|state| ledger.queue(usize::MAX, Some(state)));
            for entry in open.into_iter().collect::<ledger::Result<Vec<_>>>()?.concat() {
                if entry.job == job {
                    told.push(cancel_entry(ledger, entry.id)?);
                }
            }
            let newest = ledger.runs(1, Some(&job))?;
            for run in newest.iter().filter(|run| run.state == "running" && run.queue_id.is_none()) {
                told.push(cancel_run(ledger, run)?);
            }
            if told.is_empty() {
                bail!("nothing of {job} waits or runs");
            }
        }
        for line in told {
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
        Met::Withdrawn => format!("entry {id} is taken out of the queue"),
        Met::Requested => {
            // The server sends the signal as well; without one, nobody else would.
            let run = ledger.queued(id)?.and_then(|entry| entry.run_id);
            if let Some(run) = run.map(|run| ledger.run(&run)).transpose()?.flatten() {
                interrupt(ledger, &run)?;
            }
            format!("entry {id} is being stopped")
        }
        Met::AlreadyEnded(state) => bail!("entry {id} has ended already: {state}"),
        Met::Unknown => bail!("there is no entry {id} in the queue; `wattlake queue` lists them"),
    })
}

fn cancel_run(ledger: &Ledger, run: &RunRow) -> Result<String> {
    if let Some(entry) = run.queue_id.filter(|_| run.state == "running") {
        return cancel_entry(ledger, entry);
    }
    if !interrupt(ledger, run)? {
        bail!("run {} has ended already: {}", run.id, run.state);
    }
    Ok(format!("run {} is being stopped", run.id))
}

/// False where its process is gone. A run's lease is its process's: while it is held, the number is
/// still its own.
fn interrupt(ledger: &Ledger, run: &RunRow) -> Result<bool> {
    if !ledger.alive(&run.id)? {
        return Ok(false);
    }
    let pid = i32::try_from(run.pid).ok().and_then(Pid::from_raw).context("a run without a process")?;
    kill_process(pid, Signal::INT).with_context(|| format!("signal the process {} of run {}", run.pid, run.id))?;
    Ok(true)
}
