//! Checks triggers, retries and hooks: patterns are well-formed, each trigger has one kind, jobs in triggers exist.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use base::{DURATION_HINT, suggestion};
use schedule::{AfterTrigger, Backoff, Catchup, Cron, CronTrigger, EventPattern, HookRules, JobRules, Trigger};
use toml::Spanned;
use url::Url;

use super::super::Problem;
use super::super::job::{Hook, HookAction, Upkeep};
use super::super::problem::FileProblems;
use super::super::raw::{self, Field};
use super::super::{Secret, Warehouse};
use super::texts;

/// Every day at 03:30, when few other jobs run.
const UPKEEP: &str = "30 3 * * *";
const DAY: Duration = Duration::from_secs(86_400);
const VERSIONS: Duration = DAY.saturating_mul(30);
const HISTORY: Duration = DAY.saturating_mul(400);

/// Checks the triggers and the `[run]` section of a job. `zone` is the time zone of cron patterns that name none.
pub fn rules(
    triggers: &[Spanned<raw::Trigger>],
    raw: &raw::RunSettings,
    zone: &str,
    report: &mut FileProblems<'_>,
) -> JobRules {
    let standard = JobRules::default();
    JobRules {
        triggers: triggers.iter().filter_map(|trigger| check_trigger(trigger, zone, report)).collect(),
        retries: *raw.retries.get().unwrap_or(&standard.retries),
        backoff: Backoff {
            first: duration(&raw.backoff, report).unwrap_or(standard.backoff.first),
            max: duration(&raw.backoff_max, report).unwrap_or(standard.backoff.max),
        },
        timeout: duration(&raw.timeout, report),
        concurrency: raw.concurrency.get().cloned(),
    }
}

/// Checks a duration; `None` where the key is missing or wrong.
pub fn duration(raw: &Field<String>, report: &mut FileProblems<'_>) -> Option<Duration> {
    let (text, span) = (raw.get()?, raw.span()?);
    let duration = texts::duration(text);
    if duration.is_none() {
        report.add(span, format!("{text:?} is not a duration"), DURATION_HINT.to_owned());
    }
    duration
}

fn check_trigger(raw: &Spanned<raw::Trigger>, zone: &str, report: &mut FileProblems<'_>) -> Option<Trigger> {
    let (span, raw) = (raw.span(), raw.get_ref());
    let ways = [("cron", raw.cron.span()), ("after", raw.after.span()), ("on", raw.on.span())];
    let ways: Vec<_> = ways.into_iter().filter_map(|(key, at)| at.map(|at| (key, at))).collect();
    if let [(first, _), (second, at), ..] = &ways[..] {
        let hint = "write a [[triggers]] for each".to_owned();
        report.add(at.clone(), format!("a trigger can't have both {first:?} and {second:?}"), hint);
        return None;
    }
    let (way, at) = ways.into_iter().next()?;
    for (key, of, given) in [
        ("timezone", "cron", raw.timezone.span()),
        ("catchup", "cron", raw.catchup.span()),
        ("for", "cron", raw.period.span()),
        ("where", "on", (!raw.fields.is_empty()).then_some(span)),
    ] {
        if let Some(given) = given.filter(|_| of != way) {
            report.add(
                given,
                format!("{key:?} can't be used with {way:?}"),
                format!("use it with {of:?}, or remove it"),
            );
        }
    }
    match way {
        "cron" => check_cron(raw, zone, at, report),
        "after" => {
            let (line, column) = report.place(&at);
            Some(Trigger::After(AfterTrigger { job: raw.after.get()?.clone(), line, column }))
        }
        _ => Some(Trigger::On(EventPattern { name: raw.on.get()?.clone(), fields: raw.fields.clone() })),
    }
}

fn check_cron(raw: &raw::Trigger, zone: &str, at: Range<usize>, report: &mut FileProblems<'_>) -> Option<Trigger> {
    let spec = raw.cron.get()?;
    let zone = raw.timezone.get().map_or(zone, String::as_str);
    let cron = match Cron::parse(spec, zone) {
        Ok(cron) => cron,
        Err(error) => {
            let is_zone = Cron::parse("0 0 * * *", zone).is_err();
            let at = raw.timezone.span().filter(|_| is_zone).unwrap_or(at);
            report.add(at, error.chain(), error.hint);
            return None;
        }
    };
    let catchup = raw.catchup.get().copied().unwrap_or_default();
    let period = raw.period.get().copied();
    Some(Trigger::Cron(Box::new(CronTrigger { spec: spec.clone(), cron, catchup, period })))
}

