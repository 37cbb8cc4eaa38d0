//! What runs by itself: slots and events become entries of the ledger's queue, and entries become
//! processes, each settled by how its run ended. All of its state is in the ledger: killed at any
//! instant, the next server goes on from there. It never runs a job in its own process.

mod child;
mod hooks;
mod plan;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use chrono::{DateTime, TimeDelta, Utc};
use ledger::{Ledger, QueueRow, RunRow, Settled};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::report;
use child::{Exit, Stop};

pub use plan::{Next, Plan};

/// Between two looks at the ledger: what other processes write is seen so late.
const TICK: Duration = Duration::from_millis(250);
/// What a run's own time limit has before the server's signal.
const LIMIT_SLACK: Duration = Duration::from_secs(5);
/// For what does not count as an attempt.
const LATER: TimeDelta = TimeDelta::seconds(5);
const HOOKS_MAX: usize = 8;
const HOOK_TRIES: u32 = 3;
const HOOK_WAIT: TimeDelta = TimeDelta::seconds(20);
/// Events looked at in one transaction.
const EVENTS: usize = 500;
/// Entries looked at in one round: more than these wait behind busy jobs rarely.
const DUE: usize = 1000;
const FOLLOWER: &str = "scheduler";

pub struct Scheduler {
    root: PathBuf,
    ledger: Ledger,
    plan: Plan,
    runs_max: usize,
    grace: Duration,
    running: HashMap<i64, Running>,
    exits: JoinSet<Exit>,
    told: JoinSet<(i64, Result<()>)>,
    /// None is started any more.
    is_stopping: bool,
}

/// A run's process that this server started, or one that an earlier server left behind.
struct Running {
    job: String,
    keys: Vec<String>,
    /// None: left behind; its end is seen by its lease.
    stop: Option<Stop>,
    deadline: Option<Instant>,
    is_asked: bool,
}

impl Scheduler {
    pub fn new(config: &config::Warehouse, ledger: &Ledger) -> Result<Scheduler> {
        let plan = Plan::of(config);
        ledger.keep_schedules(&plan.kept(), Utc::now())?;
        Ok(Scheduler {
            root: config.root.canonicalize()?,
            ledger: ledger.clone(),
            plan,
            runs_max: config.serve.runs_max,
            grace: config.serve.shutdown_grace,
            running: HashMap::new(),
            exits: JoinSet::new(),
            told: JoinSet::new(),
            is_stopping: false,
        })
    }

    /// Until it is told to stop, and what it started has ended or had its grace.
    pub async fn run(mut self, stop: CancellationToken) -> Result<()> {
        self.adopt()?;
        while !stop.is_cancelled() {
            // SQLite may wait for another process's transaction.
            let wait = tokio::task::block_in_place(|| self.step()).unwrap_or_else(|error| {
                tracing::error!("the scheduler tries again in a second: {}", report::chain(error.as_ref()));
                Duration::from_secs(1)
            });
            tokio::select! {
                () = self.ended() => {}
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => {}
            }
        }
        self.stop().await;
        Ok(())
    }

    /// Waits until a process or a hook ends, and settles it. Never, while there is none.
    async fn ended(&mut self) {
        tokio::select! {
            Some(exit) = self.exits.join_next() => match exit {
                Ok(exit) => tokio::task::block_in_place(|| self.settle(&exit)),
                Err(error) => tracing::error!(%error, "a run was lost from sight"),
            },
            Some(told) = self.told.join_next() => match told {
                Ok((entry, told)) => tokio::task::block_in_place(|| self.settle_hook(entry, told)),
                Err(error) => tracing::error!(%error, "a hook was lost from sight"),
            },
            else => std::future::pending().await,
        }
    }

    /// What an earlier server left under way: what lives is watched, the rest is settled.
    fn adopt(&mut self) -> Result<()> {
        self.ledger.sweep()?;
        for entry in self.ledger.running()? {
            let lives = entry.run_id.as_deref().map(|run| self.ledger.alive(run)).transpose()?;
            if lives == Some(true) {
                tracing::info!(job = entry.job, run = entry.run_id, "goes on: an earlier server started it");
                let rules = self.plan.rules(&entry.job);
                let keys = rules.and_then(|rules| rules.concurrency.clone()).into_iter().collect();
                let running = Running { job: entry.job, keys, stop: None, deadline: None, is_asked: false };
                self.running.insert(entry.id, running);
            } else {
                self.settle_entry(&entry, None, "")?;
            }
        }
        Ok(())
    }

