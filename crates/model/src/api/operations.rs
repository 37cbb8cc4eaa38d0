//! The operations of the control plane.

use ledger::{ContentKind, EndpointRow, EndpointState, NamedContent};
use serde_json::{Value, json};

use super::error::ApiError;
use super::page::{list, page, seconds};
use super::request::Members;
use crate::arn::arn;
use crate::definition::{EndpointConfig, Variant};
use crate::resources::Resources;

type Answer = Result<Value, ApiError>;

/// The role that descriptions name: SageMaker's clients expect one.
const ROLE: &str = "arn:aws:iam::000000000000:role/wattlake";

pub(super) fn create_model(resources: &Resources, request: &Members) -> Answer {
    let name = request.name("ModelName")?;
    request.only(
        &["ModelName", "PrimaryContainer", "Containers", "ExecutionRoleArn", "Tags"],
        &["VpcConfig", "EnableNetworkIsolation"],
    )?;
    let mut containers = request.structures("Containers")?;
    containers.extend(request.structure("PrimaryContainer")?);
    let [container] = &containers[..] else {
        return Err(ApiError::validation("a model needs one container: pipelines of several are not supported here"));
    };
    container.only(
        &["Image", "ModelDataUrl", "Environment", "ContainerHostname", "Mode"],
        &["ImageConfig", "InferenceSpecificationName"],
    )?;
    if container.text("Mode")?.is_some_and(|mode| mode != "SingleModel") {
        return Err(ApiError::validation("Mode: only SingleModel is supported here"));
    }
    let model = resources.make_requested_model(
        container.required("Image")?,
        container.text("ModelDataUrl")?,
        &container.map("Environment")?,
        request.value(),
    )?;
    put(resources, ContentKind::Model, name, &model, || ApiError::in_use(exists("model", name)))?;
    Ok(json!({"ModelArn": arn("model", name)}))
}

fn exists(kind: &str, name: &str) -> String {
    format!("Cannot create already existing {kind} \"{}\".", arn(kind, name))
}

fn missing(kind: &str, name: &str) -> ApiError {
    ApiError::validation(format!("Could not find {} \"{}\".", kind.replace('-', " "), arn(kind, name)))
}

fn put(
    resources: &Resources,
    kind: ContentKind,
    name: &str,
    content: &impl serde::Serialize,
    exists: impl Fn() -> ApiError,
) -> Result<(), ApiError> {
    let content = serde_json::to_value(content).map_err(|error| ApiError::internal(error.to_string()))?;
    match resources.ledger().create_content(kind, name, &content)? {
        true => Ok(()),
        false => Err(exists()),
    }
}

pub(super) fn describe_model(resources: &Resources, request: &Members) -> Answer {
    request.only(&["ModelName"], &[])?;
    let name = request.name("ModelName")?;
    let found = resources.ledger().content(ContentKind::Model, name)?.ok_or_else(|| missing("model", name))?;
    let sent = &found.content["request"];
    let mut described = json!({
        "ModelName": found.name, "ModelArn": arn("model", name), "CreationTime": seconds(found.created_at),
        "ExecutionRoleArn": sent.get("ExecutionRoleArn").cloned().unwrap_or(json!(ROLE)),
        "EnableNetworkIsolation": true,
    });
    for key in ["PrimaryContainer", "Containers"] {
        if let Some(value) = sent.get(key) {
            described[key] = value.clone();
        }
    }
    Ok(described)
}

pub(super) fn list_models(resources: &Resources, request: &Members) -> Answer {
    let rows = page(resources.ledger().contents(ContentKind::Model)?, request, &[], |row| (&row.name, row.created_at))?;
    let shown = rows.0.iter().map(|row| {
        json!({"ModelName": row.name, "ModelArn": arn("model", &row.name), "CreationTime": seconds(row.created_at)})
    });
    Ok(list("Models", shown.collect(), rows.1))
}

