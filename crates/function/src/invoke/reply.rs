//! Answers in AWS Lambda's form: headers, statuses, and errors that SDKs turn into their exceptions.

use std::convert::Infallible;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::Denied;
use super::address::Address;
use crate::deferred::EVENT_BYTES_MAX;
use crate::host::{Answer, Ran, arn};

pub type Body = BoxBody<Bytes, Infallible>;

/// A request that was not carried out, as AWS says it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Refused {
    status: StatusCode,
    error_type: &'static str,
    body: Value,
}

impl Refused {
    fn new(status: StatusCode, error_type: &'static str, message: &str) -> Refused {
        let whose = if status.is_server_error() { "Service" } else { "User" };
        Refused { status, error_type, body: json!({"Type": whose, "message": message}) }
    }

    pub fn unknown(address: &Address) -> Refused {
        let message = format!("Function not found: {}:{}", arn(&address.name, "$LATEST"), address.qualifier);
        Refused::missing(&message)
    }

    pub fn missing(message: &str) -> Refused {
        let status = StatusCode::NOT_FOUND;
        let body = json!({"Type": "User", "Message": message});
        Refused { status, error_type: "ResourceNotFoundException", body }
    }

    pub fn parameter(message: &str) -> Refused {
        Refused::new(StatusCode::BAD_REQUEST, "InvalidParameterValueException", message)
    }

    pub fn content(message: &str) -> Refused {
        Refused::new(StatusCode::BAD_REQUEST, "InvalidRequestContentException", message)
    }

    pub fn large(most: usize) -> Refused {
        let kind = if most == EVENT_BYTES_MAX { "an asynchronous" } else { "a synchronous" };
        let message = format!("Request must be at most {most} bytes for {kind} invocation");
        Refused::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestTooLargeException", &message)
    }

    pub fn busy(reason: &'static str) -> Refused {
        let mut refused = Refused::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequestsException", "Rate Exceeded.");
        refused.body["Reason"] = json!(reason);
        refused
    }

    pub fn full() -> Refused {
        let message = "the queue of asynchronous events is full: wait, or look at its dead letters";
        let mut refused = Refused::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequestsException", message);
        refused.body["Reason"] = json!("QueueFull");
        refused
    }

    pub fn denied(denied: Denied) -> Refused {
        Refused::new(StatusCode::FORBIDDEN, denied.error_type, &denied.message)
    }

    pub fn service(message: &str) -> Refused {
        let body = json!({"Type": "Service", "Message": message});
        Refused { status: StatusCode::INTERNAL_SERVER_ERROR, error_type: "ServiceException", body }
    }

    /// Whoever deploys does so by the command line.
    pub fn not_here() -> Refused {
        let message = "this API invokes functions and shows them; they are deployed with `wattlake function deploy`";
        Refused::new(StatusCode::NOT_FOUND, "UnknownOperationException", message)
    }

    pub fn error_type(&self) -> &'static str {
        self.error_type
    }

    pub fn message(&self) -> &str {
        let message = self.body.get("message").or_else(|| self.body.get("Message"));
        message.and_then(Value::as_str).unwrap_or_default()
    }

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

/// A function's own answer, whether it succeeded or not.
pub(super) fn ran(ran: &Ran, tail: bool) -> Response<Body> {
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
    version(&mut response, &ran.found.shown);
    response
}

pub(super) fn version(response: &mut Response<Body>, version: &str) {
    if let Ok(version) = HeaderValue::from_str(version) {
        response.headers_mut().insert("x-amz-executed-version", version);
    }
}

/// Every answer has its request's id.
pub(super) fn name(response: &mut Response<Body>, request_id: &str) {
    if let Ok(id) = HeaderValue::from_str(request_id) {
        response.headers_mut().insert(HeaderName::from_static("x-amzn-requestid"), id);
    }
}

pub(super) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = status;
    response
}

pub(super) fn json_response(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(full(body.to_string().into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn full(body: Bytes) -> Body {
    Full::new(body).boxed()
}
