//! The endpoints of a warehouse: each compares what it serves with the ledger, starts what is to be served, and stops what
//! is not any more.

mod deployment;
mod settings;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use base::{Error, Result};
use ledger::{ContentKind, EndpointEnd, EndpointRow, EndpointState, Ledger};
use tokio::sync::{Notify, Semaphore};

use super::definition::EndpointConfig;
use super::resources::Resources;
use super::serving::{Invocation, Prediction};
use deployment::Deployment;
pub use deployment::VariantFigures;
pub use settings::EndpointsSettings;
pub(crate) use settings::InvokeError;

/// Between two looks for changes that other processes have made.
const CHANGES_PERIOD: Duration = Duration::from_millis(200);
/// How many endpoints are started at a time: each starts its programs.
const STARTS_AT_ONCE: usize = 4;
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
}

impl Endpoints {
    /// Endpoints that nothing is served of yet: see [`Endpoints::run`].
    pub fn new(settings: EndpointsSettings) -> Endpoints {
        let starts = Semaphore::new(STARTS_AT_ONCE);
        let inner = Inner { settings, deployed: RwLock::default(), changed: Notify::new(), starts };
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
    ///
    /// # Errors
    /// The ledger can't be read.
    pub async fn run(&self, stop: impl Future<Output = ()>) -> Result<()> {
        let mut stop = std::pin::pin!(stop);
        let mut idle = tokio::time::interval(IDLE_PERIOD);
        // The revision after which nothing is to be done.
        let mut settled = None;
        let mut changes: HashMap<String, (i64, tokio::task::JoinHandle<()>)> = HashMap::new();
        loop {
            let revision = self.ledger().endpoints_revision()?;
            changes.retain(|_, (_, change)| !change.is_finished());
            if settled != Some(revision) {
                let rows = self.ledger().endpoints()?;
                self.forget_others(&rows);
                for row in rows {
                    self.follow(row, &mut changes);
                }
                settled = Some(revision);
            }
            tokio::select! {
                () = &mut stop => break,
                () = self.inner.changed.notified() => {}
                () = tokio::time::sleep(CHANGES_PERIOD) => {}
                _ = idle.tick() => self.end_idle().await,
            }
        }
        changes.into_values().for_each(|(_, change)| change.abort());
        Ok(())
    }

    /// Brings one endpoint to what the ledger says, in a task where that takes time.
    fn follow(&self, row: EndpointRow, changes: &mut HashMap<String, (i64, tokio::task::JoinHandle<()>)>) {
        if !row.state.is_pending() {
            match row.state {
                EndpointState::InService => self.serve_again(&row),
                _ => drop(self.write().remove(&row.name)),
            }
            return;
        }
        if row.state == EndpointState::Updating {
            // After a start of the server.
            self.serve_again(&row);
        }
        match changes.get(&row.name) {
            Some((revision, _)) if *revision == row.revision => return,
            // It was deleted, or changed, while it was started.
            Some((_, change)) => change.abort(),
            None => {}
        }
        let (endpoints, name, revision) = (self.clone(), row.name.clone(), row.revision);
        let change = tokio::spawn(async move {
            let end = endpoints.change(&row).await;
            if let Err(error) = endpoints.ledger().end_endpoint_change(&row, &end) {
                tracing::error!(error = error.chain(), endpoint = row.name, "record the state of an endpoint");
            }
            endpoints.notify();
        });
        changes.insert(name, (revision, change));
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
                self.write().insert(row.name.clone(), Arc::new(deployment));
                tracing::info!(endpoint = row.name, config, "an endpoint is in service");
                EndpointEnd::InService
            }
            Err(why) => {
                tracing::warn!(endpoint = row.name, config, "an endpoint could not be started: {why}");
                EndpointEnd::Failed(why)
            }
        }
    }

    /// After a start of the server, or a change of weights: nothing is started before the first request.
    fn serve_again(&self, row: &EndpointRow) {
        let known = self.read().get(&row.name).cloned();
        if let Some(known) = known.filter(|known| known.config() == row.config) {
            known.set_weights(&row.weights);
            return;
        }
        match self.deployment(&row.name, &row.config, &row.weights) {
            Ok(deployment) => drop(self.write().insert(row.name.clone(), Arc::new(deployment))),
            Err(error) => tracing::error!(error = error.chain(), endpoint = row.name, "an endpoint can't be served"),
        }
    }

    fn forget_others(&self, rows: &[EndpointRow]) {
        self.write().retain(|name, _| rows.iter().any(|row| row.name == *name));
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
        deployment.invoke(variant, invocation).await
    }

    /// What each variant has counted since the server started.
    pub fn figures(&self) -> Vec<VariantFigures> {
        let mut all: Vec<VariantFigures> = self.read().values().flat_map(|deployment| deployment.figures()).collect();
        all.sort_by(|a, b| (&a.endpoint, &a.variant).cmp(&(&b.endpoint, &b.variant)));
        all
    }

    /// How many requests are being answered.
    pub fn busy(&self) -> usize {
        self.read().values().map(|deployment| deployment.busy()).sum()
    }

    async fn end_idle(&self) {
        let all: Vec<Arc<Deployment>> = self.read().values().cloned().collect();
        for deployment in all {
            deployment.end_idle().await;
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, HashMap<String, Arc<Deployment>>> {
        self.inner.deployed.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<String, Arc<Deployment>>> {
        self.inner.deployed.write().unwrap_or_else(PoisonError::into_inner)
    }
}