    /// One look at all that may have changed; returns how long nothing is known to happen.
    fn step(&mut self) -> Result<Duration> {
        let now = Utc::now();
        self.settle_adopted()?;
        self.stop_cancelled()?;
        let schedules = self.ledger.schedules()?;
        for row in &schedules {
            if let Some(fired) = self.plan.fire(row, now) {
                self.fire(&row.name, fired)?;
            }
        }
        let paused = schedules.iter().filter(|row| row.paused).map(|row| row.name.clone()).collect();
        self.follow(&paused)?;
        self.start_due(now)?;
        let next = self.ledger.schedules()?.iter().filter_map(|row| row.next_at).min();
        let until = next.map(|next| (next - Utc::now()).to_std().unwrap_or_default());
        Ok(until.unwrap_or(TICK).min(TICK).max(Duration::from_millis(5)))
    }

    fn fire(&self, name: &str, mut fired: plan::Fired) -> Result<()> {
        // A job that is slower than its schedule has one run waiting, not a queue without end; runs
        // for periods are each another's.
        let mut is_waiting = match fired.entries.first() {
            Some(entry) => self.ledger.waiting_of(&entry.job)? > 0,
            None => false,
        };
        fired.entries.retain(|entry| entry.logical.is_some() || !std::mem::replace(&mut is_waiting, true));
        for entry in &fired.entries {
            tracing::info!(job = entry.job, cause = entry.cause, period = entry.logical, "queued");
        }
        self.ledger.fire(name, fired.seen_to, fired.next_at, fired.last_slot.as_deref(), &fired.entries)?;
        Ok(())
    }

    fn follow(&self, paused: &BTreeSet<String>) -> Result<()> {
        loop {
            let mut refused = Vec::new();
            let seen = self.ledger.follow(FOLLOWER, EVENTS, |event| {
                let caused = self.plan.caused_by(event, paused);
                refused.extend(caused.refused.into_iter().map(|job| (job, event.name.clone(), event.seq)));
                caused.entries.iter().for_each(|entry| tracing::info!(job = entry.job, cause = entry.cause, "queued"));
                caused.entries
            })?;
            for (job, event, seq) in refused {
                tracing::error!(job, event, seq, "not queued: the chain of jobs and events is too long to have an end");
                self.ledger.event("chain.broken", None, json!({"job": job, "event": event, "seq": seq}))?;
            }
            if seen < EVENTS {
                return Ok(());
            }
        }
    }

    fn start_due(&mut self, now: DateTime<Utc>) -> Result<()> {
        for entry in self.ledger.due(now, DUE)? {
            if plan::is_hook(&entry.job) {
                if self.told.len() < HOOKS_MAX && self.ledger.claim(entry.id)? {
                    self.tell(entry);
                }
                continue;
            }
            let Some(rules) = self.plan.rules(&entry.job).cloned() else {
                if self.ledger.claim(entry.id)? {
                    let error = format!("there is no job {} in the configuration any more", entry.job);
                    tracing::error!(job = entry.job, "{error}");
                    self.ledger.settle(entry.id, Settled::Failed { error })?;
                }
                continue;
            };
            let keys: Vec<String> = rules.concurrency.into_iter().collect();
            if self.running.len() >= self.runs_max || self.is_busy(&entry.job, &keys)? {
                continue;
            }
            if self.ledger.claim(entry.id)? {
                self.start(&entry, keys, rules.timeout)?;
            }
        }
        Ok(())
    }

    /// Here or anywhere else: a process that has not begun its run yet is known here only.
    fn is_busy(&self, job: &str, keys: &[String]) -> Result<bool> {
        let mut running = self.running.values();
        if running.any(|running| running.job == job || running.keys.iter().any(|key| keys.contains(key))) {
            return Ok(true);
        }
        for key in keys {
            if self.ledger.key_is_held(key)? {
                return Ok(true);
            }
        }
        Ok(self.ledger.job_is_running(job)?)
    }

    fn start(&mut self, entry: &QueueRow, keys: Vec<String>, timeout: Option<Duration>) -> Result<()> {
        match child::start(&self.root, entry) {
            Ok((stop, exit)) => {
                tracing::info!(job = entry.job, cause = entry.cause, period = entry.logical, "started");
                self.exits.spawn(exit);
                let deadline = timeout.map(|timeout| Instant::now() + timeout + LIMIT_SLACK);
                let running = Running { job: entry.job.clone(), keys, stop: Some(stop), deadline, is_asked: false };
                self.running.insert(entry.id, running);
            }
            Err(error) => {
                let error = report::chain(error.as_ref());
                tracing::error!(job = entry.job, "not started: {error}");
                self.ledger.settle(entry.id, Settled::Later { not_before: Utc::now() + LATER, error })?;
            }
        }
        Ok(())
    }

