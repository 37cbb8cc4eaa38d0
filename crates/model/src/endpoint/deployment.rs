//! What an endpoint serves: the variants of one configuration, their weights, and their counts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use serde_json::Value;

use super::request_count::RequestCount;
use super::settings::{EndpointsSettings, InvokeError};
use crate::container::Container;
use crate::definition::{EndpointConfig, Model, Variant};
use crate::serving::{Invocation, NativeServer, Prediction, ProcessServer, ProcessServerSettings, ServingError};
use crate::user::user_number;

/// The variants of a configuration. They end when this is dropped and their last request is answered.
pub(super) struct Deployment {
    config: String,
    variants: Vec<Arc<VariantServer>>,
    shadows: Vec<Arc<VariantServer>>,
    weights: RwLock<Vec<f64>>,
    /// The weights of the configuration.
    configured: Vec<f64>,
    requests: RequestCount,
}

struct VariantServer {
    endpoint: String,
    name: String,
    kind: VariantKind,
    counts: Counts,
}

enum VariantKind {
    Native(NativeServer),
    Process(Box<ProcessServer>),
}

#[derive(Default)]
struct Counts {
    invocations: AtomicU64,
    model_errors: AtomicU64,
    refused: AtomicU64,
    micros: AtomicU64,
}

/// What a variant of an endpoint has counted since the server started.
#[derive(Debug, Clone, PartialEq)]
pub struct VariantFigures {
    /// The endpoint's name.
    pub endpoint: String,
    /// The variant's name.
    pub variant: String,
    /// Requests that it has got.
    pub invocations: u64,
    /// Those that its model has answered with an error, or not at all.
    pub model_errors: u64,
    /// Those that were refused: it was overloaded, or did not start.
    pub refused: u64,
    /// How long all of them took.
    pub seconds: f64,
    /// How often its program was started; 0 for models without a process.
    pub starts: u64,
    /// Whether it holds a process or a loaded model.
    pub is_running: bool,
    /// Its part of the requests.
    pub weight: f64,
}

impl Deployment {
    /// The variants of a configuration, not started.
    pub fn new(
        endpoint: &str,
        config: &str,
        content: &EndpointConfig,
        models: &BTreeMap<String, Model>,
        settings: &EndpointsSettings,
    ) -> Deployment {
        let servers = |variants: &[Variant]| -> Vec<Arc<VariantServer>> {
            let known = variants.iter().filter_map(|variant| Some((variant, models.get(&variant.model)?)));
            known.map(|(variant, model)| Arc::new(VariantServer::new(endpoint, variant, model, settings))).collect()
        };
        let configured: Vec<f64> = content.variants.iter().map(|variant| variant.weight).collect();
        Deployment {
            config: config.to_owned(),
            variants: servers(&content.variants),
            shadows: servers(&content.shadow_variants),
            weights: RwLock::new(configured.clone()),
            configured,
            requests: RequestCount::default(),
        }
    }

    /// The configuration's name.
    pub fn config(&self) -> &str {
        &self.config
    }

    /// Starts each variant once, so that one that can't be served is noticed before it gets requests.
    pub async fn start(&self) -> Result<(), String> {
        for variant in self.variants.iter().chain(&self.shadows) {
            variant.start().await.map_err(|why| format!("variant {}: {why}", variant.name))?;
        }
        Ok(())
    }

    /// Sets the weights by the variants' names; those that are not named have the configuration's.
    pub fn set_weights(&self, weights: &Value) {
        let weight = |(variant, configured): (&Arc<VariantServer>, &f64)| {
            weights.get(&variant.name).and_then(Value::as_f64).unwrap_or(*configured)
        };
        let all = self.variants.iter().zip(&self.configured).map(weight).collect();
        *self.weights.write().unwrap_or_else(PoisonError::into_inner) = all;
    }

    /// Answers a request by the variant of that name, or by one that the weights choose.
    pub async fn invoke(
        &self,
        variant: Option<&str>,
        invocation: Invocation,
    ) -> Result<(Prediction, String), InvokeError> {
        let variant = match variant {
            Some(name) => self.variants.iter().find(|variant| variant.name == name),
            None => self.variants.get(self.choose()),
        };
        let variant = variant.ok_or(InvokeError::UnknownVariant)?;
        let _request = self.requests.begin();
        for shadow in &self.shadows {
            let (shadow, invocation) = (Arc::clone(shadow), invocation.clone());
            tokio::spawn(async move { drop(shadow.invoke(invocation).await) });
        }
        let predicted = variant.invoke(invocation).await.map_err(InvokeError::Serving)?;
        Ok((predicted, variant.name.clone()))
    }

