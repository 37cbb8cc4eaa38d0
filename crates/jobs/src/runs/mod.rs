//! Begins, interrupts and ends runs, of all kinds of jobs and for all causes: a user, a schedule or an
//! event. What a job does is in its module of `flows`.

mod inputs;
mod log;

use std::time::Duration;

use anyhow::{Context, Result};
use config::Job;
use ledger::{Outcome, QueueRow, Run, RunStart};
use schedule::Period;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::failure::{self, Interruption};
use crate::warehouse::Warehouse;

pub use log::{RunLogLayer, start_run_log};

/// The cause of the runs of services, which end with the server that started them.
pub const SERVICE: &str = "service";

/// What a run is requested for, and by whom.
#[derive(Debug, Clone)]
pub struct RunRequest {
    /// `hand`, `demo`, `waiver`, [`SERVICE`], or the cause of the queue's entry.
    pub cause: String,
    pub period: Option<Period>,
    /// The queue entry's id, and the number of this attempt, from 1.
    pub queued: Option<(i64, u32)>,
    /// A JSON object: `as_of`, and from a trigger its name, the event and the depth of the chain of events.
    pub parameters: Value,
}

impl RunRequest {
    /// A request without a period, parameters or a queue entry.
    pub fn by(cause: &str) -> RunRequest {
        RunRequest { cause: cause.to_owned(), period: None, queued: None, parameters: json!({}) }
    }

    /// A request by a user.
    pub fn by_hand() -> RunRequest {
        RunRequest::by("hand")
    }

    /// The request of a queue entry that was claimed.
    pub fn by_queue(entry: &QueueRow) -> Result<RunRequest> {
        let period = entry.logical.as_deref().map(str::parse).transpose()?;
        let (cause, parameters) = (entry.cause.clone(), entry.detail.clone());
        Ok(RunRequest { cause, period, queued: Some((entry.id, entry.attempts)), parameters })
    }
}

/// What a flow returns where it came to its end. A run that failed has an output too.
pub struct FlowOutcome<T> {
    /// For the caller of [`run`].
    pub output: T,
    /// The run's end in the ledger.
    pub outcome: Outcome,
    /// The run's figures in the ledger: a JSON object.
    pub figures: Value,
}

impl<T> FlowOutcome<T> {
    /// A run that succeeded.
    pub fn succeeded(output: T, figures: Value) -> FlowOutcome<T> {
        FlowOutcome { output, outcome: Outcome::Succeeded, figures }
    }
}

/// Runs `flow` as a run of `job`, with the job's lease and concurrency keys, until it ends, the user
/// stops it, or its time limit is over. In all cases the run's end is in the ledger.
pub async fn run<T>(
    warehouse: &Warehouse,
    job: Job<'_>,
    request: &RunRequest,
    detail: Value,
    flow: impl AsyncFnOnce(&Run) -> Result<FlowOutcome<T>>,
) -> Result<T> {
    let timeout = job.rules().timeout;
    record(warehouse, job, request, detail, async |run| {
        tokio::select! {
            result = flow(run) => result,
            interruption = interruption(timeout) => Err(interruption.into()),
        }
    })
    .await
}

/// Runs a service as a run of `job`: it has no time limit, and a signal only cancels the token that `flow` is given,
/// which then comes to its end by itself.
pub async fn run_service<T>(
    warehouse: &Warehouse,
    job: Job<'_>,
    request: &RunRequest,
    detail: Value,
    flow: impl AsyncFnOnce(&Run, CancellationToken) -> Result<FlowOutcome<T>>,
) -> Result<T> {
    record(warehouse, job, request, detail, async |run| {
        let stop = CancellationToken::new();
        let mut working = std::pin::pin!(flow(run, stop.clone()));
        tokio::select! {
            result = &mut working => return result,
            () = stop_signal() => stop.cancel(),
            () = parent_end(), if request.cause == SERVICE => stop.cancel(),
        }
        working.await
    })
    .await
}

/// Records a run from its beginning to its end.
async fn record<T>(
    warehouse: &Warehouse,
    job: Job<'_>,
    request: &RunRequest,
    mut detail: Value,
    flow: impl AsyncFnOnce(&Run) -> Result<FlowOutcome<T>>,
) -> Result<T> {
    let (name, rules) = (job.full_name(), job.rules());
    for key in ["depth", "event", "trigger"] {
        if let Some(value) = request.parameters.get(key) {
            detail[key] = value.clone();
        }
    }
    let start = RunStart {
        cause: request.cause.clone(),
        detail,
        logical: request.period.map(|period| period.to_string()),
        inputs: inputs::of(warehouse, &job)?,
        queue_entry: request.queued.map(|(entry, _)| entry),
        attempt: request.queued.map_or(1, |(_, attempt)| attempt),
        concurrency_keys: rules.concurrency.iter().cloned().collect(),
    };
    let run = warehouse.ledger.begin(&name, start)?;
    let log = start_run_log(&warehouse.ledger, run.id());
    log.line("INFO", start_text(request, &name));
    let ended = match flow(&run).await {
        Ok(ended) => ended,
        Err(error) => {
            let (outcome, text) = match error.downcast_ref::<Interruption>() {
                Some(Interruption::ByUser) => (Outcome::Cancelled, error.to_string()),
                _ => {
                    let text = failure::full_text(&error);
                    (Outcome::Failed { error: text.clone(), retryable: failure::is_retryable(&error) }, text)
                }
            };
            log.line("ERROR", text);
            log.end();
            run.finish(outcome, json!({}))?;
            return Err(error);
        }
    };
    log.line("INFO", format!("figures: {}", ended.figures));
    if let Outcome::Failed { error, .. } = &ended.outcome {
        log.line("ERROR", error.clone());
    }
    log.end();
    run.finish(ended.outcome, ended.figures).context("write the run's end")?;
    Ok(ended.output)
}

/// The first line of a run's log.
fn start_text(request: &RunRequest, job: &str) -> String {
    let period = request.period.map(|period| format!(" for {period}")).unwrap_or_default();
    let attempt = request.queued.map(|(_, attempt)| format!(", attempt {attempt}")).unwrap_or_default();
    format!("{job}{period} begins: {}{attempt}", request.cause)
}

/// Waits for a signal, or for the end of the job's time.
async fn interruption(timeout: Option<Duration>) -> Interruption {
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
        () = stop_signal() => Interruption::ByUser,
        limit = limit => Interruption::TimeLimit(limit),
    }
}

/// Waits until the process that started this one has ended.
async fn parent_end() {
    let parent = std::os::unix::process::parent_id();
    while std::os::unix::process::parent_id() == parent {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Waits for SIGINT or SIGTERM.
pub async fn stop_signal() {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