pub(super) fn delete_model(resources: &Resources, request: &Members) -> Answer {
    request.only(&["ModelName"], &[])?;
    let name = request.name("ModelName")?;
    for config in resources.ledger().contents(ContentKind::EndpointConfig)? {
        let content = config_of(&config)?;
        let uses = content.variants.iter().chain(&content.shadow_variants).any(|variant| variant.model == name);
        if uses && let Some(endpoint) = user_of(resources, &config.name)? {
            return Err(used("model", name, &endpoint));
        }
    }
    match resources.ledger().delete_content(ContentKind::Model, name)? {
        true => Ok(json!({})),
        false => Err(missing("model", name)),
    }
}

/// An endpoint that serves a configuration. Here it needs the configuration, and its models, at each start of the server.
fn user_of(resources: &Resources, config: &str) -> Result<Option<String>, ApiError> {
    let uses = |row: &EndpointRow| {
        row.state != EndpointState::Deleting && (row.config == config || row.pending_config.as_deref() == Some(config))
    };
    Ok(resources.ledger().endpoints()?.into_iter().find(uses).map(|row| row.name))
}

fn used(kind: &str, name: &str, endpoint: &str) -> ApiError {
    let (thing, endpoint) = (arn(kind, name), arn("endpoint", endpoint));
    ApiError::validation(format!("Cannot delete \"{thing}\": the endpoint \"{endpoint}\" uses it."))
}

fn config_of(row: &NamedContent) -> Result<EndpointConfig, ApiError> {
    serde_json::from_value(row.content.clone())
        .map_err(|error| ApiError::internal(format!("read endpoint configuration {}: {error}", row.name)))
}

pub(super) fn create_config(resources: &Resources, request: &Members) -> Answer {
    let name = request.name("EndpointConfigName")?;
    request.only(
        &["EndpointConfigName", "ProductionVariants", "ShadowProductionVariants", "Tags"],
        &["KmsKeyId", "ExecutionRoleArn", "VpcConfig", "EnableNetworkIsolation"],
    )?;
    let variants = variants(resources, &request.structures("ProductionVariants")?)?;
    let shadow_variants = self::variants(resources, &request.structures("ShadowProductionVariants")?)?;
    if variants.is_empty() {
        return Err(ApiError::validation("ProductionVariants: at least one is needed"));
    }
    let mut names: Vec<&str> = variants.iter().chain(&shadow_variants).map(|variant| variant.name.as_str()).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(ApiError::validation(format!("ProductionVariants: two variants have the name {:?}", twice[0])));
    }
    if variants.iter().map(|variant| variant.weight).sum::<f64>() <= 0.0 {
        return Err(ApiError::validation("ProductionVariants: the sum of InitialVariantWeight must be above 0"));
    }
    let config = EndpointConfig { request: request.value(), variants, shadow_variants };
    let in_use = || ApiError::validation(exists("endpoint-config", name));
    put(resources, ContentKind::EndpointConfig, name, &config, in_use)?;
    Ok(json!({"EndpointConfigArn": arn("endpoint-config", name)}))
}

fn variants(resources: &Resources, written: &[Members]) -> Result<Vec<Variant>, ApiError> {
    let read = written.iter().map(|variant| {
        variant.only(
            &["VariantName", "ModelName", "InitialVariantWeight"],
            &[
                "InitialInstanceCount",
                "InstanceType",
                "AcceleratorType",
                "VolumeSizeInGB",
                "ServerlessConfig",
                "ContainerStartupHealthCheckTimeoutInSeconds",
                "ModelDataDownloadTimeoutInSeconds",
                "RoutingConfig",
                "EnableSSMAccess",
            ],
        )?;
        let model = variant.name("ModelName")?;
        if resources.ledger().content(ContentKind::Model, model)?.is_none() {
            return Err(missing("model", model));
        }
        let weight = variant.number("InitialVariantWeight")?.unwrap_or(1.0);
        if !(weight >= 0.0 && weight.is_finite()) {
            return Err(ApiError::validation("InitialVariantWeight must be a number from 0 on"));
        }
        Ok(Variant { name: variant.name("VariantName")?.to_owned(), model: model.to_owned(), weight })
    });
    read.collect()
}

