//! The scheduler: it makes queue entries of slots and events, and starts a process for each entry.
//! How a run ended decides whether its entry is done, is retried or has failed. All of its state is
//! in the ledger, so that after a crash the next server goes on from there. It never runs a job in
//! its own process.

mod child;
mod hooks;
mod services;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use chrono::{DateTime, TimeDelta, Utc};
use config::OrUnset;
use config::job::HookAction;
use ledger::{AttemptEnd, Ledger, QueueRow};
use schedule::{DueSlots, Planner, ProcessEnd, end_by_process, end_by_run, end_of_hook, hook_of};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::failure;
use crate::warehouse::Warehouse;
use child::{Exit, StopHandle};
use services::Services;

/// Between two reads of the ledger, and so the delay with which other processes' writes are seen.
const TICK: Duration = Duration::from_millis(250);
/// How much longer than a job's `timeout` the server waits for the run to stop itself.
const LIMIT_SLACK: Duration = Duration::from_secs(5);
/// The wait before an entry whose run never began is started again; this counts as no attempt.
const LATER: TimeDelta = TimeDelta::seconds(5);
/// How many hooks are called at a time.
const HOOKS_MAX: usize = 8;
/// Events that are read in one transaction.
const EVENTS: usize = 500;
/// Entries that are read in one round. More entries than these rarely wait for busy jobs.
const DUE: usize = 1000;
/// The scheduler's name among those that follow the ledger's events.
const FOLLOWER: &str = "scheduler";

/// Starts the jobs of one warehouse by its triggers and its queue.
pub struct Scheduler {
    root: PathBuf,
    executable: PathBuf,
    ledger: Ledger,
    planner: Planner,
    /// What each hook does, by its name.
    hook_actions: BTreeMap<String, OrUnset<HookAction>>,
    runs_max: usize,
    grace: Duration,
    running: HashMap<i64, RunningEntry>,
    exits: JoinSet<Exit>,
    hooks: JoinSet<(i64, Result<()>)>,
    services: Services,
    /// True while the server stops: no run is started any more.
    is_stopping: bool,
}

/// A queue entry whose run has a process: one that this server started, or one of an earlier server.
struct RunningEntry {
    job: String,
    keys: Vec<String>,
    /// None for a process of an earlier server, whose end is seen by the run's lease.
    stop: Option<StopHandle>,
    deadline: Option<Instant>,
    stop_requested: bool,
}

impl Scheduler {
    /// A scheduler for a warehouse. Stores the configuration's triggers in the ledger.
    pub fn new(warehouse: &Warehouse) -> Result<Scheduler> {
        let (config, ledger) = (&warehouse.config, &warehouse.ledger);
        let planner = config.planner();
        let hook_actions = config.hooks.iter().map(|(name, hook)| (name.clone(), hook.action.clone())).collect();
        ledger.set_schedules(&planner.definitions(), Utc::now())?;
        let (root, executable) = (config.root.canonicalize()?, warehouse.environment.executable.clone());
        let streams = config.transfers.values().filter(|transfer| transfer.mode == config::Mode::Changes);
        let services = streams.map(|transfer| format!("transfer:{}", transfer.name));
        Ok(Scheduler {
            services: Services::new(&root, &executable, services),
            root,
            executable,
            ledger: ledger.clone(),
            planner,
            hook_actions,
            runs_max: config.serve.runs_max,
            grace: config.serve.shutdown_grace,
            running: HashMap::new(),
            exits: JoinSet::new(),
            hooks: JoinSet::new(),
            is_stopping: false,
        })
    }

    /// Runs until `stop` is cancelled, and then until all that it started has ended, or its grace is over.
    pub async fn run(mut self, stop: CancellationToken) -> Result<()> {
        self.adopt()?;
        while !stop.is_cancelled() {
            // SQLite may wait for another process's transaction.
            let wait = tokio::task::block_in_place(|| self.step()).unwrap_or_else(|error| {
                tracing::error!(
                    "the scheduler's round failed, and is retried in a second: {}",
                    base::chain(error.as_ref())
                );
                Duration::from_secs(1)
            });
            tokio::select! {
                () = self.next_end() => {}
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => {}
            }
        }
        self.stop().await;
        Ok(())
    }

