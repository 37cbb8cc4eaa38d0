//! The runtime: InvokeEndpoint.

use bytes::Bytes;
use gateway::{Action, Body, Caller, RequestNote};
use hyper::Response;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use super::Api;
use super::body::full;
use super::error::ApiError;
use crate::arn::{ACCOUNT, arn};
use crate::definition::is_name;
use crate::endpoint::InvokeError;
use crate::serving::{Invocation, ServingError};

pub(super) const PREFIX: &str = "/endpoints/";
const CUSTOM_ATTRIBUTES: HeaderName = HeaderName::from_static("x-amzn-sagemaker-custom-attributes");
const INVOKED_VARIANT: HeaderName = HeaderName::from_static("x-amzn-invoked-production-variant");
/// Headers that choose a model within a variant, and the members of InvokeEndpoint that they are.
const UNSUPPORTED: [(&str, &str); 4] = [
    ("x-amzn-sagemaker-target-model", "TargetModel"),
    ("x-amzn-sagemaker-target-container-hostname", "TargetContainerHostname"),
    ("x-amzn-sagemaker-inference-component", "InferenceComponentName"),
    ("x-amzn-sagemaker-session-id", "SessionId"),
];
const CUSTOM_ATTRIBUTES_MAX: usize = 1024;

pub(super) async fn answer(
    api: &Api,
    caller: &Caller,
    path: &str,
    headers: &HeaderMap,
    body: Bytes,
    note: &mut RequestNote,
) -> Result<Response<Body>, ApiError> {
    let (name, operation) = path[PREFIX.len()..].split_once('/').unwrap_or((&path[PREFIX.len()..], ""));
    if !is_name(name) {
        return Err(ApiError::validation(format!("{name:?} is not an endpoint's name")));
    }
    if operation == "invocations" {
        "InvokeEndpoint".clone_into(&mut note.operation);
    }
    note.resource = format!("endpoint:{name}");
    caller.check(Action::Invoke, &note.resource).map_err(ApiError::denied)?;
    match operation {
        "invocations" => invoke(api, name, headers, body).await,
        "async-invocations" | "invocations-response-stream" => {
            let message = format!("{operation} is not supported here: use InvokeEndpoint");
            Err(ApiError::validation(message).status(501))
        }
        _ => Err(ApiError::unknown_operation(path)),
    }
}

async fn invoke(api: &Api, endpoint: &str, headers: &HeaderMap, body: Bytes) -> Result<Response<Body>, ApiError> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    // Without them, another model would answer than the one that was asked.
    for (name, member) in UNSUPPORTED {
        if headers.contains_key(name) {
            return Err(ApiError::validation(format!("{member} is not supported here")));
        }
    }
    let invocation = Invocation {
        body,
        content_type: header("content-type"),
        accept: header("accept"),
        custom_attributes: header(CUSTOM_ATTRIBUTES.as_str()),
        inference_id: header("x-amzn-sagemaker-inference-id"),
    };
    if invocation.custom_attributes.as_ref().is_some_and(|text| text.len() > CUSTOM_ATTRIBUTES_MAX) {
        let message = format!("CustomAttributes must have at most {CUSTOM_ATTRIBUTES_MAX} characters");
        return Err(ApiError::validation(message));
    }
    let variant = header("x-amzn-sagemaker-target-variant");
    let answered = api.endpoints.invoke(endpoint, variant.as_deref(), invocation).await;
    let (prediction, variant) = answered.map_err(|error| refused(error, endpoint, variant.as_deref()))?;
    let mut response = Response::new(full(prediction.body));
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, Some(prediction.content_type)),
        (INVOKED_VARIANT, Some(variant)),
        (CUSTOM_ATTRIBUTES, prediction.custom_attributes),
    ] {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
            headers.insert(name, value);
        }
    }
    Ok(response)
}

fn refused(error: InvokeError, endpoint: &str, variant: Option<&str>) -> ApiError {
    match error {
        InvokeError::UnknownEndpoint => {
            ApiError::validation(format!("Endpoint {endpoint} of account {} not found.", ACCOUNT))
        }
        InvokeError::NotInService(state) => {
            let message =
                format!("Endpoint {} is not in service: its status is {}", arn("endpoint", endpoint), state.name());
            ApiError::validation(message)
        }
        InvokeError::UnknownVariant => {
            let variant = variant.unwrap_or_default();
            ApiError::validation(format!("Variant {variant} not found for Request {}.", arn("endpoint", endpoint)))
        }
        InvokeError::Serving(ServingError::Model { status, message }) => ApiError::model(status, &message, endpoint),
        InvokeError::Serving(ServingError::NotReady(message)) => ApiError::not_ready(message),
        InvokeError::Serving(ServingError::Failed(message)) => {
            ApiError::unavailable(format!("the model could not be started: {message}"))
        }
        InvokeError::Serving(ServingError::Overloaded) => {
            ApiError::unavailable("too many requests wait for the model: try again later")
        }
    }
}
