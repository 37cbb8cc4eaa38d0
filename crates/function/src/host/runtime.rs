//! The Runtime API, as one instance of a function sees it:
//! <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>.
//!
//! A runtime is starting, waits for an event or is busy with one. A request that does not fit the state is
//! refused with AWS's error types.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};

use super::body::{BodyError, ERROR_TYPE, ResponseBody, read_response};
use super::{Answer, Event, Failure};

/// The largest response, as on AWS Lambda: 6 MiB and 100 bytes.
pub const RESPONSE_BYTES_MAX: usize = (6 << 20) + 100;
/// The largest response that is streamed.
pub(super) const STREAM_BYTES_MAX: usize = 200 << 20;
const ERROR_BYTES_MAX: usize = 256 * 1024;
/// Bodies of an instance's requests that are read at a time, since they are in the server's memory. A runtime sends one.
const BODIES_MAX: usize = 4;

const RESPONSE_MODE: &str = "lambda-runtime-function-response-mode";

/// An event that a runtime has not taken yet.
#[derive(Debug)]
pub(super) struct PendingEvent {
    /// The event itself.
    pub event: Event,
    /// When its timeout is over.
    pub deadline: SystemTime,
    /// The ARN of the version that it was sent to.
    pub arn: Arc<str>,
    /// Takes the answer.
    pub reply: oneshot::Sender<Answer>,
    /// Takes the response piece by piece as it arrives; the answer's own body is then empty.
    pub pieces: Option<mpsc::Sender<Bytes>>,
}

/// The state of a runtime's start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Init {
    /// It has not asked for an event yet.
    Starting,
    /// It has asked for its first event.
    Done,
    /// It reported an error instead.
    Failed(Failure),
}

/// The Runtime API's state for one instance.
#[derive(Debug)]
pub(super) struct Runtime {
    pending: Mutex<Option<PendingEvent>>,
    /// Notified when `pending` is set.
    changed: Notify,
    /// Requests for an event that wait for one.
    waiting: AtomicUsize,
    current: Mutex<Option<CurrentEvent>>,
    /// A permit for each body that may be read.
    bodies: Semaphore,
    init: watch::Sender<Init>,
}

#[derive(Debug)]
struct CurrentEvent {
    id: String,
    reply: oneshot::Sender<Answer>,
    pieces: Option<mpsc::Sender<Bytes>>,
}

type Reply = Response<Full<Bytes>>;

impl Runtime {
    /// The state of a runtime that is starting, and a channel that follows its start.
    pub fn new() -> (Runtime, watch::Receiver<Init>) {
        let (init, started) = watch::channel(Init::Starting);
        let runtime = Runtime {
            pending: Mutex::default(),
            changed: Notify::new(),
            waiting: AtomicUsize::new(0),
            current: Mutex::default(),
            bodies: Semaphore::new(BODIES_MAX),
            init,
        };
        (runtime, started)
    }

    /// Sets the event that answers the runtime's next request for one. The request may be waiting already.
    pub fn hand(&self, event: PendingEvent) {
        *lock(&self.pending) = Some(event);
        self.changed.notify_one();
    }

    /// Takes the event back where no request has taken it. The function has not seen it then.
    pub fn take_back(&self) -> Option<PendingEvent> {
        lock(&self.pending).take()
    }

    /// Whether the runtime has asked for an event and has not got one yet.
    pub fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    /// Answers a request of the runtime.
    pub async fn answer(&self, request: Request<Incoming>) -> Result<Reply, Infallible> {
        let path = request.uri().path().to_owned();
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        Ok(match (request.method(), &parts[..]) {
            (&Method::GET, ["2018-06-01", "runtime", "invocation", "next"]) => self.next().await,
            (&Method::POST, ["2018-06-01", "runtime", "invocation", id, "response"]) => {
                self.response(id, request).await
            }
            (&Method::POST, ["2018-06-01", "runtime", "invocation", id, "error"]) => self.error(id, request).await,
            (&Method::POST, ["2018-06-01", "runtime", "init", "error"]) => self.init_error(request).await,
            // Telemetry is accepted and has no effect. Extensions are not started, so that none may wait for events.
            (_, ["2020-08-15" | "2022-07-01", ..]) => accepted(),
            (_, ["2020-01-01", "extension", ..]) => {
                refused(StatusCode::FORBIDDEN, "Extension.NotSupported", "this host does not run extensions")
            }
            _ => refused(StatusCode::NOT_FOUND, "NotFound", "there is no such path in the Runtime API"),
        })
    }

