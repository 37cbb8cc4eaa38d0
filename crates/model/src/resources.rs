//! What models and endpoints of a warehouse are made of: rows of the ledger, and files of two stores.

use std::collections::BTreeMap;

use base::{Error, Result};
use function::registry::Registry;
use function::store::Digest;
use ledger::{ContentKind, Ledger, ModelVersionRow};
use serde_json::Value;

use super::artifact::ArtifactStore;
use super::container::{Catalog, Container};
use super::definition::Model;

/// The beginning of the URL of a version of the registry.
pub const REGISTRY_SCHEME: &str = "model://";
/// The approval of a version that may be served.
pub const APPROVED: &str = "Approved";
/// The approval of a version that was not looked at yet.
pub const PENDING_APPROVAL: &str = "PendingManualApproval";
/// The approval of a version that can't be served.
pub const REJECTED: &str = "Rejected";
/// The most bytes of a model's variables, as SageMaker has it.
const ENVIRONMENT_BYTES_MAX: usize = 32 << 10;

/// The models, endpoint configurations and endpoints of a warehouse, served or not. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Resources {
    /// Holds the code and the layers of containers.
    pub registry: Registry,
    /// Holds the artifacts of models.
    pub artifacts: ArtifactStore,
    /// What images and URLs of artifacts stand for.
    pub catalog: Catalog,
}

impl Resources {
    /// The ledger.
    pub fn ledger(&self) -> &Ledger {
        self.registry.ledger()
    }

    /// As [`Resources::make_model`], for a caller of the API: its artifact is in a folder of `[models.data]`, or in the
    /// store.
    ///
    /// # Errors
    /// As [`Resources::make_model`].
    pub(crate) fn make_requested_model(
        &self,
        image: &str,
        data: Option<&str>,
        environment: &BTreeMap<String, String>,
        request: Value,
    ) -> Result<Model> {
        if let Some(url) = data
            && !url.starts_with(REGISTRY_SCHEME)
            && self.artifacts.hash_of_url(url).is_none()
        {
            self.catalog.mapped_data(url)?;
        }
        self.make_model(image, data, environment, request)
    }

    /// Makes a model's content of an image and the URL of an artifact. Both are put into the stores now: what they stand
    /// for later does not change the model.
    ///
    /// # Errors
    /// [`base::Kind::FixInput`] where an image or a URL stands for nothing, or the artifact can't be unpacked.
    pub fn make_model(
        &self,
        image: &str,
        data: Option<&str>,
        environment: &BTreeMap<String, String>,
        request: Value,
    ) -> Result<Model> {
        check_environment(environment)?;
        let container = self.catalog.container(image, environment, &self.registry)?;
        let artifact = match data {
            Some(url) if url.starts_with(REGISTRY_SCHEME) => Some(self.registered(url)?.artifact),
            Some(url) => match self.artifacts.hash_of_url(url) {
                Some(hash) => {
                    self.check_not_rejected(&hash)?;
                    Some(hash)
                }
                None => Some(self.artifacts.put(&self.catalog.data(url)?)?),
            },
            None if container == Container::LightGbm => {
                return Err(Error::input(format!("a model of the image {image:?} needs ModelDataUrl")));
            }
            None => None,
        };
        Ok(Model { request, container, artifact })
    }

    /// Refuses an artifact whose versions in the registry were all rejected.
    fn check_not_rejected(&self, artifact: &str) -> Result<()> {
        let versions = self.ledger().model_versions(None)?;
        let mut of_artifact = versions.iter().filter(|version| version.artifact == artifact).peekable();
        let Some(first) = of_artifact.peek().map(|version| format!("{} of {}", version.version, version.model)) else {
            return Ok(());
        };
        match of_artifact.all(|version| version.approval == REJECTED) {
            true => Err(Error::input(format!("the artifact can't be served: version {first} was rejected"))),
            false => Ok(()),
        }
    }

