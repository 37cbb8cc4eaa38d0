//! Errors in the forms of SageMaker's two protocols: REST with a header for the runtime, JSON 1.1 for the control plane.

use gateway::{AccessDenied, Body};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::body::full;
use crate::arn::arn;

/// The answer to a request that was not carried out.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ApiError {
    status: StatusCode,
    error_type: &'static str,
    message: String,
    /// Further members of the answer.
    members: Value,
    is_runtime: bool,
}

impl ApiError {
    fn new(status: StatusCode, error_type: &'static str, message: impl Into<String>) -> ApiError {
        ApiError { status, error_type, message: message.into(), members: json!({}), is_runtime: false }
    }

    /// Something in the request is wrong. The runtime calls it `ValidationError`, the control plane
    /// `ValidationException`.
    pub fn validation(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "ValidationException", message)
    }

    /// Something of that name exists already.
    pub fn in_use(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "ResourceInUse", message)
    }

    /// The model has answered with an error, or not at all.
    pub fn model(status: u16, message: &str, endpoint: &str) -> ApiError {
        let side = if (400..500).contains(&status) { "client" } else { "server" };
        let text = format!("Received {side} error ({status}) from primary with message \"{message}\".");
        let mut error = ApiError::new(StatusCode::FAILED_DEPENDENCY, "ModelError", text);
        error.members = json!({
            "OriginalStatusCode": status, "OriginalMessage": message, "LogStreamArn": arn("endpoint", endpoint),
        });
        error
    }

    /// The model did not start in time: the caller may try again.
    pub fn not_ready(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, "ModelNotReadyException", message)
    }

    /// Too many requests, or a model that can't be started.
    pub fn unavailable(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
    }

    /// This program failed.
    pub fn internal(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalFailure", message)
    }

    /// The request has no operation that is known here.
    pub fn unknown_operation(what: &str) -> ApiError {
        let message = format!("{what:?} is no operation of SageMaker's that is supported here");
        ApiError::new(StatusCode::NOT_FOUND, "UnknownOperationException", message)
    }

    /// The caller may not do this.
    pub fn denied(denied: AccessDenied) -> ApiError {
        ApiError::new(StatusCode::FORBIDDEN, denied.error_type, denied.message)
    }

    /// With another status.
    pub fn status(mut self, status: u16) -> ApiError {
        self.status = StatusCode::from_u16(status).unwrap_or(self.status);
        self
    }

    /// In the form of the runtime, or of the control plane.
    pub fn in_runtime(mut self, is_runtime: bool) -> ApiError {
        self.is_runtime = is_runtime;
        self
    }

    /// As an HTTP response.
    pub fn into_response(self) -> Response<Body> {
        let mut body = self.members;
        let error_type = match self.error_type {
            "ValidationException" if self.is_runtime => "ValidationError",
            other => other,
        };
        let content_type = if self.is_runtime { "application/json" } else { "application/x-amz-json-1.1" };
        if self.is_runtime {
            body["Message"] = json!(self.message);
        } else {
            body["__type"] = json!(error_type);
            body["message"] = json!(self.message);
        }
        let mut response = Response::new(full(body.to_string().into()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert("x-amzn-errortype", HeaderValue::from_static(error_type));
        if matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            headers.insert("retry-after", HeaderValue::from_static("1"));
        }
        response
    }
}

/// An error of the ledger, the store or a definition.
impl From<base::Error> for ApiError {
    fn from(error: base::Error) -> ApiError {
        let text = match &error.hint {
            Some(hint) => format!("{}; {hint}", error.chain()),
            None => error.chain(),
        };
        match error.kind {
            base::Kind::FixInput => ApiError::validation(text),
            base::Kind::Retry => ApiError::unavailable(text),
            base::Kind::FixSetup | base::Kind::Bug => ApiError::internal(text),
        }
    }
}