    /// Those whose cancellation was asked for, and those whose time is up.
    fn stop_cancelled(&mut self) -> Result<()> {
        if self.running.is_empty() {
            return Ok(());
        }
        let cancelled: BTreeSet<i64> =
            self.ledger.running()?.iter().filter(|entry| entry.cancel_requested).map(|entry| entry.id).collect();
        for (entry, running) in &mut self.running {
            let is_late = running.deadline.is_some_and(|deadline| Instant::now() > deadline);
            if running.is_asked || !(is_late || cancelled.contains(entry)) {
                continue;
            }
            running.is_asked = true;
            if let Some(stop) = &running.stop {
                tracing::info!(job = running.job, "{}", if is_late { "its time is up" } else { "to be cancelled" });
                stop.ask();
            }
        }
        Ok(())
    }

    fn settle_adopted(&mut self) -> Result<()> {
        let adopted: Vec<i64> =
            self.running.iter().filter(|(_, running)| running.stop.is_none()).map(|(id, _)| *id).collect();
        for id in adopted {
            let Some(entry) = self.ledger.queued(id)? else { continue };
            let lives = entry.run_id.as_deref().map(|run| self.ledger.alive(run)).transpose()?;
            if lives != Some(true) {
                self.ledger.sweep()?;
                self.settle_entry(&entry, None, "")?;
                self.running.remove(&id);
            }
        }
        Ok(())
    }

    fn settle(&mut self, exit: &Exit) {
        let settled = (|| {
            self.ledger.sweep()?;
            match self.ledger.queued(exit.entry)? {
                Some(entry) => self.settle_entry(&entry, exit.status, &exit.said),
                None => Ok(()),
            }
        })();
        match self.ledger.queued(exit.entry) {
            // Another process was quicker, one that an earlier server started: that one is watched.
            Ok(Some(entry)) if entry.state == "running" && entry.run_id.is_some() => {
                if let Some(running) = self.running.get_mut(&exit.entry) {
                    running.stop = None;
                }
            }
            _ => drop(self.running.remove(&exit.entry)),
        }
        if let Err(error) = settled {
            // It is settled when the server starts again, at the latest.
            tracing::error!(entry = exit.entry, "a run's end could not be noted: {}", report::chain(error.as_ref()));
        }
    }

    /// By what its run left in the ledger.
    fn settle_entry(&self, entry: &QueueRow, exit: Option<std::process::ExitStatus>, said: &str) -> Result<()> {
        let run = entry.run_id.as_deref().map(|run| self.ledger.run(run)).transpose()?.flatten();
        let settled = match &run {
            Some(run) if run.state == "running" => return Ok(()),
            Some(run) => self.by_run(entry, run),
            None => self.by_exit(entry, exit, said),
        };
        if let Some(run) = run.as_ref().filter(|run| run.state == "crashed" && !said.is_empty()) {
            let lines: Vec<_> = said.lines().map(|line| (Utc::now(), "ERROR".to_owned(), line.to_owned())).collect();
            self.ledger.log(&run.id, &lines)?;
        }
        self.say(entry, &settled);
        Ok(self.ledger.settle(entry.id, settled)?)
    }

    fn by_run(&self, entry: &QueueRow, run: &RunRow) -> Settled {
        let error = run.error.clone().unwrap_or_else(|| "no reason is known".to_owned());
        match run.state.as_str() {
            "succeeded" => Settled::Succeeded,
            "cancelled" if self.is_stopping && !entry.cancel_requested => {
                Settled::Later { not_before: Utc::now(), error: "the server was stopped".to_owned() }
            }
            "cancelled" => Settled::Cancelled,
            state => {
                let may_pass = state == "crashed" || run.figures["may_pass"] == true;
                self.after_failure(entry, may_pass, error)
            }
        }
    }

