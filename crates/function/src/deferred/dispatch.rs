//! Takes events whose time has come, runs them, notes how they ended.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use ledger::{Ended, Follow, Ledger, Taken};
use tokio::task::JoinSet;

use super::record::{Condition, Record};
use super::{Deferred, deliver};
use crate::error::{During, Error, Kind, Result};
use crate::host::{Answer, Event, Failure, Refusal};
use crate::registry::LATEST;

/// AWS stops at so many functions that cause one another.
const DEPTH_MAX: u32 = 16;
const AGAIN_SECONDS_MAX: i64 = 300;
const NOTE_AGAIN_MAX: Duration = Duration::from_secs(30);

pub(super) async fn run(deferred: &Deferred, stop: impl Future<Output = ()>) -> Result<()> {
    let mut running = JoinSet::new();
    // Kept until the last of them has ended.
    let mut held = None;
    let ended = tokio::select! {
        () = stop => Ok(()),
        ended = async {
            held.replace(hold(deferred).await?);
            take(deferred, &mut running).await
        } => ended,
    };
    while running.join_next().await.is_some() {}
    drop(held);
    ended
}

/// One process takes.
async fn hold(deferred: &Deferred) -> Result<ledger::Held> {
    loop {
        if let Some(held) = blocking(deferred, |ledger| ledger.hold("invocations")).await? {
            blocking(deferred, Ledger::put_back_invocations).await?;
            return Ok(held);
        }
        tokio::time::sleep(deferred.inner.rules.look_period).await;
    }
}

async fn take(deferred: &Deferred, running: &mut JoinSet<()>) -> Result<()> {
    let rules = deferred.inner.rules;
    let counts = Counts::default();
    let mut delivering = JoinSet::new();
    let mut delivered = None::<Instant>;
    loop {
        while running.try_join_next().is_some() {}
        while delivering.try_join_next().is_some() {}
        let look = delivered.is_none_or(|at| at.elapsed() >= rules.look_period);
        if delivering.is_empty() && (look || deferred.inner.files.swap(false, Ordering::AcqRel)) {
            delivering.spawn(deliver::all(deferred.ledger().clone()));
            delivered = Some(Instant::now());
        }
        let room = rules.running_max.saturating_sub(running.len());
        let taken = if room == 0 { Vec::new() } else { next(deferred, room, &counts).await? };
        let none = taken.is_empty();
        for taken in taken {
            let counted = counts.count(&taken.invocation.function);
            let deferred = deferred.clone();
            running.spawn(async move {
                one(&deferred, &taken).await;
                drop(counted);
                deferred.inner.news.notify_one();
            });
        }
        if none {
            // What is due and was not taken has no room: an end will be the news.
            let next = blocking(deferred, Ledger::next_invocation).await?;
            let wait = next.and_then(|at| (at - Utc::now()).to_std().ok()).unwrap_or(rules.look_period);
            let _ = tokio::time::timeout(wait.min(rules.look_period), deferred.inner.news.notified()).await;
        }
    }
}

async fn next(deferred: &Deferred, room: usize, counts: &Counts) -> Result<Vec<Taken>> {
    let (fleet, counts) = (deferred.inner.fleet.clone(), counts.clone());
    let of_one = (deferred.inner.rules.running_max / 2).max(1);
    let taken = blocking(deferred, move |ledger| {
        let room_of = |name: &str| {
            let found = fleet.find(name, LATEST).ok().flatten();
            let most = found.and_then(|found| found.policy.concurrency).map_or(of_one, |most| most as usize);
            // Also of a function that may not run at all: its events grow old.
            most.clamp(1, of_one).saturating_sub(counts.of(name))
        };
        ledger.take_invocations(Utc::now(), room, &room_of)
    });
    taken.await
}

/// Events under way, by function.
#[derive(Clone, Default)]
struct Counts(Arc<Mutex<HashMap<String, usize>>>);

struct Counted(Counts, String);

impl Counts {
    fn count(&self, name: &str) -> Counted {
        *self.lock().entry(name.to_owned()).or_default() += 1;
        Counted(self.clone(), name.to_owned())
    }

    fn of(&self, name: &str) -> usize {
        self.lock().get(name).copied().unwrap_or_default()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.0.lock();
        match counts.get_mut(&self.1) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(counts.remove(&self.1)),
        }
    }
}

