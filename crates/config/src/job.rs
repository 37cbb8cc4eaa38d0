//! The checked configuration of jobs: what can run, its triggers, and the hooks that are called at its end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use schedule::{AfterTrigger, HookRules, JobRules, Planner, Trigger};

use super::flow::FunctionJob;
use super::{
    Collect, Controls, Function, Ingest, Load, Mart, MartKind, OrUnset, Prediction, Secret, Statement, Training,
    Transfer, Warehouse,
};

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
    /// The file that configures it: `wattlake.toml`.
    pub file: PathBuf,
}

/// A job of the configuration: what can run, by its kind.
#[derive(Debug, Clone, Copy)]
pub enum Job<'a> {
    Transfer(&'a Transfer),
    /// A mart that is stored as a table.
    Mart(&'a Mart),
    /// A function that has a `job.toml`.
    Function(&'a Function, &'a FunctionJob),
    Ingest(&'a Ingest),
    Collect(&'a Collect),
    Load(&'a Load),
    /// A set of controls.
    Control(&'a Controls),
    Statement(&'a Statement),
    Training(&'a Training),
    Prediction(&'a Prediction),
    /// The upkeep of the lake and the ledger, the only one of its kind.
    Upkeep(&'a Upkeep),
}

impl<'a> Job<'a> {
    /// The kind, as the first part of the full name.
    pub fn kind(&self) -> &'static str {
        match self {
            Job::Transfer(_) => "transfer",
            Job::Mart(_) => "mart",
            Job::Function(..) => "function",
            Job::Ingest(_) => "ingest",
            Job::Collect(_) => "collect",
            Job::Load(_) => "load",
            Job::Control(_) => "control",
            Job::Statement(_) => "statement",
            Job::Training(_) => "training",
            Job::Prediction(_) => "prediction",
            Job::Upkeep(_) => "upkeep",
        }
    }

    /// The name among the jobs of the same kind.
    pub fn name(&self) -> &'a str {
        match self {
            Job::Transfer(transfer) => &transfer.name,
            Job::Mart(mart) => &mart.name,
            Job::Function(function, _) => &function.name,
            Job::Ingest(ingest) => &ingest.name,
            Job::Collect(collect) => &collect.name,
            Job::Load(load) => &load.name,
            Job::Control(set) => &set.name,
            Job::Statement(statement) => &statement.name,
            Job::Training(training) => &training.name,
            Job::Prediction(prediction) => &prediction.name,
            Job::Upkeep(_) => "lake",
        }
    }

    /// Triggers, retries and limits.
    pub fn rules(&self) -> &'a JobRules {
        match self {
            Job::Transfer(transfer) => &transfer.rules,
            Job::Mart(mart) => &mart.rules,
            Job::Function(_, job) => &job.rules,
            Job::Ingest(ingest) => &ingest.rules,
            Job::Collect(collect) => &collect.rules,
            Job::Load(load) => &load.rules,
            Job::Control(set) => &set.rules,
            Job::Statement(statement) => &statement.rules,
            Job::Training(training) => &training.rules,
            Job::Prediction(prediction) => &prediction.rules,
            Job::Upkeep(upkeep) => &upkeep.rules,
        }
    }

    /// The file that configures it.
    pub fn file(&self) -> &'a Path {
        match self {
            Job::Transfer(transfer) => &transfer.file,
            Job::Mart(mart) => &mart.file,
            Job::Function(_, job) => &job.file,
            Job::Ingest(ingest) => &ingest.file,
            Job::Collect(collect) => &collect.file,
            Job::Load(load) => &load.file,
            Job::Control(set) => &set.file,
            Job::Statement(statement) => &statement.file,
            Job::Training(training) => &training.file,
            Job::Prediction(prediction) => &prediction.file,
            Job::Upkeep(upkeep) => &upkeep.file,
        }
    }

    /// Kind and name: `transfer:platform`.
    pub fn full_name(&self) -> String {
        format!("{}:{}", self.kind(), self.name())
    }
}

impl Warehouse {
    /// All jobs by full name, such as `transfer:platform`. Views are no jobs, since they are never refreshed.
    pub fn jobs(&self) -> BTreeMap<String, Job<'_>> {
        let tables = self.marts.values().filter(|mart| mart.kind == MartKind::Table);
        let functions = self.functions.values().filter_map(|one| Some(Job::Function(one, one.job.as_ref()?)));
        let transfers = self.transfers.values().map(Job::Transfer).chain(tables.map(Job::Mart)).chain(functions);
        let billing = self.ingests.values().map(Job::Ingest).chain(self.loads.values().map(Job::Load));
        let checks = self.controls.values().map(Job::Control).chain(self.statements.values().map(Job::Statement));
        let forecasts = self.collects.values().map(Job::Collect).chain(self.trainings.values().map(Job::Training));
        let all = transfers
            .chain(billing)
            .chain(checks)
            .chain(forecasts)
            .chain(self.predictions.values().map(Job::Prediction))
            .chain([Job::Upkeep(&self.upkeep)]);
        all.map(|job| (job.full_name(), job)).collect()
    }

    /// The planner of all jobs and hooks.
    pub fn planner(&self) -> Planner {
        let rules = self.jobs().into_iter().map(|(name, job)| (name, job.rules().clone()));
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
    for trigger in &job.rules().triggers {
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
