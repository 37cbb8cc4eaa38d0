//! Jobs as the configuration has them: what runs by itself, when, and how its runs are treated.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, FixedOffset, SubsecRound, Timelike};
use ledger::schedule::{Backoff, Catchup, Cron, Pattern, Period};

use super::{Filled, MartKind, Secret, Warehouse};

/// The one job of its kind.
pub const UPKEEP: &str = "upkeep:lake";

/// When and how a job runs.
#[derive(Debug, Clone)]
pub struct Rules {
    pub triggers: Vec<Trigger>,
    /// Attempts after the first.
    pub retries: u32,
    pub backoff: Backoff,
    pub timeout: Option<Duration>,
    pub concurrency: Option<String>,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules { triggers: Vec::new(), retries: 3, backoff: Backoff::default(), timeout: None, concurrency: None }
    }
}

#[derive(Debug, Clone)]
pub enum Trigger {
    Cron(Box<Timed>),
    After(After),
    On(Pattern),
}

#[derive(Debug, Clone)]
pub struct Timed {
    pub spec: String,
    pub cron: Cron,
    pub catchup: Catchup,
    pub period: Option<Periods>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct After {
    /// "transfer:platform"
    pub job: String,
    /// Where it is written, for a name that leads nowhere. 0: nowhere, it comes from the SQL.
    pub line: usize,
    pub column: usize,
}

/// A period told by a slot's own clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Periods {
    ThisHour,
    LastHour,
    Today,
    Yesterday,
    ThisMonth,
    LastMonth,
    ThisYear,
    LastYear,
}

#[derive(Debug, Clone)]
pub struct Hook {
    pub on_failure: bool,
    pub on_recovery: bool,
    /// Patterns; all where it is empty.
    pub jobs: Vec<String>,
    pub act: Filled<Act>,
}

#[derive(Debug, Clone)]
pub enum Act {
    /// A program and its arguments.
    Command(Vec<String>),
    Webhook(Secret),
}

#[derive(Debug, Clone)]
pub struct Upkeep {
    pub rules: Rules,
    pub versions: Duration,
    pub history: Duration,
}

/// Whatever can be run.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    pub kind: &'static str,
    pub name: &'a str,
    pub rules: &'a Rules,
    /// Where it is written.
    pub file: &'a PathBuf,
}

impl Job<'_> {
    pub fn full_name(&self) -> String {
        format!("{}:{}", self.kind, self.name)
    }
}

impl Periods {
    /// `slot` as a schedule has it: on the local clock, with its offset.
    pub fn of(self, slot: &str) -> Option<Period> {
        let local = DateTime::<FixedOffset>::parse_from_rfc3339(slot).ok()?.naive_local().trunc_subsecs(0);
        let (date, hour) = (local.date(), local.with_minute(0)?.with_second(0)?);
        let month = chrono::Datelike::with_day(&date, 1)?;
        let year = chrono::Datelike::year(&date);
        Some(match self {
            Periods::ThisHour => Period::Hour(hour),
            Periods::LastHour => Period::Hour(hour - chrono::TimeDelta::hours(1)),
            Periods::Today => Period::Day(date),
            Periods::Yesterday => Period::Day(date.pred_opt()?),
            Periods::ThisMonth => Period::Month(month),
            Periods::LastMonth => Period::Month(month.checked_sub_months(chrono::Months::new(1))?),
            Periods::ThisYear => Period::Year(year),
            Periods::LastYear => Period::Year(year - 1),
        })
    }
}

impl Warehouse {
    /// All of them, by full name: "transfer:platform". Views are no jobs: nothing of theirs runs.
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
            let call = function.call.as_ref()?;
            Some(Job { kind: "function", name: &function.name, rules: &call.rules, file: &call.file })
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

    /// Tables are refreshed after what fills their inputs, where nothing else is written.
    pub(super) fn give_marts_their_triggers(&mut self) {
        let tables = self.marts.values().filter(|mart| mart.kind == MartKind::Table && mart.follows_inputs);
        let found: Vec<(String, Vec<Trigger>)> = tables
            .map(|mart| {
                let before = self.jobs_before(mart).into_iter();
                let triggers = before.map(|job| Trigger::After(After { job, line: 0, column: 0 }));
                (mart.name.clone(), triggers.collect())
            })
            .collect();
        for (name, triggers) in found {
            if let Some(mart) = self.marts.get_mut(&name) {
                mart.rules.triggers = triggers;
            }
        }
    }

    /// Chains of `after` that come back to where they began, each as the names of its jobs.
    pub(super) fn rounds(&self) -> Vec<Vec<String>> {
        let jobs = self.jobs();
        let mut rounds: Vec<Vec<String>> = Vec::new();
        for start in jobs.keys() {
            let mut path = vec![start.clone()];
            walk(&jobs, start, &mut path, &mut rounds);
        }
        rounds
    }
}

/// From a job to those it comes after. A round is kept once, beginning with its least name.
fn walk(jobs: &BTreeMap<String, Job<'_>>, start: &str, path: &mut Vec<String>, rounds: &mut Vec<Vec<String>>) {
    let Some(job) = path.last().and_then(|name| jobs.get(name)) else { return };
    for trigger in &job.rules.triggers {
        let Trigger::After(after) = trigger else { continue };
        if after.job == start {
            rounds.push(path.iter().chain([&after.job]).cloned().collect());
        } else if after.job.as_str() > start && !path.contains(&after.job) {
            path.push(after.job.clone());
            walk(jobs, start, path, rounds);
            path.pop();
        }
    }
}