    /// The place of a variant, at random by the weights.
    fn choose(&self) -> usize {
        let weights = self.weights.read().unwrap_or_else(PoisonError::into_inner);
        let total: f64 = weights.iter().sum();
        if weights.len() < 2 || total <= 0.0 {
            return 0;
        }
        let mut left = rand::random::<f64>() * total;
        for (place, weight) in weights.iter().enumerate() {
            left -= weight;
            if left < 0.0 {
                return place;
            }
        }
        // The sum of the parts may be less than the total by rounding.
        weights.iter().rposition(|weight| *weight > 0.0).unwrap_or(0)
    }

    /// What each variant has counted.
    pub fn figures(&self) -> Vec<VariantFigures> {
        let weights = self.weights.read().unwrap_or_else(PoisonError::into_inner).clone();
        self.variants.iter().zip(weights).map(|(variant, weight)| variant.figures(weight)).collect()
    }

    /// Ends what is idle.
    pub fn end_idle(&self) {
        for variant in self.variants.iter().chain(&self.shadows) {
            match &variant.kind {
                VariantKind::Native(native) => native.end_idle(),
                VariantKind::Process(process) => process.end_idle(),
            }
        }
    }

    /// Waits until all requests have been answered.
    pub async fn end(&self) {
        self.requests.wait_for_none().await;
    }
}

impl VariantServer {
    fn new(endpoint: &str, variant: &Variant, model: &Model, settings: &EndpointsSettings) -> VariantServer {
        let artifact = model.artifact.as_ref().map(|hash| settings.resources.artifacts.path(hash));
        let kind = match &model.container {
            Container::LightGbm => VariantKind::Native(NativeServer::new(artifact.unwrap_or_default())),
            Container::Process(container) => {
                VariantKind::Process(Box::new(ProcessServer::new(ProcessServerSettings {
                    name: format!("{endpoint}/{}", variant.name),
                    container: container.clone(),
                    artifact,
                    store: settings.resources.registry.store().clone(),
                    launcher: Arc::clone(&settings.launcher),
                    roots: settings.roots.clone(),
                    user: settings.users_from.map(|first| first + user_number(endpoint)),
                    output: Arc::clone(&settings.output),
                })))
            }
        };
        VariantServer { endpoint: endpoint.to_owned(), name: variant.name.clone(), kind, counts: Counts::default() }
    }

    async fn start(&self) -> Result<(), String> {
        match &self.kind {
            VariantKind::Native(native) => {
                let native = native.clone();
                let checked = tokio::task::spawn_blocking(move || native.check()).await;
                checked.map_err(|error| error.to_string())?.map_err(|error| error.chain())
            }
            VariantKind::Process(process) => process.start().await.map_err(|error| match error {
                ServingError::Failed(why) | ServingError::NotReady(why) => why,
                other => format!("{other:?}"),
            }),
        }
    }

    async fn invoke(&self, invocation: Invocation) -> Result<Prediction, ServingError> {
        let began = Instant::now();
        self.counts.invocations.fetch_add(1, Ordering::Relaxed);
        let answered = match &self.kind {
            VariantKind::Native(native) => native.invoke(invocation).await,
            VariantKind::Process(process) => process.invoke(invocation).await,
        };
        let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.counts.micros.fetch_add(micros, Ordering::Relaxed);
        match &answered {
            Ok(_) => {}
            Err(ServingError::Model { .. }) => drop(self.counts.model_errors.fetch_add(1, Ordering::Relaxed)),
            Err(_) => drop(self.counts.refused.fetch_add(1, Ordering::Relaxed)),
        }
        answered
    }

    fn figures(&self, weight: f64) -> VariantFigures {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (starts, is_running) = match &self.kind {
            VariantKind::Native(native) => (0, native.is_running()),
            VariantKind::Process(process) => (process.starts() as u64, process.is_running()),
        };
        VariantFigures {
            endpoint: self.endpoint.clone(),
            variant: self.name.clone(),
            invocations: count(&self.counts.invocations),
            model_errors: count(&self.counts.model_errors),
            refused: count(&self.counts.refused),
            seconds: count(&self.counts.micros) as f64 / 1e6,
            starts,
            is_running,
            weight,
        }
    }
}