/// Runs an event and notes its end. An end that can't be noted is noted later: until then the event
/// takes its place, so that no more are taken than can be noted.
async fn one(deferred: &Deferred, taken: &Taken) {
    let (ended, follow) = attempt(deferred, taken).await;
    let mut wait = Duration::from_millis(100);
    loop {
        let (id, ended, follow) = (taken.id, ended.clone(), follow.clone());
        let noted = blocking(deferred, move |ledger| ledger.end_invocation(id, &ended, follow.as_ref())).await;
        let Err(error) = noted else { break };
        tracing::warn!(%error, request_id = taken.invocation.request_id, "note the end of an event");
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(NOTE_AGAIN_MAX);
    }
    if matches!(follow, Some(Follow::File { .. })) {
        deferred.inner.files.store(true, Ordering::Release);
    }
}

async fn attempt(deferred: &Deferred, taken: &Taken) -> (Ended, Option<Follow>) {
    let event = &taken.invocation;
    let fleet = &deferred.inner.fleet;
    let found = match fleet.find(&event.function, &event.qualifier) {
        Ok(Some(found)) => found,
        Ok(None) => return (unknown(taken), None),
        Err(error) => return (later(taken, Some(&error)), None),
    };
    let age = Utc::now() - taken.created_at;
    let record = |condition| Record { taken, found: &found, condition, ran: None };
    if age > delta(found.policy.event_age_max) {
        return failed(&record(Condition::EventAgeExceeded), "it grew older than its event_age_max");
    }
    if event.depth > DEPTH_MAX {
        let says = format!("it is the {}th of functions that cause one another", event.depth);
        return failed(&record(Condition::RetriesExhausted), &says);
    }
    let asked = Event {
        request_id: event.request_id.clone(),
        payload: event.payload.clone().into(),
        client_context: event.client_context.clone(),
        files: None,
    };
    let ran = match fleet.invoke(&event.function, &event.qualifier, asked, None).await {
        Ok(ran) => ran,
        Err(Refusal::Busy(_)) => return (later(taken, None), None),
        Err(Refusal::Unknown) => return (unknown(taken), None),
        Err(Refusal::Failed(error)) if error.kind == Kind::FixInput => {
            return failed(&record(Condition::RetriesExhausted), &error.chain());
        }
        Err(Refusal::Failed(error)) => return (later(taken, Some(&error)), None),
    };
    let record = |condition| Record { ran: Some(&ran), ..record(condition) };
    let Answer::Error(failure) = &ran.outcome.answer else {
        let follow = record(Condition::Success).follow();
        return (Ended::Succeeded { executed_version: ran.found.shown.clone() }, follow);
    };
    let wait = taken.attempts.checked_sub(1).and_then(|at| found.policy.retry_after.get(at as usize));
    let Some(wait) = wait else {
        return failed(&record(Condition::RetriesExhausted), &says(failure));
    };
    if age + delta(*wait) > delta(found.policy.event_age_max) {
        return failed(&record(Condition::EventAgeExceeded), &says(failure));
    }
    (Ended::Again { not_before: Utc::now() + delta(*wait), error: says(failure) }, None)
}

fn failed(record: &Record<'_>, error: &str) -> (Ended, Option<Follow>) {
    let executed_version = record.ran.map(|ran| ran.found.shown.clone());
    let dead = record.found.policy.dead_letters;
    (Ended::Failed { executed_version, error: error.to_owned(), dead }, record.follow())
}

/// Nobody can say whether its dead letters are wanted: they are kept.
fn unknown(taken: &Taken) -> Ended {
    let error =
        format!("there is no function {} with qualifier {}", taken.invocation.function, taken.invocation.qualifier);
    Ended::Failed { executed_version: None, error, dead: true }
}

/// Not an attempt: it waits longer each time, until it is too old.
fn later(taken: &Taken, error: Option<&Error>) -> Ended {
    let seconds = 1_i64.checked_shl(taken.throttles.min(16)).unwrap_or(AGAIN_SECONDS_MAX);
    let error = error.map(Error::chain);
    Ended::Throttled { not_before: at_in(seconds.min(AGAIN_SECONDS_MAX)), error }
}

fn at_in(seconds: i64) -> DateTime<Utc> {
    Utc::now() + TimeDelta::seconds(seconds)
}

fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}

/// The error's type, and what it says of itself; no payload.
fn says(failure: &Failure) -> String {
    let body: Option<serde_json::Value> = serde_json::from_slice(&failure.body).ok();
    let message = body.as_ref().and_then(|body| body["errorMessage"].as_str()).unwrap_or_default();
    let mut text = format!("{}: {message}", failure.error_type);
    text.truncate(text.floor_char_boundary(1000));
    text
}

async fn blocking<T: Send + 'static>(
    deferred: &Deferred,
    work: impl FnOnce(&Ledger) -> ledger::Result<T> + Send + 'static,
) -> Result<T> {
    let ledger = deferred.ledger().clone();
    let done = tokio::task::spawn_blocking(move || work(&ledger)).await;
    Ok(done.during(Kind::Bug, "work with the ledger")??)
}
