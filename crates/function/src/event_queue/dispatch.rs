//! Takes events that are due from the ledger, runs them, and notes in the ledger how they ended.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use ledger::{ClaimedInvocation, FollowUp, InvocationEnd, Ledger};
use tokio::task::JoinSet;

use super::record::{Condition, Record};
use super::{EventQueue, deliver};
use crate::error::{Error, ErrorContext, Kind, Result};
use crate::host::{Answer, Event, Failure, Refusal};
use crate::registry::LATEST;

/// The longest chain of functions that invoke one another by their destinations, as on AWS.
const DEPTH_MAX: u32 = 16;
const RETRY_SECONDS_MAX: i64 = 300;
const NOTE_RETRY_MAX: Duration = Duration::from_secs(30);

/// Runs events until `stop`; see [`EventQueue::run`].
pub(super) async fn run(queue: &EventQueue, stop: impl Future<Output = ()>) -> Result<()> {
    let mut running = JoinSet::new();
    // The lock is held until the last event has ended.
    let mut held = None;
    let ended = tokio::select! {
        () = stop => Ok(()),
        ended = async {
            held.replace(wait_for_lock(queue).await?);
            take_events(queue, &mut running).await
        } => ended,
    };
    while running.join_next().await.is_some() {}
    drop(held);
    ended
}

/// Waits for the lock: only one process takes events.
async fn wait_for_lock(queue: &EventQueue) -> Result<ledger::NamedLease> {
    loop {
        if let Some(held) = blocking(queue, |ledger| ledger.take_lease("invocations")).await? {
            blocking(queue, Ledger::requeue_interrupted).await?;
            return Ok(held);
        }
        tokio::time::sleep(queue.inner.settings.look_period).await;
    }
}

/// Takes and runs events. Ends only with an error.
async fn take_events(queue: &EventQueue, running: &mut JoinSet<()>) -> Result<()> {
    let settings = queue.inner.settings;
    let counts = RunningCounts::default();
    let mut delivering = JoinSet::new();
    let mut delivered = None::<Instant>;
    loop {
        while running.try_join_next().is_some() {}
        while delivering.try_join_next().is_some() {}
        let is_due = delivered.is_none_or(|at| at.elapsed() >= settings.look_period);
        if delivering.is_empty() && (is_due || queue.inner.files.swap(false, Ordering::AcqRel)) {
            delivering.spawn(deliver::all(queue.ledger().clone()));
            delivered = Some(Instant::now());
        }
        let room = settings.running_max.saturating_sub(running.len());
        let taken = if room == 0 { Vec::new() } else { next(queue, room, &counts).await? };
        let none = taken.is_empty();
        for taken in taken {
            let count_guard = counts.count(&taken.invocation.function);
            let queue = queue.clone();
            running.spawn(async move {
                run_event(&queue, &taken).await;
                drop(count_guard);
                queue.inner.changed.notify_one();
            });
        }
        if none {
            // An event that is due and was not taken waits for another one to end, which is notified.
            let next = blocking(queue, Ledger::next_invocation).await?;
            let wait = next.and_then(|at| (at - Utc::now()).to_std().ok()).unwrap_or(settings.look_period);
            let _ = tokio::time::timeout(wait.min(settings.look_period), queue.inner.changed.notified()).await;
        }
    }
}

/// Takes at most `room` events, and of each function no more than may run.
async fn next(queue: &EventQueue, room: usize, counts: &RunningCounts) -> Result<Vec<ClaimedInvocation>> {
    let (fleet, counts) = (queue.inner.fleet.clone(), counts.clone());
    let of_one = (queue.inner.settings.running_max / 2).max(1);
    let taken = blocking(queue, move |ledger| {
        let room_of = |name: &str| {
            let found = fleet.find(name, LATEST).ok().flatten();
            let most = found.and_then(|found| found.policy.concurrency).map_or(of_one, |most| most as usize);
            // At least 1, also for a function with concurrency 0: its events have to be taken to reach their age limit.
            most.clamp(1, of_one).saturating_sub(counts.of(name))
        };
        ledger.claim_invocations(Utc::now(), room, &room_of)
    });
    taken.await
}

/// How many events of each function are running.
#[derive(Clone, Default)]
struct RunningCounts(Arc<Mutex<HashMap<String, usize>>>);

/// Counts one event until it is dropped.
struct CountGuard(RunningCounts, String);

impl RunningCounts {
    fn count(&self, name: &str) -> CountGuard {
        *self.lock().entry(name.to_owned()).or_default() += 1;
        CountGuard(self.clone(), name.to_owned())
    }