    async fn next(&self) -> Reply {
        if lock(&self.current).is_some() {
            let what = "the event before it has not been answered yet";
            return refused(StatusCode::FORBIDDEN, "InvalidStateTransition", what);
        }
        self.init.send_if_modified(|init| {
            let first = *init == Init::Starting;
            if first {
                *init = Init::Done;
            }
            first
        });
        let PendingEvent { event, deadline, arn, reply, pieces } = self.next_pending().await;
        let epoch = deadline.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis();
        let trace = format!("Root=1-{:08x}-{:.24}", epoch / 1000, event.request_id.replace('-', ""));
        let mut answer = Response::new(Full::new(event.payload));
        let headers = answer.headers_mut();
        let context = event.client_context.as_deref().map(ascii).unwrap_or_default();
        for (name, value) in [
            ("lambda-runtime-aws-request-id", event.request_id.as_str()),
            ("lambda-runtime-deadline-ms", &epoch.to_string()),
            ("lambda-runtime-invoked-function-arn", &arn),
            ("lambda-runtime-trace-id", &trace),
            ("lambda-runtime-client-context", &context),
            ("content-type", "application/json"),
        ] {
            if let Ok(value) = HeaderValue::from_str(value)
                && !value.is_empty()
            {
                headers.insert(name, value);
            }
        }
        *lock(&self.current) = Some(CurrentEvent { id: event.request_id, reply, pieces });
        answer
    }

    /// Waits for an event.
    async fn next_pending(&self) -> PendingEvent {
        let _waiting = WaitingGuard::on(&self.waiting);
        loop {
            let changed = self.changed.notified();
            if let Some(event) = lock(&self.pending).take() {
                return event;
            }
            changed.await;
        }
    }

