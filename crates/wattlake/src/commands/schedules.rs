use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use base::text;
use chrono::Utc;
use clap::Args;
use serde_json::json;

use crate::program::open_warehouse;
use schedule::UpcomingSlots;

/// List the triggers of jobs and when each fires next
#[derive(Debug, Args)]
pub struct Schedules {
    /// Show so many of the next slots
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    next: u16,
    /// Print one JSON object for each trigger
    #[arg(long)]
    json: bool,
}

impl Schedules {
    /// Prints the triggers.
    pub fn run(self, root: &Path) -> Result<ExitCode> {
        let warehouse = open_warehouse(root)?;
        let known = warehouse.ledger.schedules()?;
        let is_paused = |name: &str| known.iter().any(|row| row.name == name && row.paused);
        let triggers = warehouse.config.planner().upcoming(Utc::now(), usize::from(self.next));
        if self.json {
            for trigger in &triggers {
                let next: Vec<_> = trigger.slots.iter().map(|(at, period)| json!({"at": at, "for": period})).collect();
                let last = known.iter().find(|row| row.name == trigger.name).and_then(|row| row.last_slot.clone());
                println!(
                    "{}",
                    json!({"name": trigger.name, "job": trigger.job, "trigger": trigger.spec, "timezone": trigger.zone,
                           "paused": is_paused(&trigger.name), "last_slot": last, "next": next})
                );
            }
            return Ok(ExitCode::SUCCESS);
        }
        let line = |trigger: &UpcomingSlots, slot: Option<&(String, Option<String>)>| {
            let (at, period) = slot.cloned().unwrap_or_default();
            let at = if is_paused(&trigger.name) { "paused".to_owned() } else { at };
            vec![trigger.job.clone(), trigger.spec.clone(), trigger.zone.clone(), at, period.unwrap_or_default()]
        };
        let mut rows = Vec::new();
        for trigger in &triggers {
            rows.push(line(trigger, trigger.slots.first()));
            rows.extend(trigger.slots.iter().skip(1).map(|slot| line(trigger, Some(slot))));
        }
        print!("{}", text::table(&["job", "trigger", "zone", "next", "for"], &rows));
        if !warehouse.ledger.is_lease_held(server::SERVER_LOCK)? {
            eprintln!("no server runs on this warehouse: no trigger fires until `wattlake serve` runs");
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Pause a job's triggers until they are resumed
///
/// Slots that pass meanwhile are not caught up. Running jobs and runs by hand are not affected.
#[derive(Debug, Args)]
pub struct Pause {
    /// A job, or one of its triggers: transfer:platform, transfer:platform#2
    job: String,
}

/// Resume a paused job's triggers
#[derive(Debug, Args)]
pub struct Resume {
    /// A job, or one of its triggers: transfer:platform, transfer:platform#2
    job: String,
}

impl Pause {
    /// Pauses the triggers in the ledger.
    pub fn run(self, root: &Path) -> Result<ExitCode> {
        set_paused(root, &self.job, true)
    }
}

impl Resume {
    /// Resumes the triggers in the ledger.
    pub fn run(self, root: &Path) -> Result<ExitCode> {
        set_paused(root, &self.job, false)
    }
}

fn set_paused(root: &Path, name: &str, paused: bool) -> Result<ExitCode> {
    let warehouse = open_warehouse(root)?;
    let planner = warehouse.config.planner();
    // The server may not have run since the configuration changed.
    warehouse.ledger.set_schedules(&planner.definitions(), Utc::now())?;
    let name = match name.split_once('#') {
        Some((job, number)) => format!("{}#{number}", warehouse.job(job)?.full_name()),
        None => warehouse.job(name)?.full_name(),
    };
    let is_named = |row: &&ledger::ScheduleRow| row.name == name || row.job == name;
    let before = warehouse.ledger.schedules()?;
    let named: Vec<_> = before.iter().filter(is_named).collect();
    if named.is_empty() {
        let error = base::Error::input(format!("{name} has no triggers"));
        bail!(error.hint("`wattlake schedules` lists the triggers of all jobs"));
    }
    warehouse.ledger.pause(&name, paused)?;
    let what = if paused { "paused" } else { "resumed" };
    let changed = named.iter().filter(|row| row.paused != paused).count() as u64;
    let unchanged = match named.len() as u64 - changed {
        0 => String::new(),
        count if paused => format!("; {} already paused", text::quantity(count, "trigger")),
        count => format!("; {} not paused", text::quantity(count, "trigger")),
    };
    println!("{what} {} of {name}{unchanged}", text::quantity(changed, "trigger"));
    Ok(ExitCode::SUCCESS)
}
