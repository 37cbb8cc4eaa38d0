//! Responses in AWS Lambda's form: headers, statuses, and errors that SDKs turn into their exceptions.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use gateway::{AccessDenied, Body};
use http_body_util::{BodyExt, Full};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use crate::event_queue::EVENT_BYTES_MAX;
use crate::host::{Answer, Execution, arn};

/// The error response to a request that was not carried out, in AWS's form.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ApiError {
    status: StatusCode,
    error_type: &'static str,
    body: Value,
}

impl ApiError {
    fn new(status: StatusCode, error_type: &'static str, message: &str) -> ApiError {
        let whose = if status.is_server_error() { "Service" } else { "User" };
        ApiError { status, error_type, body: json!({"Type": whose, "message": message}) }
    }

    /// No such function, version or alias is deployed.
    pub fn unknown(name: &str, qualifier: &str) -> ApiError {
        let message = format!("Function not found: {}:{qualifier}", arn(name));
        ApiError::missing(&message)
    }

    /// Something else that the request names does not exist.
    pub fn missing(message: &str) -> ApiError {
        let status = StatusCode::NOT_FOUND;
        let body = json!({"Type": "User", "Message": message});
        ApiError { status, error_type: "ResourceNotFoundException", body }
    }

    /// A parameter of the request is wrong.
    pub fn parameter(message: &str) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "InvalidParameterValueException", message)
    }

    /// The request's body or client context is wrong.
    pub fn content(message: &str) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "InvalidRequestContentException", message)
    }

    /// The request has more than `most` bytes.
    pub fn large(most: usize) -> ApiError {
        let kind = if most == EVENT_BYTES_MAX { "an asynchronous" } else { "a synchronous" };
        let message = format!("Request must be at most {most} bytes for {kind} invocation");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestTooLargeException", &message)
    }

    /// A concurrency limit is reached; `reason` is AWS's name for it.
    pub fn busy(reason: &'static str) -> ApiError {
        let mut refused = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequestsException", "Rate Exceeded.");
        refused.body["Reason"] = json!(reason);
        refused
    }

    /// The queue of asynchronous events has reached its bounds.
    pub fn full() -> ApiError {
        let message = "the queue of asynchronous events is full: send the event again later, or remove dead letters";
        let mut refused = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequestsException", message);
        refused.body["Reason"] = json!("QueueFull");
        refused
    }

    /// The guard does not allow the request.
    pub fn denied(denied: AccessDenied) -> ApiError {
        ApiError::new(StatusCode::FORBIDDEN, denied.error_type, &denied.message)
    }

    /// The host failed, not the function.
    pub fn service(message: &str) -> ApiError {
        let body = json!({"Type": "Service", "Message": message});
        ApiError { status: StatusCode::INTERNAL_SERVER_ERROR, error_type: "ServiceException", body }
    }

    /// The API has no such operation: functions are deployed on the command line.
    pub fn not_here() -> ApiError {
        let message = "this API invokes and describes functions; deploy them with `wattlake function deploy`";
        ApiError::new(StatusCode::NOT_FOUND, "UnknownOperationException", message)
    }

    /// AWS's name for the error.
    pub fn error_type(&self) -> &'static str {
        self.error_type
    }

    /// The text for the caller.
    pub fn message(&self) -> &str {
        let message = self.body.get("message").or_else(|| self.body.get("Message"));
        message.and_then(Value::as_str).unwrap_or_default()
    }

    /// As an HTTP response.
    pub fn into_response(self) -> Response<Body> {
        let mut response = json_response(self.status, &self.body);
        let headers = response.headers_mut();
        headers.insert("x-amzn-errortype", HeaderValue::from_static(self.error_type));
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            headers.insert("retry-after", HeaderValue::from_static("1"));
        }
        response
    }
}

/// The response with a function's answer, a failure included. With `tail`, also with the end of its log.
pub(super) fn execution_response(ran: &Execution, tail: bool) -> Response<Body> {
    let (body, failed) = match &ran.outcome.answer {
        Answer::Response(body) => (body.clone(), false),
        Answer::Error(failure) => (failure.body.clone(), true),
    };
    let mut response = Response::new(full(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if failed {
        headers.insert("x-amz-function-error", HeaderValue::from_static("Unhandled"));
    }
    if tail && let Ok(log) = HeaderValue::from_str(&STANDARD.encode(&ran.outcome.log_tail)) {
        headers.insert("x-amz-log-result", log);
    }
    set_executed_version(&mut response, &ran.function_version.shown);
    response
}

/// Sets the header with the version that ran the event.
pub(super) fn set_executed_version(response: &mut Response<Body>, version: &str) {
    if let Ok(version) = HeaderValue::from_str(version) {
        response.headers_mut().insert("x-amz-executed-version", version);
    }
}

/// Sets the header with the request's id, which every response has.
pub(super) fn set_request_id(response: &mut Response<Body>, request_id: &str) {
    if let Ok(id) = HeaderValue::from_str(request_id) {
        response.headers_mut().insert(HeaderName::from_static("x-amzn-requestid"), id);
    }
}

/// A response without a body.
pub(super) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = status;
    response
}

/// A response with a JSON body.
pub(super) fn json_response(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(full(body.to_string().into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn full(body: Bytes) -> Body {
    Full::new(body).boxed()
}
