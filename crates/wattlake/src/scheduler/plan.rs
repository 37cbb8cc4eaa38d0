//! What the configuration's triggers make of time and of events. Pure: it is shown rows of the
//! ledger, and says what is to be queued.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use ledger::schedule::{Kept, Period, due_slots, glob};
use ledger::{Entry, EventRow, ScheduleRow};
use serde_json::{Value, json};

use crate::config::job::{Act, Hook, Periods, Timed, Trigger};
use crate::config::{Filled, Rules, Warehouse};

/// A chain of jobs and events longer than this is taken for one without an end.
const DEPTH_MAX: u64 = 20;
/// Jobs that are no jobs of the configuration: those who are told.
const HOOK: &str = "hook:";

pub struct Plan {
    triggers: BTreeMap<String, Set>,
    rules: BTreeMap<String, Rules>,
    hooks: BTreeMap<String, Hook>,
}

/// A trigger under its own name: "transfer:platform#1".
struct Set {
    job: String,
    zone: String,
    trigger: Trigger,
}

/// What a schedule has come to.
pub struct Fired {
    pub seen_to: DateTime<Utc>,
    pub next_at: Option<DateTime<Utc>>,
    pub last_slot: Option<String>,
    pub entries: Vec<Entry>,
}

/// What an event causes.
#[derive(Default)]
pub struct Caused {
    pub entries: Vec<Entry>,
    /// Jobs that would have followed in a chain that is too long.
    pub refused: Vec<String>,
}

impl Plan {
    pub fn of(config: &Warehouse) -> Plan {
        let (mut triggers, mut rules) = (BTreeMap::new(), BTreeMap::new());
        for (job, known) in config.jobs() {
            for (at, trigger) in known.rules.triggers.iter().enumerate() {
                let zone = match trigger {
                    Trigger::Cron(timed) => timed.cron.zone().name().to_owned(),
                    _ => String::new(),
                };
                let set = Set { job: job.clone(), zone, trigger: trigger.clone() };
                triggers.insert(format!("{job}#{}", at + 1), set);
            }
            rules.insert(job, known.rules.clone());
        }
        Plan { triggers, rules, hooks: config.hooks.clone() }
    }

    /// For the ledger, which keeps how far each has come, and which are paused.
    pub fn kept(&self) -> Vec<Kept> {
        let kept = |(name, set): (&String, &Set)| Kept {
            name: name.clone(),
            job: set.job.clone(),
            spec: told(&set.trigger),
            zone: set.zone.clone(),
        };
        self.triggers.iter().map(kept).collect()
    }

    pub fn rules(&self, job: &str) -> Option<&Rules> {
        self.rules.get(job)
    }

    /// Nothing where nothing is to be written down.
    pub fn fire(&self, row: &ScheduleRow, now: DateTime<Utc>) -> Option<Fired> {
        let Trigger::Cron(timed) = &self.triggers.get(&row.name)?.trigger else { return None };
        if row.next_at.is_some_and(|next| next > now) {
            return None;
        }
        let (slots, seen_to) =
            if row.paused { (Vec::new(), now) } else { due_slots(&timed.cron, row.seen_to, now, timed.catchup) };
        let next_at = timed.cron.after(seen_to).map(|slot| slot.at);
        if slots.is_empty() && row.next_at == next_at {
            return None;
        }
        let entries = slots.iter().map(|slot| entry_of_slot(row, timed, &slot.local, slot.at)).collect();
        Some(Fired { seen_to, next_at, last_slot: slots.last().map(|slot| slot.local.clone()), entries })
    }

