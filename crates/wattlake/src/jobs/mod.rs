//! The one way in which a run begins, is broken off and ends: by hand, by cron or by event, of any
//! kind of job. What a job does is its flow's affair.

mod inputs;
mod log;

use std::time::Duration;

use anyhow::{Context, Result, bail};
use ledger::schedule::Period;
use ledger::{Outcome, QueueRow, Run, Start};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use crate::config::Job;
use crate::report;
use crate::warehouse::Warehouse;

pub use log::{FollowRun, keep_log_of};

/// Why a run is to begin.
#[derive(Debug, Clone)]
pub struct Asked {
    /// "hand", or what the entry of the queue says.
    pub cause: String,
    pub period: Option<Period>,
    /// The entry's number, and which of its attempts this is.
    pub queued: Option<(i64, u32)>,
    /// What the trigger gave along: the event, how long the chain is.
    pub given: Value,
}

impl Asked {
    pub fn by(cause: &str) -> Asked {
        Asked { cause: cause.to_owned(), period: None, queued: None, given: json!({}) }
    }

    pub fn by_hand() -> Asked {
        Asked::by("hand")
    }

    pub fn by_queue(entry: &QueueRow) -> Result<Asked> {
        let period = entry.logical.as_deref().map(str::parse).transpose()?;
        let (cause, given) = (entry.cause.clone(), entry.detail.clone());
        Ok(Asked { cause, period, queued: Some((entry.id, entry.attempts)), given })
    }
}

/// What a flow hands back. A run may fail and still have much to show.
pub struct Ended<T> {
    pub shown: T,
    pub outcome: Outcome,
    pub figures: Value,
    /// The same run may succeed later.
    pub may_pass: bool,
}

impl<T> Ended<T> {
    pub fn well(shown: T, figures: Value) -> Ended<T> {
        Ended { shown, outcome: Outcome::Succeeded, figures, may_pass: false }
    }
}

/// Runs `flow` as a run of `job`: with its lease and its keys, until it ends, the user stops it, or
/// its time is up. Whatever happens, the ledger has its end.
pub async fn run<T>(
    warehouse: &Warehouse,
    job: &str,
    asked: &Asked,
    mut detail: Value,
    flow: impl AsyncFnOnce(&Run) -> Result<Ended<T>>,
) -> Result<T> {
    let known = warehouse.config.jobs();
    let known = known.get(job).with_context(|| format!("there is no job {job:?}"))?;
    for key in ["depth", "event", "trigger"] {
        if let Some(value) = asked.given.get(key) {
            detail[key] = value.clone();
        }
    }
    let start = Start {
        cause: asked.cause.clone(),
        detail,
        logical: asked.period.map(|period| period.to_string()),
        inputs: inputs::of(warehouse, known)?,
        queued: asked.queued.map(|(entry, _)| entry),
        attempt: asked.queued.map_or(1, |(_, attempt)| attempt),
        keys: known.rules.concurrency.iter().cloned().collect(),
    };
    let run = warehouse.ledger.begin(job, start)?;
    let log = keep_log_of(&warehouse.ledger, run.id());
    log.line("INFO", begins(asked, job));
    let ended = tokio::select! {
        ended = flow(&run) => ended,
        broken = broken_off(known.rules.timeout) => Err(broken.into()),
    };
    let ended = match ended {
        Ok(ended) => ended,
        Err(error) => {
            let (outcome, told) = match error.downcast_ref::<BrokenOff>() {
                Some(BrokenOff::ByHand) => (Outcome::Cancelled, error.to_string()),
                _ => {
                    let told = report::chain(error.as_ref());
                    (Outcome::Failed { error: told.clone() }, told)
                }
            };
            log.line("ERROR", told);
            log.end();
            run.finish(outcome, json!({"may_pass": report::may_pass(&error)}))?;
            return Err(error);
        }
    };
    let mut figures = ended.figures;
    log.line("INFO", format!("figures: {figures}"));
    if let Outcome::Failed { error } = &ended.outcome {
        log.line("ERROR", error.clone());
        figures["may_pass"] = json!(ended.may_pass);
    }
    log.end();
    run.finish(ended.outcome, figures).context("write the run's end")?;
    Ok(ended.shown)
}

fn begins(asked: &Asked, job: &str) -> String {
    let period = asked.period.map(|period| format!(" for {period}")).unwrap_or_default();
    let attempt = asked.queued.map(|(_, attempt)| format!(", attempt {attempt}")).unwrap_or_default();
    format!("{job}{period} begins: {}{attempt}", asked.cause)
}

/// Work that was not committed is lost, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokenOff {
    /// Ctrl-C, SIGTERM, or `wattlake cancel`.
    ByHand,
    ByTime(Duration),
}

impl std::fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BrokenOff::ByHand => f.write_str("stopped; what was not committed yet stays as it was"),
            BrokenOff::ByTime(limit) => {
                let limit = crate::text::duration(*limit);
                write!(f, "stopped after {limit}, its time limit; what was not committed yet stays as it was")
            }
        }
    }
}

impl std::error::Error for BrokenOff {}

async fn broken_off(timeout: Option<Duration>) -> BrokenOff {
    let limit = async {
        match timeout {
            Some(limit) => {
                tokio::time::sleep(limit).await;
                limit
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = stop_signal() => BrokenOff::ByHand,
        limit = limit => BrokenOff::ByTime(limit),
    }
}

/// SIGINT or SIGTERM.
async fn stop_signal() {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// By its full name ("transfer:platform"), or by its own where no other kind has the same.
pub fn find<'a>(warehouse: &'a Warehouse, written: &str) -> Result<Job<'a>> {
    let jobs = warehouse.config.jobs();
    if let Some(job) = jobs.get(written) {
        return Ok(*job);
    }
    let named: Vec<&String> = jobs.iter().filter(|(_, job)| job.name == written).map(|(name, _)| name).collect();
    match named[..] {
        [one] => Ok(jobs[one]),
        [] => {
            let is_view = written.strip_prefix("mart:").is_some_and(|name| warehouse.config.marts.contains_key(name));
            if is_view {
                bail!("{written} is a view: each query computes it, and nothing of it is run");
            }
            let known: Vec<&str> = jobs.keys().map(String::as_str).collect();
            bail!("there is no job {written:?}; there are: {}", known.join(", "))
        }
        _ => {
            let names: Vec<&str> = named.iter().map(|name| name.as_str()).collect();
            bail!("{written:?} may be {}: write the kind, too", names.join(" or "))
        }
    }
}