    /// Waits until a process or a hook ends, and ends its entry. Waits forever while there is none.
    async fn next_end(&mut self) {
        tokio::select! {
            Some(exit) = self.exits.join_next() => match exit {
                Ok(exit) => tokio::task::block_in_place(|| self.end_run(&exit)),
                Err(error) => tracing::error!(%error, "the task of a run panicked"),
            },
            Some(result) = self.hooks.join_next() => match result {
                Ok((entry, result)) => tokio::task::block_in_place(|| self.end_hook(entry, result)),
                Err(error) => tracing::error!(%error, "the task of a hook panicked"),
            },
            () = self.services.next_end(self.is_stopping) => {}
        }
    }

    /// Takes over the runs of an earlier server: the living ones are watched, the entries of the others are ended.
    fn adopt(&mut self) -> Result<()> {
        self.ledger.mark_crashed_runs()?;
        for entry in self.ledger.running()? {
            let is_alive = entry.run_id.as_deref().map(|run| self.ledger.is_run_alive(run)).transpose()?;
            if is_alive == Some(true) {
                tracing::info!(job = entry.job, run = entry.run_id, "still running: an earlier server started it");
                let rules = self.planner.rules(&entry.job);
                let keys = rules.and_then(|rules| rules.concurrency.clone()).into_iter().collect();
                let running = RunningEntry { job: entry.job, keys, stop: None, deadline: None, stop_requested: false };
                self.running.insert(entry.id, running);
            } else {
                self.end_entry(&entry, None, "")?;
            }
        }
        Ok(())
    }

    /// One round over all that may have changed. Returns how long the next round can wait.
    fn step(&mut self) -> Result<Duration> {
        let now = Utc::now();
        self.end_adopted()?;
        self.stop_cancelled()?;
        let schedules = self.ledger.schedules()?;
        for row in &schedules {
            if let Some(due) = self.planner.due(row, now) {
                self.queue_slots(&row.name, due)?;
            }
        }
        let paused = schedules.iter().filter(|row| row.paused).map(|row| row.name.clone()).collect();
        self.follow_events(&paused)?;
        self.start_due(now)?;
        self.services.start_due(&self.ledger)?;
        let next = self.ledger.schedules()?.iter().filter_map(|row| row.next_at).min();
        let until = next.map(|next| (next - Utc::now()).to_std().unwrap_or_default());
        Ok(until.unwrap_or(TICK).min(TICK).max(Duration::from_millis(5)))
    }

    fn queue_slots(&self, name: &str, mut due: DueSlots) -> Result<()> {
        // A job that is slower than its schedule has at most one entry waiting. Entries for periods are
        // all kept: each is for another one.
        let mut is_waiting = match due.entries.first() {
            Some(entry) => self.ledger.waiting_count(&entry.job)? > 0,
            None => false,
        };
        due.entries.retain(|entry| entry.logical.is_some() || !std::mem::replace(&mut is_waiting, true));
        for entry in &due.entries {
            tracing::info!(job = entry.job, cause = entry.cause, period = entry.logical, "queued");
        }
        self.ledger.queue_slots(name, due.seen_to, due.next_at, due.last_slot.as_deref(), &due.entries)?;
        Ok(())
    }

    fn follow_events(&self, paused: &BTreeSet<String>) -> Result<()> {
        loop {
            let mut refused = Vec::new();
            let seen = self.ledger.follow(FOLLOWER, EVENTS, |event| {
                let follow_up = self.planner.follow_ups(event, paused);
                refused.extend(follow_up.refused.into_iter().map(|job| (job, event.name.clone(), event.seq)));
                follow_up
                    .entries
                    .iter()
                    .for_each(|entry| tracing::info!(job = entry.job, cause = entry.cause, "queued"));
                follow_up.entries
            })?;
            for (job, event, seq) in refused {
                tracing::error!(job, event, seq, "not queued: the chain of jobs and events is too long");
                self.ledger.event("chain.broken", None, json!({"job": job, "event": event, "seq": seq}))?;
            }
            if seen < EVENTS {
                return Ok(());
            }
        }
    }

