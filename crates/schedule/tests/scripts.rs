//! Golden scripts: a clock that the script sets, triggers, events and ends of attempts, and what the rules answer.
//! `UPDATE_GOLDENFILES=1 cargo test --workspace` writes the answers again.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};
use goldenscript::{Argument, ArgumentConsumer, Command, Context};
use ledger::{AttemptEnd, EventRow, QueueEntry, QueueRow, RunRow, ScheduleRow};
use schedule::{
    AfterTrigger, Backoff, Catchup, Cron, CronTrigger, EventPattern, HookRules, JobRules, Planner, ProcessEnd,
    RelativePeriod, Trigger, end_by_process, end_by_run, end_of_hook,
};
use serde_json::{Value, json};

#[test]
fn scripts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        goldenscript::run(&mut Script::default(), entry.unwrap().path()).unwrap();
        count += 1;
    }
    assert!(count >= 3);
}

#[derive(Default)]
struct Script {
    now: DateTime<Utc>,
    jobs: BTreeMap<String, JobRules>,
    hooks: BTreeMap<String, HookRules>,
    /// As the ledger stores them.
    rows: BTreeMap<String, ScheduleRow>,
    events: i64,
}

type Answer = Result<String, Box<dyn Error>>;

impl goldenscript::Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Answer {
        match command.name.as_str() {
            "now" => self.set_clock(command),
            "job" => self.add_job(command),
            "hook" => self.add_hook(command),
            "pause" | "resume" => self.pause(command),
            "due" => self.due(),
            "upcoming" => self.upcoming(command),
            "event" => self.event(command),
            "run-ends" => self.run_ends(command),
            "process-ends" => self.process_ends(command),
            "hook-ends" => self.hook_ends(command),
            other => Err(format!("there is no command {other}").into()),
        }
    }
}

impl Script {
    fn set_clock(&mut self, command: &Command) -> Answer {
        let mut args = command.consume_args();
        self.now = instant(args.next_pos().ok_or("an instant is missing")?)?;
        args.reject_next()?;
        Ok(String::new())
    }

    fn add_job(&mut self, command: &Command) -> Answer {
        let mut rules = JobRules { retries: 0, ..JobRules::default() };
        let (mut name, mut spec, mut zone) = (String::new(), None, "UTC".to_owned());
        let (mut catchup, mut period) = (Catchup::default(), None);
        for argument in &command.args {
            let (key, value) = match argument {
                Argument::Positional(value) => (None, value),
                Argument::KeyValue(key, value) => (Some(key.as_str()), value),
                other => return Err(format!("a job has no {other:?}").into()),
            };
            match key {
                None => name.clone_from(value),
                Some("cron") => spec = Some(value.clone()),
                Some("zone") => zone.clone_from(value),
                Some("catchup") => {
                    catchup = match value.as_str() {
                        "none" => Catchup::None,
                        "one" => Catchup::One,
                        _ => Catchup::All,
                    }
                }
                Some("for") => {
                    period = Some(match value.as_str() {
                        "yesterday" => RelativePeriod::Yesterday,
                        "last-hour" => RelativePeriod::LastHour,
                        _ => RelativePeriod::LastMonth,
                    });
                }
                Some("after") => {
                    rules.triggers.push(Trigger::After(AfterTrigger { job: value.clone(), line: 0, column: 0 }));
                }
                Some("on") => {
                    let (event, field) = value.split_once(' ').unwrap_or((value, ""));
                    let fields = field.split_once('=').map(|(name, glob)| (name.to_owned(), glob.to_owned()));
                    let fields = fields.into_iter().collect();
                    rules.triggers.push(Trigger::On(EventPattern { name: event.to_owned(), fields }));
                }
                Some("retries") => rules.retries = value.parse()?,
                Some("backoff") => {
                    let (first, max) = value.split_once("..").ok_or("write backoff=60..3600")?;
                    let seconds = |text: &str| text.parse().map(Duration::from_secs);
                    rules.backoff = Backoff { first: seconds(first)?, max: seconds(max)? };
                }
                Some(other) => return Err(format!("a job has no {other}").into()),
            }
        }
        if let Some(spec) = spec {
            let cron = Cron::parse(&spec, &zone)?;
            rules.triggers.insert(0, Trigger::Cron(Box::new(CronTrigger { spec, cron, catchup, period })));
        }
        self.jobs.insert(name, rules);
        for definition in self.planner().definitions() {
            self.rows.entry(definition.name.clone()).or_insert(ScheduleRow {
                name: definition.name,
                job: definition.job,
                spec: definition.spec,
                zone: definition.zone,
                seen_to: self.now,
                last_slot: None,
                next_at: None,
                paused: false,
            });
        }
        Ok(String::new())
    }

