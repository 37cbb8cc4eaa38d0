//! Triggers, rules and hooks: patterns that can be read, exactly one way each, jobs that are there.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use ledger::schedule::{Backoff, Catchup, Cron, Pattern};
use toml::Spanned;
use url::Url;

use super::super::job::{Act, After, Hook, Periods, Rules, Timed, Trigger, Upkeep};
use super::super::nearest::advice;
use super::super::problem::{Problem, Report};
use super::super::raw::{self, Given};
use super::super::{Secret, Warehouse};
use super::texts;

const DURATION_HINT: &str = "write a whole number and s, min, h or d: \"10min\"";
/// Every day, at an hour when little else happens.
const UPKEEP: &str = "30 3 * * *";
const DAY: Duration = Duration::from_secs(86_400);
const VERSIONS: Duration = DAY.saturating_mul(30);
const HISTORY: Duration = DAY.saturating_mul(400);

/// `zone` is for cron patterns that name none.
pub fn rules(triggers: &[Spanned<raw::Trigger>], raw: &raw::Rules, zone: &str, report: &mut Report<'_>) -> Rules {
    let standard = Rules::default();
    Rules {
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

pub fn duration(raw: &Given<String>, report: &mut Report<'_>) -> Option<Duration> {
    let (text, span) = (raw.get()?, raw.span()?);
    let duration = texts::duration(text);
    if duration.is_none() {
        report.add(span, format!("{text:?} is not a duration"), DURATION_HINT.to_owned());
    }
    duration
}

fn check_trigger(raw: &Spanned<raw::Trigger>, zone: &str, report: &mut Report<'_>) -> Option<Trigger> {
    let (span, raw) = (raw.span(), raw.get_ref());
    let ways = [("cron", raw.cron.span()), ("after", raw.after.span()), ("on", raw.on.span())];
    let ways: Vec<_> = ways.into_iter().filter_map(|(key, at)| at.map(|at| (key, at))).collect();
    if let [(first, _), (second, at), ..] = &ways[..] {
        let hint = "write a [[triggers]] for each".to_owned();
        report.add(at.clone(), format!("a trigger with {first:?} and {second:?}"), hint);
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
            report.add(given, format!("{key:?} means nothing beside {way:?}"), format!("it goes with {of:?}"));
        }
    }
    match way {
        "cron" => check_cron(raw, zone, at, report),
        "after" => {
            let (line, column) = report.place(&at);
            Some(Trigger::After(After { job: raw.after.get()?.clone(), line, column }))
        }
        _ => Some(Trigger::On(Pattern { name: raw.on.get()?.clone(), fields: raw.fields.clone() })),
    }
}

fn check_cron(raw: &raw::Trigger, zone: &str, at: Range<usize>, report: &mut Report<'_>) -> Option<Trigger> {
    let spec = raw.cron.get()?;
    let zone = raw.timezone.get().map_or(zone, String::as_str);
    let cron = match Cron::parse(spec, zone) {
        Ok(cron) => cron,
        Err(error) => {
            let is_zone = Cron::parse("0 0 * * *", zone).is_err();
            let at = raw.timezone.span().filter(|_| is_zone).unwrap_or(at);
            report.add(at, error.to_string(), None);
            return None;
        }
    };
    let catchup = match raw.catchup.get() {
        None | Some(raw::Catchup::One) => Catchup::One,
        Some(raw::Catchup::None) => Catchup::None,
        Some(raw::Catchup::All) => Catchup::All,
    };
    let period = raw.period.get().map(|period| match period {
        raw::Periods::ThisHour => Periods::ThisHour,
        raw::Periods::LastHour => Periods::LastHour,
        raw::Periods::Today => Periods::Today,
        raw::Periods::Yesterday => Periods::Yesterday,
        raw::Periods::ThisMonth => Periods::ThisMonth,
        raw::Periods::LastMonth => Periods::LastMonth,
        raw::Periods::ThisYear => Periods::ThisYear,
        raw::Periods::LastYear => Periods::LastYear,
    });
    Some(Trigger::Cron(Box::new(Timed { spec: spec.clone(), cron, catchup, period })))
}

pub fn upkeep(raw: &raw::Upkeep, zone: &str, report: &mut Report<'_>) -> Upkeep {
    let mut rules = rules(raw.triggers.get().map_or(&[], Vec::as_slice), &raw.run, zone, report);
    if raw.triggers.get().is_none()
        && let Ok(cron) = Cron::parse(UPKEEP, zone)
    {
        let timed = Timed { spec: UPKEEP.to_owned(), cron, catchup: Catchup::One, period: None };
        rules.triggers.push(Trigger::Cron(Box::new(timed)));
    }
    Upkeep {
        rules,
        versions: duration(&raw.versions, report).unwrap_or(VERSIONS),
        history: duration(&raw.history, report).unwrap_or(HISTORY),
    }
}

pub fn hooks(raw: BTreeMap<Spanned<String>, Spanned<raw::Hook>>, report: &mut Report<'_>) -> BTreeMap<String, Hook> {
    raw.into_iter().filter_map(|(name, hook)| check_hook(name, &hook, report)).collect()
}

fn check_hook(name: Spanned<String>, raw: &Spanned<raw::Hook>, report: &mut Report<'_>) -> Option<(String, Hook)> {
    if !texts::is_name(name.get_ref()) {
        let what = format!("a hook can't be called {:?}", name.get_ref());
        report.add(name.span(), what, "use a-z, 0-9, _ and - only".to_owned());
    }
    let raw = raw.get_ref();
    let act = match report.take_unset_under(&["hooks", name.get_ref()]) {
        Some(unset) => Err(unset),
        None => Ok(check_act(raw, report)?),
    };
    let told = raw.on.get();
    let has = |wanted: fn(&raw::Told) -> bool| told.is_none_or(|told| told.iter().any(wanted));
    let hook = Hook {
        on_failure: has(|told| matches!(told, raw::Told::Failure)),
        on_recovery: has(|told| matches!(told, raw::Told::Recovery)),
        jobs: raw.jobs.get().into_iter().flatten().map(|pattern| pattern.get_ref().clone()).collect(),
        act,
    };
    Some((name.into_inner(), hook))
}

fn check_act(raw: &raw::Hook, report: &mut Report<'_>) -> Option<Act> {
    match (raw.command.get(), raw.webhook.get(), raw.webhook.span()) {
        (Some(_), Some(_), Some(span)) => {
            report.add(span, "a hook with a command and a webhook", "make two hooks of it".to_owned());
            None
        }
        (Some(command), ..) => Some(Act::Command(command.clone())),
        (None, Some(url), Some(span)) => {
            if !Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https")) {
                // Not quoted: it may be a secret.
                report.add(span, "the webhook is no URL", "write \"https://host/path\"".to_owned());
            }
            Some(Act::Webhook(Secret::new(url)))
        }
        _ => None,
    }
}