    fn start_due(&mut self, now: DateTime<Utc>) -> Result<()> {
        for entry in self.ledger.due(now, DUE)? {
            if hook_of(&entry.job).is_some() {
                if self.hooks.len() < HOOKS_MAX && self.ledger.claim(entry.id)? {
                    self.call_hook(entry);
                }
                continue;
            }
            let Some(rules) = self.planner.rules(&entry.job).cloned() else {
                if self.ledger.claim(entry.id)? {
                    let error =
                        format!("this server read no job {} when it started: restart it after a change", entry.job);
                    tracing::error!(job = entry.job, "{error}");
                    self.ledger.end_attempt(entry.id, AttemptEnd::Failed { error })?;
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

    /// True where the job, or one of its concurrency keys, has a run in any process. A process that
    /// has not begun its run yet is known only to this server.
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
        match child::start(&self.executable, &self.root, entry) {
            Ok((stop, exit)) => {
                tracing::info!(job = entry.job, cause = entry.cause, period = entry.logical, "started");
                self.exits.spawn(exit);
                let deadline = timeout.map(|timeout| Instant::now() + timeout + LIMIT_SLACK);
                let running =
                    RunningEntry { job: entry.job.clone(), keys, stop: Some(stop), deadline, stop_requested: false };
                self.running.insert(entry.id, running);
            }
            Err(error) => {
                let error = base::chain(error.as_ref());
                tracing::error!(job = entry.job, "not started: {error}");
                self.ledger.end_attempt(entry.id, AttemptEnd::Postponed { not_before: Utc::now() + LATER, error })?;
            }
        }
        Ok(())
    }

    /// Stops the runs that were cancelled, and those whose time limit is over.
    fn stop_cancelled(&mut self) -> Result<()> {
        if self.running.is_empty() {
            return Ok(());
        }
        let cancelled: BTreeSet<i64> =
            self.ledger.running()?.iter().filter(|entry| entry.cancel_requested).map(|entry| entry.id).collect();
        for (entry, running) in &mut self.running {
            let is_late = running.deadline.is_some_and(|deadline| Instant::now() > deadline);
            if running.stop_requested || !(is_late || cancelled.contains(entry)) {
                continue;
            }
            running.stop_requested = true;
            if let Some(stop) = &running.stop {
                tracing::info!(
                    job = running.job,
                    "{}",
                    if is_late { "stopped: its time limit is over" } else { "stopped: it was cancelled" }
                );
                stop.request();
            }
        }
        Ok(())
    }

    fn end_adopted(&mut self) -> Result<()> {
        let adopted: Vec<i64> =
            self.running.iter().filter(|(_, running)| running.stop.is_none()).map(|(id, _)| *id).collect();
        for id in adopted {
            let Some(entry) = self.ledger.queue_entry(id)? else { continue };
            let is_alive = entry.run_id.as_deref().map(|run| self.ledger.is_run_alive(run)).transpose()?;
            if is_alive != Some(true) {
                self.ledger.mark_crashed_runs()?;
                self.end_entry(&entry, None, "")?;
                self.running.remove(&id);
            }
        }
        Ok(())
    }

    fn end_run(&mut self, exit: &Exit) {
        let end = (|| {
            self.ledger.mark_crashed_runs()?;
            match self.ledger.queue_entry(exit.entry)? {
                Some(entry) => self.end_entry(&entry, exit.status, &exit.stderr_tail),
                None => Ok(()),
            }
        })();
        match self.ledger.queue_entry(exit.entry) {
            // A process of an earlier server began the run first: that one is watched from now on.
            Ok(Some(entry)) if entry.state == "running" && entry.run_id.is_some() => {
                if let Some(running) = self.running.get_mut(&exit.entry) {
                    running.stop = None;
                }
            }
            _ => drop(self.running.remove(&exit.entry)),
        }
        if let Err(error) = end {
            // The next server ends it at its start.
            tracing::error!(
                entry = exit.entry,
                "the end of a run could not be recorded: {}",
                base::chain(error.as_ref())
            );
        }
    }

    /// Ends an entry by the state of its run in the ledger, or by the exit of its process where it has no run.
    fn end_entry(&self, entry: &QueueRow, exit: Option<std::process::ExitStatus>, stderr_tail: &str) -> Result<()> {
        let run = entry.run_id.as_deref().map(|run| self.ledger.run(run)).transpose()?.flatten();
        let rules = self.planner.rules(&entry.job);
        let end = match &run {
            Some(run) => match end_by_run(entry, run, rules, self.is_stopping, Utc::now()) {
                Some(end) => end,
                None => return Ok(()),
            },
            None => end_by_process(entry, process_end(exit, stderr_tail), rules, self.is_stopping, Utc::now()),
        };
        if let Some(run) = run.as_ref().filter(|run| run.state == "crashed" && !stderr_tail.is_empty()) {
            let lines: Vec<_> =
                stderr_tail.lines().map(|line| (Utc::now(), "ERROR".to_owned(), line.to_owned())).collect();
            self.ledger.log(&run.id, &lines)?;
        }
        self.log_end(entry, &end);
        Ok(self.ledger.end_attempt(entry.id, end)?)
    }

    fn log_end(&self, entry: &QueueRow, end: &AttemptEnd) {
        let (job, run, period, attempt) = (&entry.job, &entry.run_id, &entry.logical, entry.attempts);
        match end {
            AttemptEnd::Succeeded => tracing::info!(job, run, period, attempt, "succeeded"),
            AttemptEnd::Cancelled => tracing::info!(job, run, period, attempt, "cancelled"),
            AttemptEnd::Failed { error } => tracing::error!(job, run, period, attempt, "failed: {error}"),
            AttemptEnd::Retry { not_before, error } => {
                tracing::warn!(job, run, period, attempt, "failed, to be retried at {}: {error}", second(*not_before));
            }
            AttemptEnd::Postponed { not_before, error } => {
                tracing::warn!(job, period, "waits until {}: {error}", second(*not_before));
            }
        }
    }

    fn call_hook(&mut self, entry: QueueRow) {
        let Some(act) = hook_of(&entry.job).and_then(|hook| self.hook_actions.get(hook)).cloned() else {
            self.end_hook(entry.id, Err(anyhow::anyhow!("the configuration has no such hook any more")));
            return;
        };
        let warehouse = self.root.display().to_string();
        self.hooks.spawn(async move { (entry.id, hooks::call(&act, &entry, &warehouse).await) });
    }

    fn end_hook(&self, id: i64, result: Result<()>) {
        let end = (|| {
            let Some(entry) = self.ledger.queue_entry(id)? else { return Ok(()) };
            let end = end_of_hook(&entry, result.err().map(|error| base::chain(error.as_ref())), Utc::now());
            self.log_end(&entry, &end);
            anyhow::Ok(self.ledger.end_attempt(id, end)?)
        })();
        if let Err(error) = end {
            tracing::error!(entry = id, "the end of a hook could not be recorded: {}", base::chain(error.as_ref()));
        }
    }

    /// Runs may go on for the grace period. Then they are stopped, and the next server runs them again.
    async fn stop(&mut self) {
        self.is_stopping = true;
        if self.running.values().any(|running| running.stop.is_some()) {
            tracing::info!("stopping: running jobs have {} s", self.grace.as_secs());
        }
        // They continue from where they are, so that they need no grace.
        self.services.stop().await;
        let grace = self.grace;
        let graceful = async {
            while !self.exits.is_empty() || !self.hooks.is_empty() {
                self.next_end().await;
            }
        };
        if tokio::time::timeout(grace, graceful).await.is_ok() {
            return;
        }
        for running in self.running.values() {
            if let Some(stop) = &running.stop {
                tracing::info!(job = running.job, "stopped, because the server stops");
                stop.request();
            }
        }
        while !self.exits.is_empty() {
            match self.exits.join_next().await {
                Some(Ok(exit)) => tokio::task::block_in_place(|| self.end_run(&exit)),
                Some(Err(error)) => tracing::error!(%error, "the task of a run panicked"),
                None => break,
            }
        }
        // Hooks that have not ended are called again by the next server.
    }
}

/// An instant to the second, for log lines.
fn second(at: DateTime<Utc>) -> impl std::fmt::Display {
    at.format("%Y-%m-%dT%H:%M:%SZ")
}

/// How a process ended that recorded no run; of what it wrote on standard error, its error is shown to users.
fn process_end(status: Option<std::process::ExitStatus>, stderr_tail: &str) -> ProcessEnd {
    let error = stderr_tail.lines().rfind(|line| line.starts_with("error")).unwrap_or(stderr_tail).to_owned();
    match status.map(|status| status.code()) {
        None => ProcessEnd::Unknown,
        Some(Some(code)) if code == i32::from(failure::code::RETRY) => ProcessEnd::NotNow { error },
        Some(Some(code)) => ProcessEnd::Exited { code, error },
        Some(None) => ProcessEnd::Killed { error },
    }
}
