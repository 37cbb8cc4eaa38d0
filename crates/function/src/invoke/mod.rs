//! AWS Lambda's Invoke API over HTTP: <https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html>. Also the part of
//! Lambda's API that describes what is deployed, as far as clients need it.
//!
//! It deploys nothing. An [`AccessControl`] decides who may call.

mod address;
mod describe_api;
mod reply;
mod stream;

use std::sync::Arc;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use chrono::Utc;
use gateway::{AccessControl, Action, BodyError, Caller, RequestLog, RequestNote, Service};
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use ledger::{Invocation, PutOutcome};

use address::Address;
use reply::ApiError;

use crate::error::Kind;
use crate::event_queue::{EVENT_BYTES_MAX, EventQueue};
use crate::host::{Answer, ConcurrencyLimit, Event, Execution, Failure, Fleet, Refusal};

pub use gateway::Body;

/// The largest request that waits for its response, as on AWS Lambda: 6 MiB.
pub const REQUEST_BYTES_MAX: usize = 6 << 20;
const CLIENT_CONTEXT_BYTES_MAX: usize = 3583;
/// The Invoke API of a host. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    fleet: Fleet,
    queue: EventQueue,
    access: AccessControl,
    requests: RequestLog,
}

impl Api {
    /// An API over the functions of `fleet`. Asynchronous events go to `queue`, which someone has to run.
    /// Requests are counted in `requests`.
    pub fn new(fleet: Fleet, queue: EventQueue, access: AccessControl, requests: RequestLog) -> Api {
        Api { fleet, queue, access, requests }
    }

    /// Answers a request, from any HTTP server. Errors become responses in AWS's form.
    pub async fn answer<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: hyper::body::Body<Data = Bytes>,
    {
        let request_id = uuid::Uuid::now_v7().to_string();
        let (began, mut note) = (Instant::now(), RequestNote::default());
        let mut response = self.route(request, &request_id, &mut note).await.unwrap_or_else(ApiError::into_response);
        let error = response.headers().get("x-amzn-errortype").and_then(|error| error.to_str().ok());
        self.requests.add(Utc::now(), note, response.status().as_u16(), error.unwrap_or_default(), began.elapsed());
        reply::set_request_id(&mut response, &request_id);
        response
    }

    async fn route<B>(
        &self,
        request: Request<B>,
        request_id: &str,
        note: &mut RequestNote,
    ) -> Result<Response<Body>, ApiError>
    where
        B: hyper::body::Body<Data = Bytes>,
    {
        let (parts, body) = request.into_parts();
        self.access.check_head(&parts).map_err(ApiError::denied)?;
        let body = gateway::read_body(body, REQUEST_BYTES_MAX).await.map_err(|error| match error {
            BodyError::TooLarge => ApiError::large(REQUEST_BYTES_MAX),
            BodyError::Interrupted => ApiError::content("the request was interrupted before its end"),
        })?;
        let caller = self.access.authenticate(&parts, &body, Utc::now()).map_err(ApiError::denied)?;
        caller.name().clone_into(&mut note.key);
        let path = address::segments(parts.uri.path())?;
        let segments: Vec<&str> = path.iter().map(String::as_str).collect();
        match (&parts.method, &segments[..]) {
            (&Method::POST, ["2015-03-31", "functions", name, "invocations"]) => {
                let address = Address::of(name, parts.uri.query())?;
                may_invoke(&caller, &address, "Invoke", note)?;
                self.invoke(&address, &parts.headers, body, request_id).await
            }
            (&Method::POST, ["2021-11-15", "functions", name, "response-streaming-invocations"]) => {
                let address = Address::of(name, parts.uri.query())?;
                may_invoke(&caller, &address, "InvokeWithResponseStream", note)?;
                self.stream(&address, &parts.headers, body, request_id).await
            }
            (&Method::GET, rest) => describe_api::answer(self.fleet.registry(), rest, parts.uri.query()),
            _ => Err(ApiError::not_here()),
        }
    }

    async fn invoke(
        &self,
        address: &Address,
        headers: &HeaderMap,
        body: Bytes,
        request_id: &str,
    ) -> Result<Response<Body>, ApiError> {
        let kind = header(headers, "x-amz-invocation-type").unwrap_or("RequestResponse");
        let most = if kind == "Event" { EVENT_BYTES_MAX } else { REQUEST_BYTES_MAX };
        let event = event(headers, body, most, request_id)?;
        match kind {
            "RequestResponse" => {
                let ran = self.run(address, event).await?;
                let tail = header(headers, "x-amz-log-type") == Some("Tail");
                Ok(reply::execution_response(&ran, tail))
            }
            "Event" => self.defer(address, event).await,
            "DryRun" => {
                self.find(address)?;
                Ok(reply::empty(StatusCode::NO_CONTENT))
            }
            other => Err(ApiError::parameter(&format!(
                "invocation type {other:?}: expected RequestResponse, Event or DryRun"
            ))),
        }
    }