pub(super) fn describe_config(resources: &Resources, request: &Members) -> Answer {
    request.only(&["EndpointConfigName"], &[])?;
    let name = request.name("EndpointConfigName")?;
    let found = resources.ledger().content(ContentKind::EndpointConfig, name)?;
    let found = found.ok_or_else(|| missing("endpoint-configuration", name))?;
    let mut described = json!({
        "EndpointConfigName": name, "EndpointConfigArn": arn("endpoint-config", name),
        "CreationTime": seconds(found.created_at),
    });
    for key in ["ProductionVariants", "ShadowProductionVariants"] {
        if let Some(value) = found.content["request"].get(key).filter(|value| !value.is_null()) {
            described[key] = value.clone();
        }
    }
    Ok(described)
}

pub(super) fn list_configs(resources: &Resources, request: &Members) -> Answer {
    let rows = resources.ledger().contents(ContentKind::EndpointConfig)?;
    let rows = page(rows, request, &[], |row| (&row.name, row.created_at))?;
    let shown = rows.0.iter().map(|row| {
        let arn = arn("endpoint-config", &row.name);
        json!({"EndpointConfigName": row.name, "EndpointConfigArn": arn, "CreationTime": seconds(row.created_at)})
    });
    Ok(list("EndpointConfigs", shown.collect(), rows.1))
}

pub(super) fn delete_config(resources: &Resources, request: &Members) -> Answer {
    request.only(&["EndpointConfigName"], &[])?;
    let name = request.name("EndpointConfigName")?;
    if let Some(endpoint) = user_of(resources, name)? {
        return Err(used("endpoint-config", name, &endpoint));
    }
    match resources.ledger().delete_content(ContentKind::EndpointConfig, name)? {
        true => Ok(json!({})),
        false => Err(missing("endpoint-configuration", name)),
    }
}

fn known_config<'a>(resources: &Resources, request: &'a Members) -> Result<&'a str, ApiError> {
    let config = request.name("EndpointConfigName")?;
    match resources.ledger().content(ContentKind::EndpointConfig, config)? {
        Some(_) => Ok(config),
        None => Err(missing("endpoint-configuration", config)),
    }
}

pub(super) fn create_endpoint(resources: &Resources, request: &Members) -> Answer {
    request.only(&["EndpointName", "EndpointConfigName", "Tags"], &["DeploymentConfig"])?;
    let name = request.name("EndpointName")?;
    let config = known_config(resources, request)?;
    if !resources.ledger().create_endpoint(name, config)? {
        return Err(ApiError::validation(exists("endpoint", name)));
    }
    Ok(json!({"EndpointArn": arn("endpoint", name)}))
}

pub(super) fn update_endpoint(resources: &Resources, request: &Members) -> Answer {
    request.only(
        &["EndpointName", "EndpointConfigName", "RetainAllVariantProperties"],
        &["ExcludeRetainedVariantProperties", "DeploymentConfig", "RetainDeploymentConfig"],
    )?;
    if request.value()["RetainAllVariantProperties"] == json!(true) {
        let message = "RetainAllVariantProperties is not supported here: set the weights after the update, by \
                       UpdateEndpointWeightsAndCapacities";
        return Err(ApiError::validation(message));
    }
    let name = request.name("EndpointName")?;
    let found = find_endpoint(resources, name)?;
    let config = known_config(resources, request)?;
    if !resources.ledger().update_endpoint(name, config)? {
        return Err(cannot_update(&found));
    }
    Ok(json!({"EndpointArn": arn("endpoint", name)}))
}

fn cannot_update(found: &EndpointRow) -> ApiError {
    let (arn, state) = (arn("endpoint", &found.name), found.state.name());
    ApiError::validation(format!("Cannot update in-progress endpoint \"{arn}\": its status is {state}."))
}

fn find_endpoint(resources: &Resources, name: &str) -> Result<EndpointRow, ApiError> {
    resources.ledger().endpoint(name)?.ok_or_else(|| missing("endpoint", name))
}

