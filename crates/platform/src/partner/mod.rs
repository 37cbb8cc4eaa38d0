//! A partner's HTTP APIs, served on this machine: daily flows of rivers and the weather of their catchments, in the
//! shapes of public French and European services, and any other answers that a test asks for.

mod catchment;
mod shapes;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use base::{ErrorContext, Kind, Result};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use catchment::{Catchment, DayRecord};
pub use shapes::{HydroPartner, Instant};

/// A request that was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartnerRequest {
    /// `GET`, `POST`.
    pub method: String,
    /// The path, such as `/v2/observations`.
    pub path: String,
    /// The parameters of the query, decoded, in their order.
    pub query: Vec<(String, String)>,
    /// The headers, with names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl PartnerRequest {
    /// The value of a parameter of the query.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartnerAnswer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl PartnerAnswer {
    /// A body with status 200.
    pub fn ok(body: impl Into<String>) -> PartnerAnswer {
        PartnerAnswer { status: 200, headers: Vec::new(), body: body.into() }
    }

    /// A status without a body.
    pub fn status(status: u16) -> PartnerAnswer {
        PartnerAnswer { status, headers: Vec::new(), body: String::new() }
    }

    /// The answer with a further header.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> PartnerAnswer {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

/// What answers requests.
pub type Responder = Arc<dyn Fn(&PartnerRequest) -> PartnerAnswer + Send + Sync>;

/// A server on the loopback interface, which ends when it is dropped.
pub struct Partner {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    responder: Mutex<Responder>,
    requests: Mutex<Vec<PartnerRequest>>,
}

impl Partner {
    /// Starts a server on a port, or on any free one where it is 0.
    ///
    /// # Errors
    /// The port can't be listened on.
    pub fn start(
        port: u16,
        responder: impl Fn(&PartnerRequest) -> PartnerAnswer + Send + Sync + 'static,
    ) -> Result<Partner> {
        let doing = "start a partner's server";
        let bound = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port));
        let listener = bound.during(Kind::FixSetup, format!("listen on port {port} of this machine"))?;
        let address = listener.local_addr().during(Kind::FixSetup, doing)?;
        listener.set_nonblocking(true).during(Kind::FixSetup, doing)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.during(Kind::FixSetup, doing)?;
        let shared = Arc::new(Shared { responder: Mutex::new(Arc::new(responder)), requests: Mutex::default() });
        let (stop, router) = (CancellationToken::new(), Router::new().fallback(answer).with_state(Arc::clone(&shared)));
        let stopped = stop.clone();
        // A thread of its own, so that it can be started within another runtime and without one.
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                let Ok(listener) = TcpListener::from_std(listener) else { return };
                // Without waiting for connections that are kept open.
                tokio::select! {
                    served = axum::serve(listener, router) => drop(served),
                    () = stopped.cancelled() => {}
                }
            });
        });
        Ok(Partner { address, shared, stop, thread: Some(thread) })
    }

    /// The beginning of its URLs: `http://127.0.0.1:8080`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers by another function from now on.
    pub fn answer_by(&self, responder: impl Fn(&PartnerRequest) -> PartnerAnswer + Send + Sync + 'static) {
        *self.shared.responder.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(responder);
    }

    /// The requests since the last call.
    pub fn take_requests(&self) -> Vec<PartnerRequest> {
        std::mem::take(&mut *self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Partner {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let query = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let text = |value: &axum::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let request = PartnerRequest {
        method: method.to_string(),
        path: uri.path().to_owned(),
        query: query.map(|(name, value)| (name.into_owned(), value.into_owned())).collect(),
        headers: headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect(),
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    let responder = Arc::clone(&shared.responder.lock().unwrap_or_else(PoisonError::into_inner));
    let answer = responder(&request);
    shared.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, answer.body).into_response();
    response.headers_mut().remove("content-type");
    for (name, value) in answer.headers {
        if let (Ok(name), Ok(value)) = (axum::http::HeaderName::try_from(name), value.parse()) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