/// What only shows when all files are read: jobs that triggers name, and rounds of them.
pub fn across(warehouse: &Warehouse, root: &Path, problems: &mut Vec<Problem>) {
    let jobs = warehouse.jobs();
    let names: Vec<&str> = jobs.keys().map(String::as_str).collect();
    let mut places = BTreeMap::new();
    for (name, job) in &jobs {
        let file = job.file.strip_prefix(root).unwrap_or(job.file);
        for trigger in &job.rules.triggers {
            let Trigger::After(After { job: after, line, column }) = trigger else { continue };
            places.insert((name.clone(), after.clone()), (file, *line, *column));
            if !jobs.contains_key(after) {
                let what = format!("there is no job {after:?} to come after");
                let hint = advice("job", after, &names);
                problems.push(Problem { file: file.to_owned(), line: *line, column: *column, what, hint });
            }
        }
    }
    for round in warehouse.rounds() {
        let edge = (round[0].clone(), round[1].clone());
        let Some((file, line, column)) = places.get(&edge) else { continue };
        let chain: Vec<&str> = round.iter().rev().map(String::as_str).collect();
        let what = format!("a round of jobs that would never end: {}", chain.join(", then "));
        let hint = Some("take one of these triggers out".to_owned());
        problems.push(Problem { file: (*file).to_owned(), line: *line, column: *column, what, hint });
    }
}
