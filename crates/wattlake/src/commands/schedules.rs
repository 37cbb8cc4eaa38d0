use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use chrono::Utc;
use clap::Args;
use serde_json::json;

use crate::jobs;
use crate::scheduler::{Next, Plan};
use crate::serve;
use crate::text;
use crate::warehouse::Warehouse;

/// Show what runs by itself, and when it does next
#[derive(Debug, Args)]
pub struct Schedules {
    /// How many of the next slots
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    next: u16,
    /// One JSON object a trigger
    #[arg(long)]
    json: bool,
}

impl Schedules {
    pub fn run(self, root: &Path) -> Result<ExitCode> {
        let warehouse = Warehouse::open(root)?;
        let known = warehouse.ledger.schedules()?;
        let is_paused = |name: &str| known.iter().any(|row| row.name == name && row.paused);
        let triggers = Plan::of(&warehouse.config).next(Utc::now(), usize::from(self.next));
        if self.json {
            for trigger in &triggers {
                let next: Vec<_> = trigger.slots.iter().map(|(at, period)| json!({"at": at, "for": period})).collect();
                let last = known.iter().find(|row| row.name == trigger.name).and_then(|row| row.last_slot.clone());
                println!(
                    "{}",
                    json!({"name": trigger.name, "job": trigger.job, "trigger": trigger.told, "timezone": trigger.zone,
                           "paused": is_paused(&trigger.name), "last_slot": last, "next": next})
                );
            }
            return Ok(ExitCode::SUCCESS);
        }
        let line = |trigger: &Next, slot: Option<&(String, Option<String>)>| {
            let (at, period) = slot.cloned().unwrap_or_default();
            let at = if is_paused(&trigger.name) { "paused".to_owned() } else { at };
            vec![trigger.job.clone(), trigger.told.clone(), trigger.zone.clone(), at, period.unwrap_or_default()]
        };
        let mut rows = Vec::new();
        for trigger in &triggers {
            rows.push(line(trigger, trigger.slots.first()));
            rows.extend(trigger.slots.iter().skip(1).map(|slot| line(trigger, Some(slot))));
        }
        print!("{}", text::table(&["job", "trigger", "zone", "next", "for"], &rows));
        if !warehouse.ledger.is_held(serve::HELD)? {
            eprintln!("no server runs on this warehouse: nothing runs by itself until `wattlake serve` does");
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Let a job's triggers pass, until it is resumed
///
/// What comes due meanwhile is not caught up with. Runs under way and runs by hand go on.
#[derive(Debug, Args)]
pub struct Pause {
    /// A job, or one of its triggers: transfer:platform, transfer:platform#2
    job: String,
}

/// Let a paused job's triggers act again
#[derive(Debug, Args)]
pub struct Resume {
    /// A job, or one of its triggers: transfer:platform, transfer:platform#2
    job: String,
}

impl Pause {
    pub fn run(self, root: &Path) -> Result<ExitCode> {
        set(root, &self.job, true)
    }
}

impl Resume {
    pub fn run(self, root: &Path) -> Result<ExitCode> {
        set(root, &self.job, false)
    }
}

fn set(root: &Path, written: &str, paused: bool) -> Result<ExitCode> {
    let warehouse = Warehouse::open(root)?;
    let plan = Plan::of(&warehouse.config);
    // The server may not have run since the configuration changed.
    warehouse.ledger.keep_schedules(&plan.kept(), Utc::now())?;
    let name = match written.split_once('#') {
        Some((job, number)) => format!("{}#{number}", jobs::find(&warehouse, job)?.full_name()),
        None => jobs::find(&warehouse, written)?.full_name(),
    };
    let count = warehouse.ledger.pause(&name, paused)?;
    if count == 0 {
        bail!("{name} has no triggers; `wattlake schedules` lists them");
    }
    let (what, s) = (if paused { "paused" } else { "resumed" }, if count == 1 { "" } else { "s" });
    println!("{what} {count} trigger{s} of {name}");
    Ok(ExitCode::SUCCESS)
}