    /// `paused` are names of triggers.
    pub fn caused_by(&self, event: &EventRow, paused: &BTreeSet<String>) -> Caused {
        let mut caused = Caused::default();
        let depth = event.fields["depth"].as_u64().unwrap_or(0) + 1;
        for (name, set) in self.triggers.iter().filter(|(name, _)| !paused.contains(*name)) {
            let (way, cause) = match &set.trigger {
                // A waiver is noted as a run of its controls, and has looked at nothing.
                Trigger::After(after)
                    if event.name == "run.succeeded"
                        && event.fields["job"] == *after.job
                        && event.fields["cause"] != "waiver" =>
                {
                    ("after", format!("after {}", after.job))
                }
                Trigger::On(pattern) if pattern.matches(&event.name, &event.fields) => {
                    ("on", format!("event {}", event.name))
                }
                _ => continue,
            };
            if depth > DEPTH_MAX {
                caused.refused.push(set.job.clone());
                continue;
            }
            let logical = event.fields["for"].as_str().filter(|text| text.parse::<Period>().is_ok());
            let given = json!({"seq": event.seq, "name": event.name, "run": event.run_id, "fields": event.fields});
            caused.entries.push(Entry {
                job: set.job.clone(),
                key: format!("{way}/{name}/{}", event.seq),
                cause,
                logical: logical.map(str::to_owned),
                detail: json!({"trigger": name, "depth": depth, "event": given}),
                not_before: event.at,
            });
        }
        caused.entries.extend(self.told_by(event));
        caused
    }

    /// Hooks become entries too: a server that is killed in between tells later.
    fn told_by(&self, event: &EventRow) -> Vec<Entry> {
        let job = event.fields["job"].as_str().unwrap_or_default();
        let is_for = |hook: &Hook| {
            let told = match event.name.as_str() {
                "job.failed" => hook.on_failure,
                "job.recovered" => hook.on_recovery,
                _ => false,
            };
            told && (hook.jobs.is_empty() || hook.jobs.iter().any(|pattern| glob(pattern, job)))
        };
        let hooks = self.hooks.iter().filter(|(_, hook)| !is_hook(job) && is_for(hook));
        let entry = |name: &String| Entry {
            job: format!("{HOOK}{name}"),
            key: format!("{HOOK}{name}/{}", event.seq),
            cause: format!("{} {job}", event.name),
            logical: None,
            detail: json!({"event": event.name, "at": event.at, "run": event.run_id, "fields": event.fields}),
            not_before: event.at,
        };
        hooks.map(|(name, _)| entry(name)).collect()
    }

    /// Of an entry's job.
    pub fn act(&self, job: &str) -> Option<&Filled<Act>> {
        Some(&self.hooks.get(job.strip_prefix(HOOK)?)?.act)
    }

    /// The slots to come of each cron trigger, on its own clock; none of the others.
    pub fn next(&self, now: DateTime<Utc>, count: usize) -> Vec<Next> {
        let next = |(name, set): (&String, &Set)| {
            let mut slots = Vec::new();
            if let Trigger::Cron(timed) = &set.trigger {
                let mut place = now;
                while let Some(slot) = timed.cron.after(place).filter(|_| slots.len() < count) {
                    let period = timed.period.and_then(|period| period.of(&slot.local));
                    slots.push((slot.local, period.map(|period| period.to_string())));
                    place = slot.at;
                }
            }
            Next { name: name.clone(), job: set.job.clone(), told: told(&set.trigger), zone: set.zone.clone(), slots }
        };
        self.triggers.iter().map(next).collect()
    }
}

/// A trigger with what comes of it next.
pub struct Next {
    pub name: String,
    pub job: String,
    pub told: String,
    pub zone: String,
    /// On the zone's clock, each with the period that it is for.
    pub slots: Vec<(String, Option<String>)>,
}

pub fn is_hook(job: &str) -> bool {
    job.starts_with(HOOK)
}

fn entry_of_slot(row: &ScheduleRow, timed: &Timed, slot: &str, at: DateTime<Utc>) -> Entry {
    let period = timed.period.and_then(|period: Periods| period.of(slot));
    Entry {
        job: row.job.clone(),
        key: format!("cron/{}/{}/{slot}", row.name, row.spec),
        cause: format!("cron {}", row.spec),
        logical: period.map(|period| period.to_string()),
        detail: json!({"trigger": row.name, "slot": slot}),
        not_before: at,
    }
}

/// As people read it.
fn told(trigger: &Trigger) -> String {
    match trigger {
        Trigger::Cron(timed) => timed.spec.clone(),
        Trigger::After(after) => format!("after {}", after.job),
        Trigger::On(pattern) if pattern.fields.is_empty() => format!("on {}", pattern.name),
        Trigger::On(pattern) => {
            let fields: serde_json::Map<String, Value> =
                pattern.fields.iter().map(|(field, value)| (field.clone(), json!(value))).collect();
            format!("on {} where {}", pattern.name, Value::Object(fields))
        }
    }
}