    fn add_hook(&mut self, command: &Command) -> Answer {
        let mut args = command.consume_args();
        let name = args.next_pos().ok_or("a name is missing")?.to_owned();
        let rules = HookRules {
            on_failure: flag(&mut args, "failure")?,
            on_recovery: flag(&mut args, "recovery")?,
            on_finding: flag(&mut args, "finding")?,
            on_issue: flag(&mut args, "issue")?,
            jobs: args.take_key("jobs").map(|jobs| jobs.split(',').map(str::to_owned).collect()).unwrap_or_default(),
        };
        args.reject_next()?;
        self.hooks.insert(name, rules);
        Ok(String::new())
    }

    fn pause(&mut self, command: &Command) -> Answer {
        let mut args = command.consume_args();
        let name = args.next_pos().ok_or("a name is missing")?;
        self.rows.get_mut(name).ok_or("there is no such trigger")?.paused = command.name == "pause";
        Ok(String::new())
    }

    fn planner(&self) -> Planner {
        Planner::new(self.jobs.clone(), self.hooks.clone())
    }

    /// What the scheduler does with each row, and what it writes into it.
    fn due(&mut self) -> Answer {
        let (planner, mut text) = (self.planner(), String::new());
        for row in self.rows.values_mut() {
            let Some(due) = planner.due(row, self.now) else { continue };
            for entry in &due.entries {
                write_entry(&mut text, entry)?;
            }
            let next = due.next_at.map_or("never".to_owned(), second);
            writeln!(text, "{}: seen to {}, next {next}", row.name, second(due.seen_to))?;
            row.seen_to = due.seen_to;
            row.next_at = due.next_at;
            row.last_slot = due.last_slot.or(row.last_slot.take());
        }
        Ok(text)
    }

    fn upcoming(&mut self, command: &Command) -> Answer {
        let mut args = command.consume_args();
        let count = args.next_pos().ok_or("a count is missing")?.parse()?;
        let mut text = String::new();
        for trigger in self.planner().upcoming(self.now, count) {
            writeln!(text, "{}: {}", trigger.name, trigger.spec)?;
            for (slot, period) in trigger.slots {
                let period = period.map(|period| format!(" for {period}")).unwrap_or_default();
                writeln!(text, "  {slot}{period}")?;
            }
        }
        Ok(text)
    }

    fn event(&mut self, command: &Command) -> Answer {
        let mut args = command.consume_args();
        let name = args.next_pos().ok_or("an event is missing")?.to_owned();
        let mut fields = serde_json::Map::new();
        while let Some((name, value)) = args.next_key() {
            let value = value.parse::<u64>().map_or_else(|_| json!(value), Value::from);
            match name.split_once('.') {
                Some((outer, inner)) => fields.insert(outer.to_owned(), json!({ inner: value })),
                None => fields.insert(name.to_owned(), value),
            };
        }
        self.events += 1;
        let event = EventRow { seq: self.events, at: self.now, name, run_id: None, fields: Value::Object(fields) };
        let paused: BTreeSet<String> =
            self.rows.values().filter(|row| row.paused).map(|row| row.name.clone()).collect();
        let follow_ups = self.planner().follow_ups(&event, &paused);
        let mut text = String::new();
        for entry in &follow_ups.entries {
            write_entry(&mut text, entry)?;
        }
        for job in follow_ups.refused {
            writeln!(text, "refused: {job}")?;
        }
        Ok(text)
    }

