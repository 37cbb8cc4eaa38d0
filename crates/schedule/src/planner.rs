//! The planner: what triggers and hooks add to the queue, by the clock and by events. It takes rows of the ledger and
//! returns entries; it reads and writes nothing itself.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, SecondsFormat, Utc};
use ledger::{EventRow, QueueEntry, ScheduleDefinition, ScheduleRow};
use serde_json::{Value, json};

use crate::{CronTrigger, JobRules, Period, RelativePeriod, Trigger, due_slots, glob};

/// A chain of jobs and events may be this long; a longer one is refused as endless.
const DEPTH_MAX: u64 = 20;
/// The start of the job name of a queue entry that calls a hook.
const HOOK: &str = "hook:";

/// The triggers, the rules and the hooks of a warehouse.
pub struct Planner {
    triggers: BTreeMap<String, NamedTrigger>,
    rules: BTreeMap<String, JobRules>,
    hooks: BTreeMap<String, HookRules>,
}

/// When a hook is called.
#[derive(Debug, Clone, Default)]
pub struct HookRules {
    /// When the last attempt of an entry failed.
    pub on_failure: bool,
    /// When a job succeeds whose entry before it failed.
    pub on_recovery: bool,
    /// When a control that warns has findings, in a run that was not by hand.
    pub on_finding: bool,
    /// When a statement is issued.
    pub on_issue: bool,
    /// Patterns of the jobs that it is called for; all jobs where there are none.
    pub jobs: Vec<String>,
}

/// A trigger of a job; its name is the job and its place, such as `transfer:platform#1`.
struct NamedTrigger {
    job: String,
    /// The time zone of a cron trigger; empty for others.
    zone: String,
    trigger: Trigger,
}

/// The slots of a schedule that are due, and the schedule's new row.
pub struct DueSlots {
    /// All slots up to here are in `entries`, or were passed over by the catch-up rule.
    pub seen_to: DateTime<Utc>,
    pub next_at: Option<DateTime<Utc>>,
    /// The last due slot in local time.
    pub last_slot: Option<String>,
    /// An entry for each slot that is to be run.
    pub entries: Vec<QueueEntry>,
}

/// The queue entries that an event causes.
#[derive(Default)]
pub struct FollowUps {
    pub entries: Vec<QueueEntry>,
    /// Jobs that are not queued, because the chain of events is too long.
    pub refused: Vec<String>,
}

impl Planner {
    /// Of all jobs, by their full names, and all hooks, by theirs.
    pub fn new(jobs: impl IntoIterator<Item = (String, JobRules)>, hooks: BTreeMap<String, HookRules>) -> Planner {
        let (mut triggers, mut rules) = (BTreeMap::new(), BTreeMap::new());
        for (job, known) in jobs {
            for (at, trigger) in known.triggers.iter().enumerate() {
                let zone = match trigger {
                    Trigger::Cron(timed) => timed.cron.zone().name().to_owned(),
                    _ => String::new(),
                };
                let named = NamedTrigger { job: job.clone(), zone, trigger: trigger.clone() };
                triggers.insert(format!("{job}#{}", at + 1), named);
            }
            rules.insert(job, known);
        }
        Planner { triggers, rules, hooks }
    }

    /// All triggers for the ledger, which stores how far each has come and which ones are paused.
    pub fn definitions(&self) -> Vec<ScheduleDefinition> {
        let definition = |(name, named): (&String, &NamedTrigger)| ScheduleDefinition {
            name: name.clone(),
            job: named.job.clone(),
            spec: trigger_text(&named.trigger),
            zone: named.zone.clone(),
        };
        self.triggers.iter().map(definition).collect()
    }

    /// The rules of a job; `None` where the configuration has no such job.
    pub fn rules(&self, job: &str) -> Option<&JobRules> {
        self.rules.get(job)
    }

    /// The slots of a schedule that are due at `now`; `None` where the ledger's row needs no change.
    pub fn due(&self, row: &ScheduleRow, now: DateTime<Utc>) -> Option<DueSlots> {
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
        Some(DueSlots { seen_to, next_at, last_slot: slots.last().map(|slot| slot.local.clone()), entries })
    }

