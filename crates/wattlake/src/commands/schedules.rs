use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use chrono::Utc;
use clap::Args;
use serde_json::json;

use crate::jobs;
use crate::serve;
use crate::text;
use crate::warehouse::Warehouse;
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
        let warehouse = Warehouse::open(root)?;
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
        if !warehouse.ledger.is_lease_held(serve::SERVER_LOCK)? {
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
    let warehouse = Warehouse::open(root)?;
    let planner = warehouse.config.planner();
    // The server may not have run since the configuration changed.
    warehouse.ledger.set_schedules(&planner.definitions(), Utc::now())?;
    let name = match name.split_once('#') {
        Some((job, number)) => format!("{}#{number}", jobs::find(&warehouse, job)?.full_name()),
        None => jobs::find(&warehouse, name)?.full_name(),
    };
    let count = warehouse.ledger.pause(&name, paused)?;
    if count == 0 {
        bail!("{name} has no triggers; `wattlake schedules` lists them");
    }
    let (what, s) = (if paused { "paused" } else { "resumed" }, if count == 1 { "" } else { "s" });
    println!("{what} {count} trigger{s} of {name}");
    Ok(ExitCode::SUCCESS)
}