    /// The version of the registry that a URL names: `model://NAME/ALIAS` or `model://NAME/VERSION`.
    ///
    /// # Errors
    /// [`base::Kind::FixInput`] where there is none, or it is not approved.
    pub fn registered(&self, url: &str) -> Result<ModelVersionRow> {
        let path = url.strip_prefix(REGISTRY_SCHEME).unwrap_or(url);
        let (model, qualifier) = path.split_once('/').ok_or_else(|| {
            Error::input(format!("{url:?} names no version of a model")).hint("write model://NAME/ALIAS")
        })?;
        let Some(found) = self.ledger().model_version(model, qualifier)? else {
            let known = self.ledger().model_versions(Some(model))?;
            let error = Error::input(format!("the registry has no version {qualifier:?} of model {model:?}"));
            return Err(match known.last() {
                Some(last) => error.hint(format!("its newest version is {}: wattlake model list", last.version)),
                None => error.hint("train one: wattlake model train NAME"),
            });
        };
        if found.approval != APPROVED {
            let what = format!("version {} of model {model} is not approved: it is {}", found.version, found.approval);
            return Err(Error::input(what).hint(format!("wattlake model promote {model} {}", found.version)));
        }
        Ok(found)
    }

    /// The image that serves a version of the registry.
    ///
    /// # Errors
    /// As [`Resources::registered`].
    pub(crate) fn registered_image(&self, url: &str) -> Result<String> {
        let found = self.registered(url)?;
        let image = found.content["image"].as_str().map(str::to_owned);
        image.ok_or_else(|| Error::input(format!("version {} of {url} has no image", found.version)))
    }

    /// Looks up a model.
    ///
    /// # Errors
    /// [`base::Kind::FixInput`] where there is none of that name.
    pub fn model(&self, name: &str) -> Result<Model> {
        let content = self.ledger().content(ContentKind::Model, name)?;
        let content = content.ok_or_else(|| Error::input(format!("there is no model {name:?}")))?;
        read_model(name, content.content)
    }
}

/// Refuses variables that no program can be started with.
fn check_environment(environment: &BTreeMap<String, String>) -> Result<()> {
    for (name, value) in environment {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(Error::input(format!("the variable {name:?} can't be set: a name has no = and no NUL")));
        }
    }
    match environment.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > ENVIRONMENT_BYTES_MAX {
        true => Err(Error::input(format!("the variables have more than {ENVIRONMENT_BYTES_MAX} bytes"))),
        false => Ok(()),
    }
}

fn read_model(name: &str, content: Value) -> Result<Model> {
    serde_json::from_value(content).map_err(|error| Error::setup(format!("read model {name}")).because(error))
}

/// The code and the layers that models and running training jobs of a warehouse use: they stay in the store.
///
/// # Errors
/// The ledger can't be read.
pub fn content_in_use(ledger: &Ledger) -> Result<Vec<(Digest, Vec<Digest>)>> {
    let running = ledger.trainings(usize::MAX)?.into_iter().filter(|job| !job.state.has_ended());
    let running = running.filter_map(|job| {
        let container = &job.lineage["container"];
        let layers = serde_json::from_value(container["layers"].clone()).ok()?;
        Some((serde_json::from_value(container["code"].clone()).ok()?, layers))
    });
    let content = |model: Model| match model.container {
        Container::Process(container) => Some((container.code, container.layers)),
        Container::LightGbm => None,
    };
    Ok(models(ledger)?.into_iter().filter_map(content).chain(running).collect())
}

/// The artifacts of a warehouse's models, versions and training jobs.
///
/// # Errors
/// The ledger can't be read.
pub fn artifacts_in_use(ledger: &Ledger) -> Result<Vec<String>> {
    let mut all: Vec<String> = models(ledger)?.into_iter().filter_map(|model| model.artifact).collect();
    all.extend(ledger.model_versions(None)?.into_iter().map(|version| version.artifact));
    all.extend(ledger.trainings(usize::MAX)?.into_iter().filter_map(|training| training.artifact));
    Ok(all)
}

fn models(ledger: &Ledger) -> Result<Vec<Model>> {
    ledger.contents(ContentKind::Model)?.into_iter().map(|row| read_model(&row.name, row.content)).collect()
}
