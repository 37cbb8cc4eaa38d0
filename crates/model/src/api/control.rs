//! The control plane: JSON 1.1, with the operation in the header `X-Amz-Target`.

use bytes::Bytes;
use gateway::{Action, Body, Caller};
use hyper::Response;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::Value;

use super::body::full;
use super::error::ApiError;
use super::request::Members;
use super::{Api, operations, trainings};

const TARGET: &str = "SageMaker.";

pub(super) async fn answer(
    api: &Api,
    caller: &Caller,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<Response<Body>, ApiError> {
    let target = headers.get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let operation = target.strip_prefix(TARGET).ok_or_else(|| ApiError::unknown_operation(target))?.to_owned();
    let request: Value = match body.is_empty() {
        true => Value::Object(serde_json::Map::new()),
        false => serde_json::from_slice(&body)
            .map_err(|error| ApiError::validation(format!("the request is no JSON: {error}")))?,
    };
    let request = Members::new(request)?;
    let (api, caller) = (api.clone(), caller.clone());
    // Models are read, hashed and unpacked: this takes time.
    let carried = tokio::task::spawn_blocking(move || {
        let carried = carry_out(&api, &caller, &operation, &request);
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

fn carry_out(api: &Api, caller: &Caller, operation: &str, request: &Members) -> Result<Value, ApiError> {
    let changes = |kind: &str, key: &str| -> Result<(), ApiError> {
        let name = request.name(key)?;
        caller.check(Action::Change, &format!("{kind}:{name}")).map_err(ApiError::denied)
    };
    let resources = api.endpoints.resources();
    match operation {
        "CreateModel" => {
            changes("model", "ModelName")?;
            operations::create_model(resources, request)
        }
        "DescribeModel" => operations::describe_model(resources, request),
        "ListModels" => operations::list_models(resources, request),
        "DeleteModel" => {
            changes("model", "ModelName")?;
            operations::delete_model(resources, request)
        }
        "CreateEndpointConfig" => {
            changes("endpoint-config", "EndpointConfigName")?;
            operations::create_config(resources, request)
        }
        "DescribeEndpointConfig" => operations::describe_config(resources, request),
        "ListEndpointConfigs" => operations::list_configs(resources, request),
        "DeleteEndpointConfig" => {
            changes("endpoint-config", "EndpointConfigName")?;
            operations::delete_config(resources, request)
        }
        "CreateEndpoint" => {
            changes("endpoint", "EndpointName")?;
            operations::create_endpoint(resources, request)
        }
        "DescribeEndpoint" => operations::describe_endpoint(resources, request),
        "ListEndpoints" => operations::list_endpoints(resources, request),
        "UpdateEndpoint" => {
            changes("endpoint", "EndpointName")?;
            operations::update_endpoint(resources, request)
        }
        "UpdateEndpointWeightsAndCapacities" => {
            changes("endpoint", "EndpointName")?;
            operations::set_weights(resources, request)
        }
        "DeleteEndpoint" => {
            changes("endpoint", "EndpointName")?;
            operations::delete_endpoint(resources, request)
        }
        "CreateTrainingJob" => {
            changes("training-job", "TrainingJobName")?;
            trainings::create(resources, request, &*api.start_training)
        }
        "DescribeTrainingJob" => trainings::describe(resources, request),
        "ListTrainingJobs" => trainings::list_all(resources, request),
        "StopTrainingJob" => {
            changes("training-job", "TrainingJobName")?;
            trainings::stop(resources, request)
        }
        other => Err(ApiError::unknown_operation(other)),
    }
}