    async fn response(&self, id: &str, request: Request<Incoming>) -> Reply {
        let _permit = self.bodies.acquire().await;
        let pieces = match &*lock(&self.current) {
            Some(busy) if busy.id == id => busy.pieces.clone(),
            _ => return unknown(id),
        };
        let streamed = request.headers().get(RESPONSE_MODE).is_some_and(|mode| mode == "streaming");
        let most = if streamed && pieces.is_some() { STREAM_BYTES_MAX } else { RESPONSE_BYTES_MAX };
        let (head, body) = request.into_parts();
        match read_response(body, &head.headers, most, pieces.as_ref()).await {
            Ok(ResponseBody { failure: Some(failure), .. }) => self.finish(id, Answer::Error(failure)),
            Ok(ResponseBody { bytes, .. }) => self.finish(id, Answer::Response(bytes)),
            Err(BodyError::TooLong) => {
                let what = format!("Exceeded maximum allowed payload size ({most} bytes).");
                let says = format!("Response payload size exceeded maximum allowed payload size ({most} bytes).");
                self.finish(id, Answer::Error(Failure::with_message("Function.ResponseSizeTooLarge", &says)));
                return refused(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", &what);
            }
            Err(BodyError::Interrupted) => {
                // The runtime may send it again: the invocation stays open until its deadline.
                return refused(
                    StatusCode::BAD_REQUEST,
                    "TruncatedResponse",
                    "the response was interrupted before its end",
                );
            }
        }
        accepted()
    }

    async fn error(&self, id: &str, request: Request<Incoming>) -> Reply {
        let _permit = self.bodies.acquire().await;
        if !self.is_busy_with(id) {
            return unknown(id);
        }
        match read_failure(request).await {
            Ok(failure) => {
                self.finish(id, Answer::Error(failure));
                accepted()
            }
            Err(reply) => *reply,
        }
    }

    async fn init_error(&self, request: Request<Incoming>) -> Reply {
        let _permit = self.bodies.acquire().await;
        if *self.init.borrow() != Init::Starting {
            let what = "the runtime has started already: report the error of an invocation to its own path";
            return refused(StatusCode::FORBIDDEN, "InvalidStateTransition", what);
        }
        match read_failure(request).await {
            Ok(failure) => {
                self.init.send_replace(Init::Failed(failure));
                accepted()
            }
            Err(reply) => *reply,
        }
    }

    fn is_busy_with(&self, id: &str) -> bool {
        lock(&self.current).as_ref().is_some_and(|busy| busy.id == id)
    }

    /// Ends the current event with its answer. Only the first answer counts.
    fn finish(&self, id: &str, answer: Answer) {
        let busy = lock(&self.current).take_if(|busy| busy.id == id);
        if let Some(busy) = busy {
            let _ = busy.reply.send(answer);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts a waiting request until it is dropped: when it has its event, or when its connection ends.
struct WaitingGuard<'a>(&'a AtomicUsize);

impl WaitingGuard<'_> {
    fn on(count: &AtomicUsize) -> WaitingGuard<'_> {
        count.fetch_add(1, Ordering::AcqRel);
        WaitingGuard(count)
    }
}

impl Drop for WaitingGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Whether a type has AWS's form, `(Runtime|Function)\.[A-Z][a-zA-Z]+`. What some runtimes send instead says less
/// than the type in their body.
fn is_error_type(text: &str) -> bool {
    let name = text.strip_prefix("Runtime.").or_else(|| text.strip_prefix("Function.")).unwrap_or_default();
    name.starts_with(|c: char| c.is_ascii_uppercase()) && name.chars().all(|c| c.is_ascii_alphabetic())
}

/// Reads an error that a runtime reports. Its type comes from the header, else from the body.
async fn read_failure(request: Request<Incoming>) -> Result<Failure, Box<Reply>> {
    let header = request.headers().get(ERROR_TYPE).and_then(|value| value.to_str().ok());
    let header = header.filter(|header| is_error_type(header)).map(str::to_owned);
    let (head, body) = request.into_parts();
    let ResponseBody { bytes: body, .. } =
        read_response(body, &head.headers, ERROR_BYTES_MAX, None).await.map_err(|_| {
            Box::new(refused(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", "an error is at most 256 KB"))
        })?;
    let parsed: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
    let named = parsed.as_ref().and_then(|value| value.get("errorType")).and_then(|value| value.as_str());
    let error_type = header.or_else(|| named.map(str::to_owned)).unwrap_or_else(|| "Runtime.Unknown".to_owned());
    let body =
        if parsed.is_some() { body } else { Failure::with_message(&error_type, &String::from_utf8_lossy(&body)).body };
    Ok(Failure { error_type, body })
}

/// JSON with all characters beyond ASCII escaped: some runtimes can't read a header that contains them.
fn ascii(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    let mut units = [0; 2];
    for c in json.chars() {
        if c.is_ascii() {
            escaped.push(c);
        } else {
            c.encode_utf16(&mut units).iter().for_each(|unit| escaped.push_str(&format!("\\u{unit:04x}")));
        }
    }
    escaped
}

fn accepted() -> Reply {
    json(StatusCode::ACCEPTED, &serde_json::json!({"status": "OK"}))
}

fn unknown(id: &str) -> Reply {
    let what = format!("{id} is not the current invocation");
    refused(StatusCode::BAD_REQUEST, "InvalidRequestID", &what)
}

fn refused(status: StatusCode, error_type: &str, what: &str) -> Reply {
    json(status, &serde_json::json!({"errorMessage": what, "errorType": error_type}))
}

fn json(status: StatusCode, body: &serde_json::Value) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(body.to_string())));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}