pub(super) fn set_weights(resources: &Resources, request: &Members) -> Answer {
    request.only(&["EndpointName", "DesiredWeightsAndCapacities"], &[])?;
    let name = request.name("EndpointName")?;
    let found = find_endpoint(resources, name)?;
    let config = resources.ledger().content(ContentKind::EndpointConfig, &found.config)?;
    let known = config.map(|config| config_of(&config)).transpose()?.map(|config| config.variants).unwrap_or_default();
    let mut weights = found.weights.clone();
    for desired in request.structures("DesiredWeightsAndCapacities")? {
        desired.only(&["VariantName", "DesiredWeight"], &["DesiredInstanceCount", "ServerlessUpdateConfig"])?;
        let variant = desired.name("VariantName")?;
        if !known.iter().any(|known| known.name == variant) {
            return Err(ApiError::validation(format!("the endpoint {name} has no variant {variant:?}")));
        }
        if let Some(weight) = desired.number("DesiredWeight")? {
            if !(weight >= 0.0 && weight.is_finite()) {
                return Err(ApiError::validation("DesiredWeight must be a number from 0 on"));
            }
            weights[variant] = json!(weight);
        }
    }
    let weight = |variant: &Variant| weights[&variant.name].as_f64().unwrap_or(variant.weight);
    if known.iter().map(weight).sum::<f64>() <= 0.0 {
        return Err(ApiError::validation("the sum of the variants' weights must be above 0"));
    }
    if !resources.ledger().set_endpoint_weights(name, &weights)? {
        return Err(cannot_update(&found));
    }
    Ok(json!({"EndpointArn": arn("endpoint", name)}))
}

pub(super) fn delete_endpoint(resources: &Resources, request: &Members) -> Answer {
    request.only(&["EndpointName"], &[])?;
    let name = request.name("EndpointName")?;
    if !resources.ledger().delete_endpoint(name)? {
        return Err(missing("endpoint", name));
    }
    Ok(json!({}))
}

pub(super) fn describe_endpoint(resources: &Resources, request: &Members) -> Answer {
    request.only(&["EndpointName"], &[])?;
    let found = find_endpoint(resources, request.name("EndpointName")?)?;
    let config = resources.ledger().content(ContentKind::EndpointConfig, &found.config)?;
    let variants = config.map(|config| config_of(&config)).transpose()?.map(|config| config.variants);
    let variants = variants.unwrap_or_default().into_iter().map(|variant| {
        let weight = found.weights[&variant.name].as_f64().unwrap_or(variant.weight);
        json!({
            "VariantName": variant.name, "CurrentWeight": weight, "DesiredWeight": weight,
            "CurrentInstanceCount": 1, "DesiredInstanceCount": 1,
        })
    });
    let mut described = json!({
        "EndpointName": found.name, "EndpointArn": arn("endpoint", &found.name), "EndpointConfigName": found.config,
        "EndpointStatus": found.state.name(), "ProductionVariants": variants.collect::<Vec<_>>(),
        "CreationTime": seconds(found.created_at), "LastModifiedTime": seconds(found.updated_at),
    });
    if let Some(failure) = &found.failure {
        described["FailureReason"] = json!(failure.chars().take(1024).collect::<String>());
    }
    Ok(described)
}

pub(super) fn list_endpoints(resources: &Resources, request: &Members) -> Answer {
    let mut rows = resources.ledger().endpoints()?;
    if let Some(status) = request.text("StatusEquals")? {
        rows.retain(|row| row.state.name() == status);
    }
    let rows = page(rows, request, &["StatusEquals"], |row| (&row.name, row.created_at))?;
    let shown = rows.0.iter().map(|row| {
        json!({
            "EndpointName": row.name, "EndpointArn": arn("endpoint", &row.name),
            "CreationTime": seconds(row.created_at), "LastModifiedTime": seconds(row.updated_at),
            "EndpointStatus": row.state.name(),
        })
    });
    Ok(list("Endpoints", shown.collect(), rows.1))
}