    fn run_ends(&self, command: &Command) -> Answer {
        let mut args = command.consume_args();
        let state = args.next_pos().ok_or("a state is missing")?.to_owned();
        let retryable = flag(&mut args, "retryable")?;
        let error = args.take_key("error").map(str::to_owned);
        let (entry, is_stopping) = self.entry(&mut args)?;
        let run = RunRow {
            id: "1".to_owned(),
            job: entry.job.clone(),
            cause: entry.cause.clone(),
            state,
            detail: Value::Null,
            figures: Value::Null,
            error,
            pid: 1,
            logical: None,
            inputs: Value::Null,
            queue_id: Some(entry.id),
            attempt: entry.attempts,
            retryable,
            started_at: self.now,
            ended_at: None,
        };
        let end = end_by_run(&entry, &run, self.jobs.get(&entry.job), is_stopping, self.now);
        Ok(end.map_or("it goes on\n".to_owned(), |end| self.end_text(end)))
    }

    fn process_ends(&self, command: &Command) -> Answer {
        let mut args = command.consume_args();
        let how = args.next_pos().ok_or("an end is missing")?.to_owned();
        let error = "the last line".to_owned();
        let end = match how.as_str() {
            "unknown" => ProcessEnd::Unknown,
            "not-now" => ProcessEnd::NotNow { error },
            "killed" => ProcessEnd::Killed { error },
            code => ProcessEnd::Exited { code: code.parse()?, error },
        };
        let (entry, is_stopping) = self.entry(&mut args)?;
        Ok(self.end_text(end_by_process(&entry, end, self.jobs.get(&entry.job), is_stopping, self.now)))
    }

    fn hook_ends(&self, command: &Command) -> Answer {
        let mut args = command.consume_args();
        let error = args.take_key("error").map(str::to_owned);
        let (entry, _) = self.entry(&mut args)?;
        Ok(self.end_text(end_of_hook(&entry, error, self.now)))
    }

    /// The entry whose attempt ends: `job`, `attempts`, `cancel`; and whether the server is `stopping`.
    fn entry(&self, args: &mut ArgumentConsumer<'_>) -> Result<(QueueRow, bool), Box<dyn Error>> {
        let entry = QueueRow {
            id: 1,
            job: args.take_key("job").unwrap_or("transfer:platform").to_owned(),
            key: "key".to_owned(),
            cause: "cron".to_owned(),
            logical: None,
            detail: Value::Null,
            state: "running".to_owned(),
            attempts: args.take_key("attempts").map_or(Ok(1), str::parse)?,
            not_before: self.now,
            created_at: self.now,
            started_at: None,
            ended_at: None,
            run_id: None,
            error: None,
            cancel_requested: flag(args, "cancel")?,
        };
        let is_stopping = flag(args, "stopping")?;
        args.reject_next()?;
        Ok((entry, is_stopping))
    }

    fn end_text(&self, end: AttemptEnd) -> String {
        let after = |at: DateTime<Utc>| (at - self.now).num_seconds();
        match end {
            AttemptEnd::Succeeded => "succeeded\n".to_owned(),
            AttemptEnd::Cancelled => "cancelled\n".to_owned(),
            AttemptEnd::Failed { error } => format!("failed: {error}\n"),
            AttemptEnd::Retry { not_before, error } => format!("retry after {} s: {error}\n", after(not_before)),
            AttemptEnd::Postponed { not_before, error } => format!("postponed by {} s: {error}\n", after(not_before)),
        }
    }
}

fn flag(args: &mut ArgumentConsumer<'_>, key: &str) -> Result<bool, std::str::ParseBoolError> {
    args.take_key(key).map_or(Ok(false), str::parse)
}

fn write_entry(text: &mut String, entry: &QueueEntry) -> std::fmt::Result {
    let period = entry.logical.as_ref().map(|period| format!(" for {period}")).unwrap_or_default();
    writeln!(text, "queue {}{period}: {} [{}]", entry.job, entry.cause, entry.key)
}

fn instant(text: &str) -> Result<DateTime<Utc>, chrono::ParseError> {
    Ok(DateTime::parse_from_rfc3339(text)?.to_utc())
}

fn second(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}
