//! Endpoints as files declare them, and the plan that brings what is there to what is declared.

use std::collections::BTreeMap;
use std::fmt;

use base::{Error, Kind, Result};
use ledger::{ContentKind, EndpointRow, EndpointState};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::definition::{EndpointConfig, Model, Variant, is_name};
use super::resources::Resources;

/// Digits of a hash in the name of a model or a configuration.
const HASH_CHARS: usize = 8;
const NAME_CHARS_MAX: usize = 63;

/// A declared endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointDefinition {
    /// Its name.
    pub name: String,
    /// Its models.
    pub variants: Vec<VariantDefinition>,
}

/// A model of a declared endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct VariantDefinition {
    /// The variant's name.
    pub name: String,
    /// The image of its container; that of the registry's version where it is `None`.
    pub image: Option<String>,
    /// The URL of its artifact.
    pub data: Option<String>,
    /// Variables of its processes.
    pub environment: BTreeMap<String, String>,
    /// Its part of the requests.
    pub weight: f64,
    /// Whether it gets copies of requests only.
    pub is_shadow: bool,
}

/// What is to be done for an endpoint to be as it is declared.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The endpoint's name.
    pub endpoint: String,
    models: Vec<(String, Model)>,
    config: Option<(String, EndpointConfig)>,
    /// What happens to the endpoint.
    pub change: Change,
}

/// What happens to an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is created with this configuration.
    Create(String),
    /// It changes from one configuration to another.
    Update(String, String),
    /// It is as it is declared.
    Unchanged(String),
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_unchanged(&self) -> bool {
        matches!(self.change, Change::Unchanged(_))
    }
}

/// One line for each step.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, model) in &self.models {
            let image = &model.request["PrimaryContainer"]["Image"];
            writeln!(f, "create model {name}: {}", image.as_str().unwrap_or_default())?;
        }
        if let Some((name, config)) = &self.config {
            let of = |variant: &Variant, kind: &str| {
                format!("{}{kind} -> {} ({})", variant.name, variant.model, variant.weight)
            };
            let variants = config.variants.iter().map(|variant| of(variant, ""));
            let shadows = config.shadow_variants.iter().map(|variant| of(variant, ", a shadow"));
            let all: Vec<String> = variants.chain(shadows).collect();
            writeln!(f, "create endpoint configuration {name}: {}", all.join("; "))?;
        }
        match &self.change {
            Change::Create(config) => write!(f, "create endpoint {} with {config}", self.endpoint),
            Change::Update(from, to) => write!(f, "update endpoint {} from {from} to {to}", self.endpoint),
            Change::Unchanged(config) => write!(f, "endpoint {} is unchanged: it has {config}", self.endpoint),
        }
    }
}

impl Resources {
    /// What is to be done for an endpoint to be as it is declared. Containers and artifacts are put into the stores, so
    /// that the plan is of what they are now.
    ///
    /// # Errors
    /// [`Kind::FixInput`] where an image or an artifact stands for nothing; [`Kind::Retry`] while the endpoint is changed.
    pub fn plan(&self, definition: &EndpointDefinition) -> Result<Plan> {
        check(definition).map_err(|error| error.within(format!("endpoint {}", definition.name)))?;
        let mut models = Vec::new();
        let (mut variants, mut shadow_variants) = (Vec::new(), Vec::new());
        for variant in &definition.variants {
            let within = |error: Error| error.within(format!("endpoint {}, variant {}", definition.name, variant.name));
            let (name, model) = self.declared_model(&definition.name, variant).map_err(within)?;
            if self.ledger().content(ContentKind::Model, &name)?.is_none() {
                models.push((name.clone(), model));
            }
            let variants = if variant.is_shadow { &mut shadow_variants } else { &mut variants };
            variants.push(Variant { name: variant.name.clone(), model: name, weight: variant.weight });
        }
        let request = config_request(&variants, &shadow_variants);
        let name = named(&[&definition.name], &request);
        let request = with(request, "EndpointConfigName", &name);
        let config = EndpointConfig { request, variants, shadow_variants };
        let is_new = self.ledger().content(ContentKind::EndpointConfig, &name)?.is_none();
        let change = match self.ledger().endpoint(&definition.name)? {
            None => Change::Create(name.clone()),
            Some(row) => change(&row, &name)?,
        };
        Ok(Plan { endpoint: definition.name.clone(), models, config: is_new.then_some((name, config)), change })
    }