    /// In a task of its own, so that the function runs to its end even when the caller disconnects.
    async fn run(&self, address: &Address, event: Event) -> Result<Execution, ApiError> {
        let (fleet, at) = (self.fleet.clone(), address.clone());
        let request_id = event.request_id.clone();
        let event = Event { qualifier: at.is_qualified.then(|| at.qualifier.clone()), ..event };
        let running = tokio::spawn(async move { fleet.invoke(&at.name, &at.qualifier, event, None).await });
        let ran = running.await.map_err(|error| ApiError::service(&error.to_string()))?;
        ran.or_else(|refusal| self.refused(refusal, address, &request_id))
    }

    /// A function that can't start because of its own content has failed, like one that fails while it runs.
    fn refused(&self, refusal: Refusal, address: &Address, request_id: &str) -> Result<Execution, ApiError> {
        match refusal {
            Refusal::Unknown => Err(ApiError::unknown(&address.name, &address.qualifier)),
            Refusal::Busy(ConcurrencyLimit::Function) => {
                Err(ApiError::busy("ReservedFunctionConcurrentInvocationLimitExceeded"))
            }
            Refusal::Busy(ConcurrencyLimit::Host) => Err(ApiError::busy("ConcurrentInvocationLimitExceeded")),
            Refusal::Failed(error) if error.kind == Kind::FixInput => {
                let found = self.find(address)?;
                let failure = Failure::of("Runtime.InvalidEntrypoint", request_id, &error.chain());
                Ok(Execution { outcome: Answer::Error(failure).into(), function_version: found })
            }
            Refusal::Failed(error) => Err(ApiError::service(&error.chain())),
        }
    }

    async fn defer(&self, address: &Address, event: Event) -> Result<Response<Body>, ApiError> {
        self.find(address)?;
        let put = self.queue.put(Invocation {
            request_id: event.request_id,
            function: address.name.clone(),
            qualifier: address.qualifier.clone(),
            payload: event.payload.into(),
            client_context: event.client_context,
            cause: "api".to_owned(),
            depth: 0,
        });
        match put.await.map_err(|error| ApiError::service(&error.chain()))? {
            PutOutcome::Queued => Ok(reply::empty(StatusCode::ACCEPTED)),
            PutOutcome::Full => Err(ApiError::full()),
        }
    }

    fn find(&self, address: &Address) -> Result<Arc<crate::registry::FunctionVersion>, ApiError> {
        let found = self.fleet.find(&address.name, &address.qualifier);
        found
            .map_err(|error| ApiError::service(&error.chain()))?
            .ok_or_else(|| ApiError::unknown(&address.name, &address.qualifier))
    }
}

impl Service for Api {
    const NAME: &'static str = "Invoke API";

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        Api::answer(self, request).await
    }

    fn busy(&self) -> usize {
        self.fleet.busy()
    }
}

fn may_invoke(caller: &Caller, address: &Address, operation: &str, note: &mut RequestNote) -> Result<(), ApiError> {
    operation.clone_into(&mut note.operation);
    note.resource = format!("function:{}", address.name);
    caller.check(Action::Invoke, &note.resource).map_err(ApiError::denied)
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn event(headers: &HeaderMap, body: Bytes, most: usize, request_id: &str) -> Result<Event, ApiError> {
    if body.len() > most {
        return Err(ApiError::large(most));
    }
    let payload = if body.is_empty() { Bytes::from_static(b"{}") } else { body };
    if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(&payload) {
        return Err(ApiError::content(&format!("Could not parse request body into json: {error}")));
    }
    let client_context = headers.get("x-amz-client-context").map(client_context).transpose()?;
    Ok(Event { request_id: request_id.to_owned(), payload, client_context, ..Event::default() })
}

fn client_context(header: &HeaderValue) -> Result<String, ApiError> {
    let refused = || ApiError::content("Client context must be a valid Base64-encoded JSON object.");
    if header.len() > CLIENT_CONTEXT_BYTES_MAX {
        return Err(ApiError::content(&format!("Client context must be at most {CLIENT_CONTEXT_BYTES_MAX} bytes.")));
    }
    let decoded = STANDARD.decode(header.as_bytes()).map_err(|_| refused())?;
    let parsed: serde_json::Value = serde_json::from_slice(&decoded).map_err(|_| refused())?;
    // Printed without line breaks, which a header can't contain.
    if parsed.is_object() { Ok(parsed.to_string()) } else { Err(refused()) }
}
