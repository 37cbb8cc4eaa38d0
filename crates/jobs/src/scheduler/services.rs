//! The services of a warehouse: jobs that run as long as the server does, such as a transfer that follows its source's
//! log. Each is a process; one that ends is started again after a wait. They take no place among the runs that end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use ledger::Ledger;
use tokio::task::JoinSet;

use super::child::{self, Exit, StopHandle};

/// The waits before a service is started again.
const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(60);
/// A service that ran this long is started again after the shortest wait.
const HEALTHY: Duration = Duration::from_secs(60);

/// The services and their processes.
pub struct Services {
    root: PathBuf,
    executable: PathBuf,
    services: BTreeMap<String, Service>,
    exits: JoinSet<(String, Exit)>,
}

struct Service {
    stop: Option<StopHandle>,
    started_at: Instant,
    start_at: Instant,
    wait: Duration,
}

impl Services {
    /// The services with these job names; none is started yet.
    pub fn new(root: &Path, executable: &Path, jobs: impl IntoIterator<Item = String>) -> Self {
        let now = Instant::now();
        let service = |job| (job, Service { stop: None, started_at: now, start_at: now, wait: WAIT_MIN });
        Services {
            root: root.to_owned(),
            executable: executable.to_owned(),
            services: jobs.into_iter().map(service).collect(),
            exits: JoinSet::new(),
        }
    }

    /// Starts the services that are due. One that runs in another process, by hand or of an earlier server, is started
    /// when that has ended.
    pub fn start_due(&mut self, ledger: &Ledger) -> Result<()> {
        let now = Instant::now();
        for (job, service) in &mut self.services {
            if service.stop.is_some() || service.start_at > now {
                continue;
            }
            service.start_at = now + WAIT_MIN;
            if ledger.job_is_running(job)? {
                continue;
            }
            match child::start_service(&self.executable, &self.root, job) {
                Ok((stop, exit)) => {
                    tracing::info!(job, "started, as a service");
                    (service.stop, service.started_at) = (Some(stop), now);
                    let job = job.clone();
                    self.exits.spawn(async move { (job, exit.await) });
                }
                Err(error) => tracing::error!(job, "not started: {}", base::chain(error.as_ref())),
            }
        }
        Ok(())
    }

    /// Waits until a service ends, and plans its next start. Waits forever while none runs.
    pub async fn next_end(&mut self, is_stopping: bool) {
        match self.exits.join_next().await {
            Some(Ok((job, exit))) => self.end(&job, &exit, is_stopping),
            Some(Err(error)) => tracing::error!(%error, "the task of a service panicked"),
            None => std::future::pending().await,
        }
    }

    fn end(&mut self, job: &str, exit: &Exit, is_stopping: bool) {
        let Some(service) = self.services.get_mut(job) else { return };
        service.stop = None;
        if is_stopping {
            tracing::info!(job, "stopped");
            return;
        }
        if service.started_at.elapsed() >= HEALTHY {
            service.wait = WAIT_MIN;
        }
        let error = exit.stderr_tail.lines().rfind(|line| line.starts_with("error")).unwrap_or(&exit.stderr_tail);
        tracing::error!(job, "the service ended, and starts again in {} s: {error}", service.wait.as_secs());
        service.start_at = Instant::now() + service.wait;
        service.wait = (service.wait * 2).min(WAIT_MAX);
    }

    /// Stops all services, and waits for their ends.
    pub async fn stop(&mut self) {
        for (job, service) in &self.services {
            if let Some(stop) = &service.stop {
                tracing::info!(job, "stopping, because the server stops");
                stop.request();
            }
        }
        while !self.exits.is_empty() {
            self.next_end(true).await;
        }
    }
}