    fn declared_model(&self, endpoint: &str, variant: &VariantDefinition) -> Result<(String, Model)> {
        let image = match (&variant.image, &variant.data) {
            (Some(image), _) => image.clone(),
            (None, Some(data)) => self.registered_image(data)?,
            (None, None) => return Err(Error::input("it has no image")),
        };
        let mut container = json!({"Image": image});
        if let Some(data) = &variant.data {
            container["ModelDataUrl"] = json!(data);
        }
        if !variant.environment.is_empty() {
            container["Environment"] = json!(variant.environment);
        }
        let request = json!({"PrimaryContainer": container});
        let mut model = self.make_model(&image, variant.data.as_deref(), &variant.environment, request)?;
        let content = json!({"container": model.container, "artifact": model.artifact, "request": model.request});
        let name = named(&[endpoint, &variant.name], &content);
        model.request = with(model.request, "ModelName", &name);
        Ok((name, model))
    }

    /// Carries out a plan, up to the endpoint's change: the process that serves endpoints does the rest.
    ///
    /// # Errors
    /// [`Kind::Retry`] where the endpoint was changed since the plan was made.
    pub fn carry_out(&self, plan: &Plan) -> Result<()> {
        let ledger = self.ledger();
        let value =
            |content: serde_json::Result<Value>| content.map_err(|error| Error::bug("write a model").because(error));
        for (name, model) in &plan.models {
            ledger.create_content(ContentKind::Model, name, &value(serde_json::to_value(model))?)?;
        }
        if let Some((name, config)) = &plan.config {
            ledger.create_content(ContentKind::EndpointConfig, name, &value(serde_json::to_value(config))?)?;
        }
        let is_done = match &plan.change {
            Change::Unchanged(_) => true,
            Change::Create(config) => ledger.create_endpoint(&plan.endpoint, config)?,
            Change::Update(_, config) => ledger.update_endpoint(&plan.endpoint, config)?,
        };
        match is_done {
            true => Ok(()),
            false => Err(Error::retry(format!("endpoint {} was changed meanwhile: apply it again", plan.endpoint))),
        }
    }
}

/// Checks what a file or a template declares: names, and that some variant answers requests.
fn check(definition: &EndpointDefinition) -> Result<()> {
    let variants = &definition.variants;
    for (at, variant) in variants.iter().enumerate() {
        if !is_name(&variant.name) {
            let error = Error::input(format!("{:?} is not a variant's name", variant.name));
            return Err(error.hint("a name has up to 63 letters, digits and -, and begins and ends without -"));
        }
        if variants[..at].iter().any(|other| other.name == variant.name) {
            return Err(Error::input(format!("there are two variants with the name {:?}", variant.name)));
        }
    }
    let weights: f64 = variants.iter().filter(|variant| !variant.is_shadow).map(|variant| variant.weight).sum();
    match weights > 0.0 {
        true => Ok(()),
        false => Err(Error::input("no variant answers requests: one that is no shadow must have a weight above 0")),
    }
}

fn change(row: &EndpointRow, config: &str) -> Result<Change> {
    match row.state {
        EndpointState::InService if row.config == config => Ok(Change::Unchanged(config.to_owned())),
        EndpointState::InService | EndpointState::Failed => Ok(Change::Update(row.config.clone(), config.to_owned())),
        state => {
            let what = format!("endpoint {} is being changed: its status is {}", row.name, state.name());
            Err(Error::new(Kind::Retry, what).hint("wait until it is in service: wattlake endpoint list"))
        }
    }
}

fn config_request(variants: &[Variant], shadow_variants: &[Variant]) -> Value {
    let list = |variants: &[Variant]| {
        let written = variants.iter().map(|variant| {
            json!({
                "VariantName": variant.name, "ModelName": variant.model, "InitialVariantWeight": variant.weight,
                "InitialInstanceCount": 1,
            })
        });
        Value::Array(written.collect())
    };
    let mut request = json!({"ProductionVariants": list(variants)});
    if !shadow_variants.is_empty() {
        request["ShadowProductionVariants"] = list(shadow_variants);
    }
    request
}

fn with(mut request: Value, key: &str, name: &str) -> Value {
    request[key] = json!(name);
    request
}

/// A name for a content: equal contents have equal names.
fn named(parts: &[&str], content: &Value) -> String {
    let hash = hex::encode(Sha256::digest(content.to_string()));
    let mut name = parts.join("-");
    name.truncate(NAME_CHARS_MAX - HASH_CHARS - 1);
    format!("{}-{}", name.trim_end_matches('-'), &hash[..HASH_CHARS])
}
