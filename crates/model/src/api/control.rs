//! The control plane: JSON 1.1, with the operation in the header `X-Amz-Target`.

use bytes::Bytes;
use gateway::{Action, Body, Caller, RequestNote};
use hyper::Response;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::Value;

use super::body::full;
use super::error::ApiError;
use super::request::Members;
use super::{Api, operations, trainings};

const TARGET: &str = "SageMaker.";
const LISTS: [&str; 4] = ["ListModels", "ListEndpointConfigs", "ListEndpoints", "ListTrainingJobs"];

pub(super) async fn answer(
    api: &Api,
    caller: &Caller,
    headers: &HeaderMap,
    body: Bytes,
    note: &mut RequestNote,
) -> Result<Response<Body>, ApiError> {
    let header = headers.get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let operation = header.strip_prefix(TARGET).ok_or_else(|| ApiError::unknown_operation(header))?.to_owned();
    let request: Value = match body.is_empty() {
        true => Value::Object(serde_json::Map::new()),
        false => serde_json::from_slice(&body)
            .map_err(|error| ApiError::validation(format!("the request is no JSON: {error}")))?,
    };
    let request = Members::new(request)?;
    if let Some((kind, key)) = target(&operation) {
        operation.clone_into(&mut note.operation);
        note.resource = format!("{kind}:{}", request.name(key)?);
        if !operation.starts_with("Describe") {
            caller.check(Action::Change, &note.resource).map_err(ApiError::denied)?;
        }
    } else if LISTS.contains(&operation.as_str()) {
        operation.clone_into(&mut note.operation);
    }
    let api = api.clone();
    // Models are read, hashed and unpacked: this takes time.
    let carried = tokio::task::spawn_blocking(move || {
        let carried = carry_out(&api, &operation, &request);
        api.endpoints.notify();
        carried
    });
    let carried = carried.await;
    let answered = carried.map_err(|error| ApiError::internal(error.to_string()))??;
    let mut response = Response::new(full(answered.to_string().into()));
    let json = HeaderValue::from_static("application/x-amz-json-1.1");
    response.headers_mut().insert(CONTENT_TYPE, json);
    Ok(response)
}

/// The kind of resource that an operation is about, and the member with its name. `None` for lists, and for operations that
/// are not known.
fn target(operation: &str) -> Option<(&'static str, &'static str)> {
    Some(match operation {
        "CreateModel" | "DescribeModel" | "DeleteModel" => ("model", "ModelName"),
        "CreateEndpointConfig" | "DescribeEndpointConfig" | "DeleteEndpointConfig" => {
            ("endpoint-config", "EndpointConfigName")
        }
        "CreateEndpoint"
        | "DescribeEndpoint"
        | "UpdateEndpoint"
        | "UpdateEndpointWeightsAndCapacities"
        | "DeleteEndpoint" => ("endpoint", "EndpointName"),
        "CreateTrainingJob" | "DescribeTrainingJob" | "StopTrainingJob" => ("training-job", "TrainingJobName"),
        _ => return None,
    })
}

fn carry_out(api: &Api, operation: &str, request: &Members) -> Result<Value, ApiError> {
    let resources = api.endpoints.resources();
    match operation {
        "CreateModel" => operations::create_model(resources, request),
        "DescribeModel" => operations::describe_model(resources, request),
        "ListModels" => operations::list_models(resources, request),
        "DeleteModel" => operations::delete_model(resources, request),
        "CreateEndpointConfig" => operations::create_config(resources, request),
        "DescribeEndpointConfig" => operations::describe_config(resources, request),
        "ListEndpointConfigs" => operations::list_configs(resources, request),
        "DeleteEndpointConfig" => operations::delete_config(resources, request),
        "CreateEndpoint" => operations::create_endpoint(resources, request),
        "DescribeEndpoint" => operations::describe_endpoint(resources, request),
        "ListEndpoints" => operations::list_endpoints(resources, request),
        "UpdateEndpoint" => operations::update_endpoint(resources, request),
        "UpdateEndpointWeightsAndCapacities" => operations::set_weights(resources, request),
        "DeleteEndpoint" => operations::delete_endpoint(resources, request),
        "CreateTrainingJob" => trainings::create(resources, request, &*api.start_training),
        "DescribeTrainingJob" => trainings::describe(resources, request),
        "ListTrainingJobs" => trainings::list_all(resources, request),
        "StopTrainingJob" => trainings::stop(resources, request),
        other => Err(ApiError::unknown_operation(other)),
    }
}