/// Checks `[upkeep]`, and adds its default trigger where it has no list of triggers.
pub fn upkeep(raw: &raw::Upkeep, file: &Path, zone: &str, report: &mut FileProblems<'_>) -> Upkeep {
    let mut rules = rules(raw.triggers.get().map_or(&[], Vec::as_slice), &raw.run, zone, report);
    if raw.triggers.get().is_none()
        && let Ok(cron) = Cron::parse(UPKEEP, zone)
    {
        let timed = CronTrigger { spec: UPKEEP.to_owned(), cron, catchup: Catchup::One, period: None };
        rules.triggers.push(Trigger::Cron(Box::new(timed)));
    }
    Upkeep {
        rules,
        versions: duration(&raw.versions, report).unwrap_or(VERSIONS),
        history: duration(&raw.history, report).unwrap_or(HISTORY),
        file: file.to_owned(),
    }
}

/// Checks `[hooks]`, by name.
pub fn hooks(
    raw: BTreeMap<Spanned<String>, Spanned<raw::Hook>>,
    report: &mut FileProblems<'_>,
) -> BTreeMap<String, Hook> {
    raw.into_iter().filter_map(|(name, hook)| check_hook(name, &hook, report)).collect()
}

fn check_hook(
    name: Spanned<String>,
    raw: &Spanned<raw::Hook>,
    report: &mut FileProblems<'_>,
) -> Option<(String, Hook)> {
    if !texts::is_name(name.get_ref()) {
        let what = format!("{:?} is not a valid name for a hook", name.get_ref());
        report.add(name.span(), what, "use a-z, 0-9, _ and - only".to_owned());
    }
    let raw = raw.get_ref();
    let action = match report.take_unset_under(&["hooks", name.get_ref()]) {
        Some(unset) => Err(unset),
        None => Ok(check_action(raw, report)?),
    };
    let events = raw.on.get();
    let has = |wanted: fn(&raw::HookEvent) -> bool| events.is_none_or(|events| events.iter().any(wanted));
    let rules = HookRules {
        on_failure: has(|event| matches!(event, raw::HookEvent::Failure)),
        on_recovery: has(|event| matches!(event, raw::HookEvent::Recovery)),
        on_issue: events.is_some() && has(|event| matches!(event, raw::HookEvent::Issue)),
        on_finding: events.is_some() && has(|event| matches!(event, raw::HookEvent::Finding)),
        jobs: raw.jobs.get().into_iter().flatten().map(|pattern| pattern.get_ref().clone()).collect(),
    };
    Some((name.into_inner(), Hook { rules, action }))
}

fn check_action(raw: &raw::Hook, report: &mut FileProblems<'_>) -> Option<HookAction> {
    match (raw.command.get(), raw.webhook.get(), raw.webhook.span()) {
        (Some(_), Some(_), Some(span)) => {
            report.add(span, "a hook can't have both a command and a webhook", "write two hooks".to_owned());
            None
        }
        (Some(command), ..) => Some(HookAction::Command(command.clone())),
        (None, Some(url), Some(span)) => {
            if !Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https")) {
                // Not quoted: it may be a secret.
                report.add(span, "the webhook is not an HTTP URL", "write \"https://host/path\"".to_owned());
            }
            Some(HookAction::Webhook(Secret::new(url)))
        }
        _ => None,
    }
}

/// Checks across all files: jobs that triggers name must exist, and `after` triggers must not form a cycle.
pub fn check_across_files(warehouse: &Warehouse, root: &Path, problems: &mut Vec<Problem>) {
    let jobs = warehouse.jobs();
    let names: Vec<&str> = jobs.keys().map(String::as_str).collect();
    let mut places = BTreeMap::new();
    for (name, job) in &jobs {
        let file = job.file().strip_prefix(root).unwrap_or(job.file());
        for trigger in &job.rules().triggers {
            let Trigger::After(AfterTrigger { job: after, line, column }) = trigger else { continue };
            places.insert((name.clone(), after.clone()), (file, *line, *column));
            if !jobs.contains_key(after) {
                let what = format!("there is no job {after:?}");
                let hint = suggestion("job", after, &names);
                problems.push(Problem { file: file.to_owned(), line: *line, column: *column, what, hint });
            }
        }
    }
    for cycle in warehouse.trigger_cycles() {
        let edge = (cycle[0].clone(), cycle[1].clone());
        let Some((file, line, column)) = places.get(&edge) else { continue };
        let chain: Vec<&str> = cycle.iter().rev().map(String::as_str).collect();
        let what = format!("these triggers form a cycle: {}", chain.join(", then "));
        let hint = Some("remove one of these triggers".to_owned());
        problems.push(Problem { file: (*file).to_owned(), line: *line, column: *column, what, hint });
    }
}
