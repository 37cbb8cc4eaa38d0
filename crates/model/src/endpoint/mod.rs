//! The endpoints of a warehouse: each compares what it serves with the ledger, starts what is to be served, and stops what
//! is not any more.

mod ask;
mod deployment;
mod request_count;
mod settings;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use base::{Error, Result};
use ledger::{ContentKind, EndpointEnd, EndpointRow, EndpointState, Ledger};
use tokio::sync::{Notify, Semaphore};

use super::definition::EndpointConfig;
use super::resources::Resources;
use super::serving::{Invocation, Prediction};
pub use ask::{EndpointAnswer, EndpointRequest};
use deployment::Deployment;
pub use deployment::VariantFigures;
use request_count::RequestCount;
pub use settings::EndpointsSettings;
pub(crate) use settings::InvokeError;

/// Between two looks for changes that other processes have made.
const CHANGES_PERIOD: Duration = Duration::from_millis(200);
/// How many endpoints are started at a time: each starts its programs.
const STARTS_AT_ONCE: usize = 16;
/// How long something that has failed is left until it is tried again.
const FAILED_PERIOD: Duration = Duration::from_secs(5);
/// Between two looks for idle processes.
const IDLE_PERIOD: Duration = Duration::from_secs(1);

/// The endpoints. Cheap to clone.
#[derive(Clone)]
pub struct Endpoints {
    inner: Arc<Inner>,
}

struct Inner {
    settings: EndpointsSettings,
    deployed: RwLock<HashMap<String, Arc<Deployment>>>,
    /// An endpoint was changed by this process.
    changed: Notify,
    /// Has a permit for each further endpoint that may be started now.
    starts: Semaphore,
    requests: RequestCount,
}

/// How far [`Endpoints::run`] is.
#[derive(Default)]
struct Progress {
    /// The revision after which nothing is to be done.
    settled: Option<i64>,
    /// The tasks that change endpoints, with the revisions that they change them to.
    changes: HashMap<String, (i64, tokio::task::JoinHandle<()>)>,
    /// When an endpoint could not be served.
    failed_at: HashMap<String, Instant>,
}

impl Endpoints {
    /// Endpoints that nothing is served of yet: see [`Endpoints::run`].
    pub fn new(settings: EndpointsSettings) -> Endpoints {
        let starts = Semaphore::new(STARTS_AT_ONCE);
        let inner = Inner {
            settings,
            deployed: RwLock::default(),
            changed: Notify::new(),
            starts,
            requests: RequestCount::default(),
        };
        Endpoints { inner: Arc::new(inner) }
    }

    /// The ledger.
    pub fn ledger(&self) -> &Ledger {
        self.resources().ledger()
    }

    /// What is served.
    pub fn resources(&self) -> &Resources {
        &self.inner.settings.resources
    }

    /// Lets [`Endpoints::run`] look for changes at once.
    pub(crate) fn notify(&self) {
        self.inner.changed.notify_one();
    }

    /// Serves the endpoints until `stop`. One process of a warehouse does this at a time.
    pub async fn run(&self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut idle = tokio::time::interval(IDLE_PERIOD);
        let mut progress = Progress::default();
        loop {
            if let Err(error) = self.follow_all(&mut progress) {
                progress.settled = None;
                tracing::error!(error = error.chain(), "endpoints can't be read, and are read again");
                tokio::time::sleep(IDLE_PERIOD).await;
            }
            tokio::select! {
                () = &mut stop => break,
                () = self.inner.changed.notified() => {}
                () = tokio::time::sleep(CHANGES_PERIOD) => {}
                _ = idle.tick() => self.end_idle(),
            }
        }
        progress.changes.into_values().for_each(|(_, change)| change.abort());
    }

    /// Brings all endpoints to what the ledger says. Those that are being changed or have failed are looked at again.
    fn follow_all(&self, progress: &mut Progress) -> Result<()> {
        let revision = self.ledger().endpoints_revision()?;
        progress.changes.retain(|_, (_, change)| !change.is_finished());
        if progress.settled == Some(revision) {
            return Ok(());
        }
        let rows = self.ledger().endpoints()?;
        self.forget_others(&rows);
        let mut all_settled = true;
        for row in rows {
            all_settled &= self.follow(row, progress);
        }
        progress.settled = all_settled.then_some(revision);
        Ok(())
    }

    /// Brings one endpoint to what the ledger says, in a task where that takes time. False where it must be looked at
    /// again.
    fn follow(&self, row: EndpointRow, progress: &mut Progress) -> bool {
        if !row.state.is_pending() {
            return match row.state {
                EndpointState::InService => self.serve_again(&row, progress),
                _ => {
                    let removed = self.write().remove(&row.name);
                    drop(removed);
                    true
                }
            };
        }
        let is_new = !progress.changes.contains_key(&row.name) && !self.read().contains_key(&row.name);
        if row.state == EndpointState::Updating && is_new {
            // After a start of the server: what was in service is served until the new variants have started.
            self.serve_again(&row, progress);
        }
        match progress.changes.get(&row.name) {
            Some((revision, _)) if *revision == row.revision => return false,
            // It was deleted, or changed, while it was started.
            Some((_, change)) => change.abort(),
            None => {}
        }
        let (endpoints, name, revision) = (self.clone(), row.name.clone(), row.revision);
        let change = tokio::spawn(async move {
            let end = endpoints.change(&row).await;
            while let Err(error) = endpoints.ledger().end_endpoint_change(&row, &end) {
                tracing::error!(error = error.chain(), endpoint = row.name, "record the state of an endpoint");
                tokio::time::sleep(FAILED_PERIOD).await;
            }
            endpoints.notify();
        });
        progress.changes.insert(name, (revision, change));
        false
    }