    /// The entries that an event causes by triggers that are not paused, and by hooks. `paused` has names of triggers.
    pub fn follow_ups(&self, event: &EventRow, paused: &BTreeSet<String>) -> FollowUps {
        let mut follow_ups = FollowUps::default();
        let depth = event.fields["depth"].as_u64().unwrap_or(0) + 1;
        for (name, named) in self.triggers.iter().filter(|(name, _)| !paused.contains(*name)) {
            let (way, cause) = match &named.trigger {
                // Adding a waiver is recorded as a run of its controls, but evaluates none of them.
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
                follow_ups.refused.push(named.job.clone());
                continue;
            }
            let period = event.fields["for"].as_str().filter(|text| text.parse::<Period>().is_ok());
            let source = json!({"seq": event.seq, "name": event.name, "run": event.run_id, "fields": event.fields});
            follow_ups.entries.push(QueueEntry {
                job: named.job.clone(),
                key: format!("{way}/{name}/{}", event.seq),
                cause,
                logical: period.map(str::to_owned),
                detail: json!({"trigger": name, "depth": depth, "event": source}),
                not_before: event.at,
            });
        }
        follow_ups.entries.extend(self.hook_entries(event));
        follow_ups
    }

    /// Calls of hooks are queue entries too, so that they outlive a server that is killed.
    fn hook_entries(&self, event: &EventRow) -> Vec<QueueEntry> {
        let job = event.fields["job"].as_str().unwrap_or_default();
        let is_warning = event.fields["severity"] == "warn" && event.fields["cause"] != "hand";
        let is_for = |hook: &HookRules| {
            let is_subscribed = match event.name.as_str() {
                "job.failed" => hook.on_failure,
                "job.recovered" => hook.on_recovery,
                // One that blocks fails its job.
                "control.failed" => hook.on_finding && is_warning,
                "statement.issued" => hook.on_issue,
                _ => false,
            };
            is_subscribed && (hook.jobs.is_empty() || hook.jobs.iter().any(|pattern| glob(pattern, job)))
        };
        let hooks = self.hooks.iter().filter(|(_, hook)| hook_of(job).is_none() && is_for(hook));
        let entry = |name: &String| QueueEntry {
            job: format!("{HOOK}{name}"),
            key: format!("{HOOK}{name}/{}", event.seq),
            cause: format!("{} {job}", event.name),
            logical: None,
            detail: json!({
                "event": event.name, "at": event.at.to_rfc3339_opts(SecondsFormat::AutoSi, true), "run": event.run_id,
                "fields": event.fields,
            }),
            not_before: event.at,
        };
        hooks.map(|(name, _)| entry(name)).collect()
    }

    /// All triggers, and for a cron trigger its next `count` slots after `now`, in its time zone.
    pub fn upcoming(&self, now: DateTime<Utc>, count: usize) -> Vec<UpcomingSlots> {
        let upcoming = |(name, named): (&String, &NamedTrigger)| {
            let mut slots = Vec::new();
            if let Trigger::Cron(timed) = &named.trigger {
                let mut at = now;
                while let Some(slot) = timed.cron.after(at).filter(|_| slots.len() < count) {
                    let period = timed.period.and_then(|period| period.of(&slot.local));
                    slots.push((slot.local, period.map(|period| period.to_string())));
                    at = slot.at;
                }
            }
            let (job, zone) = (named.job.clone(), named.zone.clone());
            UpcomingSlots { name: name.clone(), job, spec: trigger_text(&named.trigger), zone, slots }
        };
        self.triggers.iter().map(upcoming).collect()
    }
}

/// A trigger with its next slots.
pub struct UpcomingSlots {
    pub name: String,
    pub job: String,
    /// The trigger as the configuration describes it: a cron expression, `after JOB`, `on EVENT`.
    pub spec: String,
    /// The time zone of a cron trigger; empty for others.
    pub zone: String,
    /// Each slot in local time, with the period that its run is for.
    pub slots: Vec<(String, Option<String>)>,
}

/// The name of the hook that a queue entry calls; `None` where it runs a job.
pub fn hook_of(job: &str) -> Option<&str> {
    job.strip_prefix(HOOK)
}

fn entry_of_slot(row: &ScheduleRow, timed: &CronTrigger, slot: &str, at: DateTime<Utc>) -> QueueEntry {
    let period = timed.period.and_then(|period: RelativePeriod| period.of(slot));
    QueueEntry {
        job: row.job.clone(),
        key: format!("cron/{}/{}/{slot}", row.name, row.spec),
        cause: format!("cron {}", row.spec),
        logical: period.map(|period| period.to_string()),
        detail: json!({"trigger": row.name, "slot": slot}),
        not_before: at,
    }
}

/// A trigger as text for people, which is also its identity in the ledger.
fn trigger_text(trigger: &Trigger) -> String {
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
