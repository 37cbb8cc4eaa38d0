//! AWS Lambda's Invoke API over HTTP: <https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html>. Also the part of
//! Lambda's API that describes what is deployed, as far as clients need it.
//!
//! It deploys nothing and knows no users: a [`Guard`] decides who may call. [`refuse_web_pages`] is the guard for a
//! host without one of its own.

mod address;
mod describe_api;
mod guard;
mod reply;
mod stream;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use hyper::header::{HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use ledger::{Invocation, PutOutcome};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use address::Address;
use reply::ApiError;

use crate::error::Kind;
use crate::event_queue::{EVENT_BYTES_MAX, EventQueue};
use crate::host::{Answer, ConcurrencyLimit, Event, Execution, Failure, Fleet, Refusal};

pub use guard::{AccessDenied, Guard, is_own_host, refuse_web_pages};
pub use reply::Body;

/// The largest request that waits for its response, as on AWS Lambda: 6 MiB.
pub const REQUEST_BYTES_MAX: usize = 6 << 20;
/// A larger request is read to its end but not kept, up to this size, so that its sender receives the error.
const DRAIN_BYTES_MAX: usize = 64 << 20;
const CLIENT_CONTEXT_BYTES_MAX: usize = 3583;
/// How long a connection may be without a whole head of a request, and between two parts of its body.
const HEAD_TIME_MAX: Duration = Duration::from_secs(20);
const BODY_TIME_MAX: Duration = Duration::from_secs(20);
/// After a stop and the last event, how long requests have to arrive, and responses to be read.
const STOP_WAIT: Duration = Duration::from_secs(10);
const STOP_CHECK: Duration = Duration::from_millis(50);
/// How many connections are served at a time; further ones wait in the listener's queue.
const CONNECTIONS_MAX: usize = 1024;

/// The Invoke API of a host. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    fleet: Fleet,
    queue: EventQueue,
    guard: Guard,
}

impl Api {
    /// An API over the functions of `fleet`. Asynchronous events go to `queue`, which someone has to run.
    pub fn new(fleet: Fleet, queue: EventQueue, guard: Guard) -> Api {
        Api { fleet, queue, guard }
    }

    /// Answers a request, from any HTTP server. Errors become responses in AWS's form.
    pub async fn answer<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: hyper::body::Body<Data = Bytes>,
    {
        let request_id = uuid::Uuid::now_v7().to_string();
        let mut response = self.route(request, &request_id).await.unwrap_or_else(ApiError::into_response);
        reply::set_request_id(&mut response, &request_id);
        response
    }

    async fn route<B>(&self, request: Request<B>, request_id: &str) -> Result<Response<Body>, ApiError>
    where
        B: hyper::body::Body<Data = Bytes>,
    {
        let (parts, body) = request.into_parts();
        let body = read(body).await?;
        (self.guard)(&parts, &body).map_err(ApiError::denied)?;
        let path = address::segments(parts.uri.path())?;
        let segments: Vec<&str> = path.iter().map(String::as_str).collect();
        match (&parts.method, &segments[..]) {
            (&Method::POST, ["2015-03-31", "functions", name, "invocations"]) => {
                self.invoke(&Address::of(name, parts.uri.query())?, &parts.headers, body, request_id).await
            }
            (&Method::POST, ["2021-11-15", "functions", name, "response-streaming-invocations"]) => {
                self.stream(&Address::of(name, parts.uri.query())?, &parts.headers, body, request_id).await
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

/// Serves a listener until `stop`, then waits until the running requests have been answered.
pub async fn serve(api: Api, listener: TcpListener, stop: impl Future<Output = ()>) {
    serve_from(api, None, listener, stop).await;
}

/// As [`serve`], where a connection was accepted before.
pub async fn serve_from(api: Api, mut first: Option<TcpStream>, listener: TcpListener, stop: impl Future<Output = ()>) {
    let fleet = api.fleet.clone();
    let mut stop = std::pin::pin!(stop);
    let mut connections = JoinSet::new();
    let (tell, stopped) = tokio::sync::watch::channel(false);
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = match first.take() {
            Some(stream) => Ok(stream),
            None => tokio::select! {
                () = &mut stop => break,
                accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => {
                    accepted.map(|(stream, _)| stream)
                }
                _ = connections.join_next(), if connections.len() >= CONNECTIONS_MAX => continue,
            },
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "accept a connection of the Invoke API");
                // With too many open files, others have to be closed first.
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let (api, mut stopped) = (api.clone(), stopped.clone());
        connections.spawn(async move {
            let service = service_fn(|request| {
                let api = api.clone();
                async move { Ok::<_, Infallible>(api.answer(request).await) }
            });
            let mut server = hyper::server::conn::http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME_MAX);
            let mut connection = std::pin::pin!(server.serve_connection(TokioIo::new(stream), service));
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = async { drop(stopped.wait_for(|stopped| *stopped).await) } => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection of the Invoke API");
            }
        });
    }
    tell.send_replace(true);
    let mut idle_since = Instant::now();
    while !connections.is_empty() {
        let _ = tokio::time::timeout(STOP_CHECK, connections.join_next()).await;
        if fleet.busy() > 0 {
            idle_since = Instant::now();
        } else if idle_since.elapsed() >= STOP_WAIT {
            // What is left has not sent its request, or does not read its response.
            connections.shutdown().await;
        }
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Reads a request's body, at most [`REQUEST_BYTES_MAX`].
async fn read<B>(body: B) -> Result<Bytes, ApiError>
where
    B: hyper::body::Body<Data = Bytes>,
{
    let mut body = std::pin::pin!(body);
    let expected = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX).min(REQUEST_BYTES_MAX);
    let mut read = BodyBuffer::default();
    loop {
        let late = |_| ApiError::content("the request was interrupted before its end");
        let frame = tokio::time::timeout(BODY_TIME_MAX, body.frame()).await.map_err(late)?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|_| ApiError::content("the request was interrupted before its end"))?;
        if let Ok(data) = frame.into_data() {
            read.add(data, expected);
            if read.bytes > DRAIN_BYTES_MAX {
                break;
            }
        }
    }
    if read.bytes > REQUEST_BYTES_MAX { Err(ApiError::large(REQUEST_BYTES_MAX)) } else { Ok(read.finish()) }
}

/// Collects a body. Most bodies arrive in one piece, which is not copied.
#[derive(Default)]
struct BodyBuffer {
    bytes: usize,
    first: Bytes,
    all: BytesMut,
}

impl BodyBuffer {
    fn add(&mut self, data: Bytes, expected: usize) {
        self.bytes += data.len();
        if self.bytes > REQUEST_BYTES_MAX {
            return;
        }
        if self.first.is_empty() && self.all.is_empty() {
            self.first = data;
            return;
        }
        if self.all.is_empty() {
            self.all.reserve(expected.max(self.bytes));
            self.all.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.all.extend_from_slice(&data);
    }

    fn finish(self) -> Bytes {
        if self.all.is_empty() { self.first } else { self.all.freeze() }
    }
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