    async fn change(&self, row: &EndpointRow) -> EndpointEnd {
        if row.state == EndpointState::Deleting {
            let deleted = self.write().remove(&row.name);
            if let Some(deployment) = deleted {
                deployment.end().await;
            }
            tracing::info!(endpoint = row.name, "an endpoint was deleted");
            return EndpointEnd::Deleted;
        }
        let config = row.pending_config.as_ref().unwrap_or(&row.config);
        let _starting = self.inner.starts.acquire().await;
        // What runs stays until the new variants have answered, and its requests are answered to their end.
        let started = match self.deployment(&row.name, config, &serde_json::Value::Null) {
            Ok(deployment) => deployment.start().await.map(|()| deployment),
            Err(error) => Err(error.chain()),
        };
        match started {
            Ok(deployment) => {
                self.put(&row.name, deployment);
                tracing::info!(endpoint = row.name, config, "an endpoint is in service");
                EndpointEnd::InService
            }
            Err(why) => {
                tracing::warn!(endpoint = row.name, config, "an endpoint could not be started: {why}");
                EndpointEnd::Failed(why)
            }
        }
    }

    /// After a start of the server, or a change of weights: nothing is started before the first request. False where it
    /// must be tried again.
    fn serve_again(&self, row: &EndpointRow, progress: &mut Progress) -> bool {
        let known = self.read().get(&row.name).cloned();
        if let Some(known) = known.filter(|known| known.config() == row.config) {
            known.set_weights(&row.weights);
            return true;
        }
        if progress.failed_at.get(&row.name).is_some_and(|at| at.elapsed() < FAILED_PERIOD) {
            return false;
        }
        progress.failed_at.remove(&row.name);
        match self.deployment(&row.name, &row.config, &row.weights) {
            Ok(deployment) => {
                self.put(&row.name, deployment);
                true
            }
            Err(error) => {
                tracing::error!(error = error.chain(), endpoint = row.name, "an endpoint can't be served");
                progress.failed_at.insert(row.name.clone(), Instant::now());
                false
            }
        }
    }

    fn put(&self, name: &str, deployment: Deployment) {
        let replaced = self.write().insert(name.to_owned(), Arc::new(deployment));
        // Its programs end, not while the others wait.
        drop(replaced);
    }

    fn forget_others(&self, rows: &[EndpointRow]) {
        let mut others = Vec::new();
        self.write().retain(|name, deployment| {
            let is_known = rows.iter().any(|row| row.name == *name);
            if !is_known {
                others.push(Arc::clone(deployment));
            }
            is_known
        });
        // Their programs end, not while the others wait.
        drop(others);
    }

    fn deployment(&self, name: &str, config: &str, weights: &serde_json::Value) -> Result<Deployment> {
        let content = self.ledger().content(ContentKind::EndpointConfig, config)?;
        let content = content.ok_or_else(|| Error::input(format!("there is no endpoint configuration {config:?}")))?;
        let read = |error| Error::setup(format!("read endpoint configuration {config}")).because(error);
        let config_content: EndpointConfig = serde_json::from_value(content.content).map_err(read)?;
        let mut models = BTreeMap::new();
        for variant in config_content.variants.iter().chain(&config_content.shadow_variants) {
            models.insert(variant.model.clone(), self.resources().model(&variant.model)?);
        }
        let deployment = Deployment::new(name, config, &config_content, &models, &self.inner.settings);
        deployment.set_weights(weights);
        Ok(deployment)
    }

    /// Asks an endpoint. Returns the prediction with the name of the variant that made it.
    pub(crate) async fn invoke(
        &self,
        endpoint: &str,
        variant: Option<&str>,
        invocation: Invocation,
    ) -> Result<(Prediction, String), InvokeError> {
        let deployment = self.read().get(endpoint).cloned();
        let Some(deployment) = deployment else {
            let row = self.ledger().endpoint(endpoint).ok().flatten().ok_or(InvokeError::UnknownEndpoint)?;
            return Err(InvokeError::NotInService(row.state));
        };
        let _request = self.inner.requests.begin();
        deployment.invoke(variant, invocation).await
    }

    /// What each variant has counted since the server started.
    pub fn figures(&self) -> Vec<VariantFigures> {
        let mut all: Vec<VariantFigures> = self.read().values().flat_map(|deployment| deployment.figures()).collect();
        all.sort_by(|a, b| (&a.endpoint, &a.variant).cmp(&(&b.endpoint, &b.variant)));
        all
    }

    /// How many requests are being answered, also by what was replaced or deleted.
    pub fn busy(&self) -> usize {
        self.inner.requests.get()
    }

    fn end_idle(&self) {
        let all: Vec<Arc<Deployment>> = self.read().values().cloned().collect();
        for deployment in all {
            deployment.end_idle();
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, HashMap<String, Arc<Deployment>>> {
        self.inner.deployed.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<String, Arc<Deployment>>> {
        self.inner.deployed.write().unwrap_or_else(PoisonError::into_inner)
    }
}