    /// Its process never began a run.
    fn by_exit(&self, entry: &QueueRow, exit: Option<std::process::ExitStatus>, said: &str) -> Settled {
        let not_before = Utc::now() + LATER;
        let last = said.lines().rfind(|line| line.starts_with("error")).unwrap_or(said).to_owned();
        match exit.and_then(|exit| exit.code()) {
            _ if entry.cancel_requested => Settled::Cancelled,
            // It died, or the server that started it: nothing is known to be wrong.
            None if exit.is_none() => Settled::Later { not_before: Utc::now(), error: "it never began".to_owned() },
            Some(code) if code == i32::from(report::code::RETRY) => Settled::Later { not_before, error: last },
            _ if self.is_stopping => Settled::Later { not_before: Utc::now(), error: last },
            code => {
                let error = match code {
                    Some(code) => format!("it did not begin (exit code {code}): {last}"),
                    None => format!("its process was killed before it began: {last}"),
                };
                self.after_failure(entry, code.is_none(), error)
            }
        }
    }

    fn after_failure(&self, entry: &QueueRow, may_pass: bool, error: String) -> Settled {
        match self.plan.rules(&entry.job) {
            Some(rules) if may_pass && entry.attempts <= rules.retries => {
                let delay = TimeDelta::from_std(rules.backoff.delay(entry.attempts)).unwrap_or(TimeDelta::hours(1));
                Settled::Again { not_before: Utc::now() + delay, error }
            }
            _ => Settled::Failed { error },
        }
    }

    fn say(&self, entry: &QueueRow, settled: &Settled) {
        let (job, run, period, attempt) = (&entry.job, &entry.run_id, &entry.logical, entry.attempts);
        match settled {
            Settled::Succeeded => tracing::info!(job, run, period, attempt, "succeeded"),
            Settled::Cancelled => tracing::info!(job, run, period, attempt, "cancelled"),
            Settled::Failed { error } => tracing::error!(job, run, period, attempt, "failed: {error}"),
            Settled::Again { not_before, error } => {
                tracing::warn!(job, run, period, attempt, "failed, again at {}: {error}", second(*not_before));
            }
            Settled::Later { not_before, error } => {
                tracing::warn!(job, period, "waits until {}: {error}", second(*not_before));
            }
        }
    }

    fn tell(&mut self, entry: QueueRow) {
        let Some(act) = self.plan.act(&entry.job).cloned() else {
            self.settle_hook(entry.id, Err(anyhow::anyhow!("there is no such hook in the configuration any more")));
            return;
        };
        let warehouse = self.root.display().to_string();
        self.told.spawn(async move { (entry.id, hooks::tell(&act, &entry, &warehouse).await) });
    }

    fn settle_hook(&self, id: i64, told: Result<()>) {
        let settled = (|| {
            let Some(entry) = self.ledger.queued(id)? else { return Ok(()) };
            let settled = match told {
                Ok(()) => Settled::Succeeded,
                Err(error) => {
                    let error = report::chain(error.as_ref());
                    match entry.attempts {
                        HOOK_TRIES.. => Settled::Failed { error },
                        _ => Settled::Again { not_before: Utc::now() + HOOK_WAIT, error },
                    }
                }
            };
            self.say(&entry, &settled);
            anyhow::Ok(self.ledger.settle(id, settled)?)
        })();
        if let Err(error) = settled {
            tracing::error!(entry = id, "a hook's end could not be noted: {}", report::chain(error.as_ref()));
        }
    }

    /// Runs may go on for a while; then they are asked to stop, and begin anew with the next server.
    async fn stop(&mut self) {
        self.is_stopping = true;
        if self.running.values().any(|running| running.stop.is_some()) {
            tracing::info!("stopping: runs under way have {} s", self.grace.as_secs());
        }
        let grace = self.grace;
        let graceful = async {
            while !self.exits.is_empty() || !self.told.is_empty() {
                self.ended().await;
            }
        };
        if tokio::time::timeout(grace, graceful).await.is_ok() {
            return;
        }
        for running in self.running.values() {
            if let Some(stop) = &running.stop {
                tracing::info!(job = running.job, "stopped with the server");
                stop.ask();
            }
        }
        while !self.exits.is_empty() {
            match self.exits.join_next().await {
                Some(Ok(exit)) => tokio::task::block_in_place(|| self.settle(&exit)),
                Some(Err(error)) => tracing::error!(%error, "a run was lost from sight"),
                None => break,
            }
        }
        // Hooks that still hang are told again by the next server.
    }
}

fn second(at: DateTime<Utc>) -> impl std::fmt::Display {
    at.format("%Y-%m-%dT%H:%M:%SZ")
}
