//! What becomes of a queue entry when one of its attempts ended: it is done, it is retried, or it waits again
//! without a lost attempt.

use chrono::{DateTime, TimeDelta, Utc};
use ledger::{AttemptEnd, QueueRow, RunRow};

use crate::JobRules;

/// How long an entry waits whose attempt does not count.
const POSTPONED_FOR: TimeDelta = TimeDelta::seconds(5);
const HOOK_ATTEMPTS_MAX: u32 = 3;
const HOOK_RETRY_AFTER: TimeDelta = TimeDelta::seconds(20);

/// How a process ended that recorded no run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProcessEnd {
    /// Its end was not seen: it, or the server that started it, was killed.
    Unknown,
    /// It reported that it could not begin now, such as behind another run's lease.
    NotNow {
        /// The error, for users.
        error: String,
    },
    /// It exited with an error before it began a run.
    Exited {
        /// Its exit code.
        code: i32,
        /// The error, for users.
        error: String,
    },
    /// A signal ended it.
    Killed {
        /// The last that it wrote.
        error: String,
    },
}

/// The end of an attempt by what its run recorded; `None` while the run goes on. `is_stopping`: the server ends.
pub fn end_by_run(
    entry: &QueueRow,
    run: &RunRow,
    rules: Option<&JobRules>,
    is_stopping: bool,
    now: DateTime<Utc>,
) -> Option<AttemptEnd> {
    let error = || run.error.clone().unwrap_or_else(|| "it has no recorded error".to_owned());
    Some(match run.state.as_str() {
        "running" => return None,
        "succeeded" => AttemptEnd::Succeeded,
        // The run is to be continued by the next server, and this attempt is not its fault.
        "cancelled" if is_stopping && !entry.cancel_requested => {
            AttemptEnd::Postponed { not_before: now, error: "the server was stopped".to_owned() }
        }
        "cancelled" => AttemptEnd::Cancelled,
        state => after_failure(entry, rules, state == "crashed" || run.retryable, error(), now),
    })
}

/// The end of an attempt whose process never began a run.
pub fn end_by_process(
    entry: &QueueRow,
    end: ProcessEnd,
    rules: Option<&JobRules>,
    is_stopping: bool,
    now: DateTime<Utc>,
) -> AttemptEnd {
    if entry.cancel_requested {
        return AttemptEnd::Cancelled;
    }
    match end {
        // Nothing is known to be wrong with the job.
        ProcessEnd::Unknown => AttemptEnd::Postponed { not_before: now, error: "its run never began".to_owned() },
        ProcessEnd::NotNow { error } => AttemptEnd::Postponed { not_before: now + POSTPONED_FOR, error },
        ProcessEnd::Exited { error, .. } | ProcessEnd::Killed { error } if is_stopping => {
            AttemptEnd::Postponed { not_before: now, error }
        }
        ProcessEnd::Exited { code, error } => {
            let error = format!("its run did not begin (exit code {code}): {error}");
            after_failure(entry, rules, false, error, now)
        }
        ProcessEnd::Killed { error } => {
            let error = format!("its process was killed before it began: {error}");
            after_failure(entry, rules, true, error, now)
        }
    }
}

/// The end of a hook's call; `error` is `None` where it succeeded.
pub fn end_of_hook(entry: &QueueRow, error: Option<String>, now: DateTime<Utc>) -> AttemptEnd {
    match error {
        None => AttemptEnd::Succeeded,
        Some(error) if entry.attempts >= HOOK_ATTEMPTS_MAX => AttemptEnd::Failed { error },
        Some(error) => AttemptEnd::Retry { not_before: now + HOOK_RETRY_AFTER, error },
    }
}

/// A retry while the job's rules leave one, and only where another attempt may end differently.
fn after_failure(
    entry: &QueueRow,
    rules: Option<&JobRules>,
    is_retryable: bool,
    error: String,
    now: DateTime<Utc>,
) -> AttemptEnd {
    match rules {
        Some(rules) if is_retryable && entry.attempts <= rules.retries => {
            let delay = TimeDelta::from_std(rules.backoff.delay(entry.attempts)).unwrap_or(TimeDelta::hours(1));
            AttemptEnd::Retry { not_before: now + delay, error }
        }
        _ => AttemptEnd::Failed { error },
    }
}