    fn of(&self, name: &str) -> usize {
        self.lock().get(name).copied().unwrap_or_default()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for CountGuard {
    fn drop(&mut self) {
        let mut counts = self.0.lock();
        match counts.get_mut(&self.1) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(counts.remove(&self.1)),
        }
    }
}

/// Runs an event and notes its end in the ledger. Where that fails it is retried: until then the event counts as
/// running, so that no more events are taken than can be noted.
async fn run_event(queue: &EventQueue, taken: &ClaimedInvocation) {
    let (ended, follow) = attempt(queue, taken).await;
    let mut wait = Duration::from_millis(100);
    loop {
        let (id, ended, follow) = (taken.id, ended.clone(), follow.clone());
        let noted = blocking(queue, move |ledger| ledger.end_invocation(id, &ended, follow.as_ref())).await;
        let Err(error) = noted else { break };
        tracing::warn!(%error, request_id = taken.invocation.request_id, "note the end of an event");
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(NOTE_RETRY_MAX);
    }
    if matches!(follow, Some(FollowUp::File { .. })) {
        queue.inner.files.store(true, Ordering::Release);
    }
}

/// Makes one attempt. Gives how it ended, and what has to happen because of it.
async fn attempt(queue: &EventQueue, taken: &ClaimedInvocation) -> (InvocationEnd, Option<FollowUp>) {
    let event = &taken.invocation;
    let fleet = &queue.inner.fleet;
    let found = match fleet.find(&event.function, &event.qualifier) {
        Ok(Some(found)) => found,
        Ok(None) => return (unknown(taken), None),
        Err(error) => return (throttled(taken, Some(&error)), None),
    };
    let age = Utc::now() - taken.created_at;
    let record = |condition| Record { taken, found: &found, condition, ran: None };
    if age > delta(found.policy.event_age_max) {
        return failed(&record(Condition::EventAgeExceeded), "it is older than its event_age_max");
    }
    if found.policy.concurrency == Some(0) {
        return failed(&record(Condition::ZeroReservedConcurrency), "its function has concurrency = 0");
    }
    if event.depth > DEPTH_MAX {
        let says = format!("it is number {} in a chain of functions that invoke one another", event.depth);
        return failed(&record(Condition::RetriesExhausted), &says);
    }
    let asked = Event {
        request_id: event.request_id.clone(),
        payload: event.payload.clone().into(),
        client_context: event.client_context.clone(),
        ..Event::default()
    };
    let ran = match fleet.invoke(&event.function, &event.qualifier, asked, None).await {
        Ok(ran) => ran,
        Err(Refusal::Busy(_)) => return (throttled(taken, None), None),
        Err(Refusal::Unknown) => return (unknown(taken), None),
        Err(Refusal::Failed(error)) if error.kind == Kind::FixInput => {
            return failed(&record(Condition::RetriesExhausted), &error.chain());
        }
        Err(Refusal::Failed(error)) => return (throttled(taken, Some(&error)), None),
    };
    let record = |condition| Record { ran: Some(&ran), ..record(condition) };
    let Answer::Error(failure) = &ran.outcome.answer else {
        let follow = record(Condition::Success).follow();
        return (InvocationEnd::Succeeded { executed_version: ran.function_version.shown.clone() }, follow);
    };
    let wait = taken.attempts.checked_sub(1).and_then(|at| found.policy.retry_after.get(at as usize));
    let Some(wait) = wait else {
        return failed(&record(Condition::RetriesExhausted), &says(failure));
    };
    if age + delta(*wait) > delta(found.policy.event_age_max) {
        return failed(&record(Condition::EventAgeExceeded), &says(failure));
    }
    (InvocationEnd::Retry { not_before: Utc::now() + delta(*wait), error: says(failure) }, None)
}

fn failed(record: &Record<'_>, error: &str) -> (InvocationEnd, Option<FollowUp>) {
    let executed_version = record.ran.map(|ran| ran.function_version.shown.clone());
    let dead = record.found.policy.dead_letters;
    (InvocationEnd::Failed { executed_version, error: error.to_owned(), dead }, record.follow())
}

/// The end of an event whose function is not deployed. It is kept as a dead letter: there is no policy that says
/// not to.
fn unknown(taken: &ClaimedInvocation) -> InvocationEnd {
    let error =
        format!("there is no function {} with qualifier {}", taken.invocation.function, taken.invocation.qualifier);
    InvocationEnd::Failed { executed_version: None, error, dead: true }
}

/// An event that could not start. This is no attempt: it waits longer each time, until it is too old.
fn throttled(taken: &ClaimedInvocation, error: Option<&Error>) -> InvocationEnd {
    let seconds = 1_i64.checked_shl(taken.throttles.min(16)).unwrap_or(RETRY_SECONDS_MAX);
    let error = error.map(Error::chain);
    InvocationEnd::Throttled { not_before: at_in(seconds.min(RETRY_SECONDS_MAX)), error }
}

fn at_in(seconds: i64) -> DateTime<Utc> {
    Utc::now() + TimeDelta::seconds(seconds)
}

fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}

/// A failure's type and message, without any payload, shortened.
fn says(failure: &Failure) -> String {
    let body: Option<serde_json::Value> = serde_json::from_slice(&failure.body).ok();
    let message = body.as_ref().and_then(|body| body["errorMessage"].as_str()).unwrap_or_default();
    let mut text = format!("{}: {message}", failure.error_type);
    text.truncate(text.floor_char_boundary(1000));
    text
}

/// Uses the ledger in a thread that may block.
async fn blocking<T: Send + 'static>(
    queue: &EventQueue,
    work: impl FnOnce(&Ledger) -> ledger::Result<T> + Send + 'static,
) -> Result<T> {
    let ledger = queue.ledger().clone();
    let done = tokio::task::spawn_blocking(move || work(&ledger)).await;
    done.during(Kind::Bug, "use the ledger")?
}
