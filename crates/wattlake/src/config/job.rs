//! The checked configuration of jobs: what can run, its triggers, and the hooks that are called at its end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schedule::{AfterTrigger, HookRules, JobRules, Planner, Trigger};

use super::{MartKind, OrUnset, Secret, Warehouse};

/// The full name of the upkeep job, the only one of its kind.
pub const UPKEEP: &str = "upkeep:lake";

/// An action that the server takes when a job fails or recovers.
#[derive(Debug, Clone)]
pub struct Hook {
    /// When it is called.
    pub rules: HookRules,
    /// What it does.
    pub action: OrUnset<HookAction>,
}

/// What a hook does.
#[derive(Debug, Clone)]
pub enum HookAction {
    /// Runs a program with its arguments, without a shell.
    Command(Vec<String>),
    /// Sends the event to a URL by POST.
    Webhook(Secret),
}

/// The upkeep job of the lake and the ledger.
#[derive(Debug, Clone)]
pub struct Upkeep {
    pub rules: JobRules,
    /// How long a table's older versions can be read.
    pub versions: Duration,
    /// How long runs, events and logs are kept.
    pub history: Duration,
}

/// A job of the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    pub kind: &'static str,
    pub name: &'a str,
    pub rules: &'a JobRules,
    /// The file that configures it.
    pub file: &'a PathBuf,
}

impl Job<'_> {
    /// Kind and name: `transfer:platform`.
    pub fn full_name(&self) -> String {
        format!("{}:{}", self.kind, self.name)
    }
}

impl Warehouse {
    /// All jobs by full name, such as `transfer:platform`. Views are no jobs, since they are never refreshed.
    pub fn jobs(&self) -> BTreeMap<String, Job<'_>> {
        let transfers = self.transfers.values().map(|transfer| Job {
            kind: "transfer",
            name: &transfer.name,
            rules: &transfer.rules,
            file: &transfer.file,
        });
        let tables = self.marts.values().filter(|mart| mart.kind == MartKind::Table);
        let marts = tables.map(|mart| Job { kind: "mart", name: &mart.name, rules: &mart.rules, file: &mart.file });
        let functions = self.functions.values().filter_map(|function| {
            let job = function.job.as_ref()?;
            Some(Job { kind: "function", name: &function.name, rules: &job.rules, file: &job.file })
        });
        let ingests = self.ingests.values().map(|ingest| Job {
            kind: "ingest",
            name: &ingest.name,
            rules: &ingest.rules,
            file: &ingest.file,
        });
        let loads = self.loads.values().map(|load| Job {
            kind: "load",
            name: &load.name,
            rules: &load.rules,
            file: &load.file,
        });
        let controls = self.controls.values().map(|set| Job {
            kind: "control",
            name: &set.name,
            rules: &set.rules,
            file: &set.file,
        });
        let statements = self.statements.values().map(|statement| Job {
            kind: "statement",
            name: &statement.name,
            rules: &statement.rules,
            file: &statement.file,
        });
        let billing = functions.chain(ingests).chain(loads).chain(controls).chain(statements);
        let upkeep = Job { kind: "upkeep", name: "lake", rules: &self.upkeep.rules, file: &self.file };
        transfers.chain(marts).chain(billing).chain([upkeep]).map(|job| (job.full_name(), job)).collect()
    }

    /// The planner of all jobs and hooks.
    pub fn planner(&self) -> Planner {
        let rules = self.jobs().into_iter().map(|(name, job)| (name, job.rules.clone()));
        Planner::new(rules, self.hooks.iter().map(|(name, hook)| (name.clone(), hook.rules.clone())).collect())
    }

    /// Gives each mart table without triggers of its own a trigger after each job that writes its inputs.
    pub(super) fn set_mart_triggers(&mut self) {
        let tables = self.marts.values().filter(|mart| mart.kind == MartKind::Table && mart.follows_inputs);
        let found: Vec<(String, Vec<Trigger>)> = tables
            .map(|mart| {
                let before = self.jobs_before(mart).into_iter();
                let triggers = before.map(|job| Trigger::After(AfterTrigger { job, line: 0, column: 0 }));
                (mart.name.clone(), triggers.collect())
            })
            .collect();
        for (name, triggers) in found {
            if let Some(mart) = self.marts.get_mut(&name) {
                mart.rules.triggers = triggers;
            }
        }
    }

    /// Cycles of `after` triggers, each as the names of its jobs, the first again at the end.
    pub(super) fn trigger_cycles(&self) -> Vec<Vec<String>> {
        let jobs = self.jobs();
        let mut cycles: Vec<Vec<String>> = Vec::new();
        for start in jobs.keys() {
            let mut path = vec![start.clone()];
            walk(&jobs, start, &mut path, &mut cycles);
        }
        cycles
    }
}

/// Follows `after` triggers from the last job of `path`. Each cycle is found once, from its least name.
fn walk(jobs: &BTreeMap<String, Job<'_>>, start: &str, path: &mut Vec<String>, cycles: &mut Vec<Vec<String>>) {
    let Some(job) = path.last().and_then(|name| jobs.get(name)) else { return };
    for trigger in &job.rules.triggers {
        let Trigger::After(after) = trigger else { continue };
        if after.job == start {
            cycles.push(path.iter().chain([&after.job]).cloned().collect());
        } else if after.job.as_str() > start && !path.contains(&after.job) {
            path.push(after.job.clone());
            walk(jobs, start, path, cycles);
            path.pop();
        }
    }
}
