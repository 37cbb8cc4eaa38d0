//! Asks endpoints from the warehouse's own processes: by a socket of the server, where one runs, so that models stay
//! started between jobs and requests are counted; otherwise in the process itself.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use model::{EndpointAnswer, EndpointRequest, Endpoints};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use crate::model_host;
use crate::warehouse::Warehouse;

const VARIANT: &str = "x-variant";
/// What the caller can do about an error, as [`base::Kind`].
const ERROR_KIND: &str = "x-error-kind";

fn socket(warehouse: &Warehouse) -> PathBuf {
    model_host::folder(warehouse).join("host.sock")
}

/// Asks an endpoint.
///
/// # Errors
/// There is no such endpoint in service, or its model does not answer.
pub async fn ask(warehouse: &Warehouse, endpoint: &str, request: &EndpointRequest) -> Result<EndpointAnswer> {
    if let Some(answer) = on_server(warehouse, endpoint, request).await? {
        return Ok(answer);
    }
    let endpoints = model_host::endpoints(warehouse)?;
    Ok(endpoints.ask_alone(endpoint, request.clone()).await?)
}

/// `None` where no server answers.
async fn on_server(warehouse: &Warehouse, endpoint: &str, request: &EndpointRequest) -> Result<Option<EndpointAnswer>> {
    let path = socket(warehouse);
    if !path.exists() {
        return Ok(None);
    }
    let client = reqwest::Client::builder().unix_socket(path).no_proxy().build().context("connect to the server")?;
    let mut sent = client.post(format!("http://host/{endpoint}")).body(request.body.clone());
    for (name, value) in [("content-type", &request.content_type), ("accept", &request.accept)] {
        if let Some(value) = value {
            sent = sent.header(name, value);
        }
    }
    let response = match sent.send().await {
        Ok(response) => response,
        // A server that was killed left its socket.
        Err(error) if error.is_connect() => return Ok(None),
        Err(error) => return Err(base::Error::retry("ask the server's models").because(error).into()),
    };
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (status, variant, kind) = (response.status(), header(VARIANT), header(ERROR_KIND));
    let content_type = header("content-type").unwrap_or_default();
    let body = response.bytes().await.map_err(|error| base::Error::retry("ask the server's models").because(error))?;
    if status.is_success() {
        return Ok(Some(EndpointAnswer { body, content_type, variant: variant.unwrap_or_default() }));
    }
    let kind = match kind.as_deref() {
        Some("retry") => base::Kind::Retry,
        Some("setup") => base::Kind::FixSetup,
        _ => base::Kind::FixInput,
    };
    Err(base::Error::new(kind, String::from_utf8_lossy(&body).into_owned()).into())
}

/// Answers requests of the warehouse's other processes, until `stop`. Only the server's own user can connect.
///
/// # Errors
/// The socket can't be served.
pub async fn serve(warehouse: &Warehouse, endpoints: Endpoints, stop: CancellationToken) -> Result<()> {
    let path = socket(warehouse);
    // An earlier server was killed: the lease of this one says that no other runs.
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).and_then(|listener| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    });
    let listener = match listener {
        Ok(listener) => listener,
        // For example, the path is longer than a socket's may be.
        Err(error) => {
            tracing::warn!(%error, "jobs start models in processes of their own");
            stop.cancelled().await;
            return Ok(());
        }
    };
    let router = Router::new().route("/{endpoint}", post(invoke)).layer(DefaultBodyLimit::disable());
    let router = router.with_state(Arc::new(endpoints));
    let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
    let _ = std::fs::remove_file(&path);
    served.context("answer requests of other processes")
}

async fn invoke(
    State(endpoints): State<Arc<Endpoints>>,
    Path(endpoint): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let request = EndpointRequest { body, content_type: header("content-type"), accept: header("accept") };
    match endpoints.ask(&endpoint, request).await {
        Ok(answer) => ([("content-type", answer.content_type), (VARIANT, answer.variant)], answer.body).into_response(),
        Err(error) => {
            let kind = match error.kind {
                base::Kind::Retry => "retry",
                base::Kind::FixSetup => "setup",
                base::Kind::FixInput | base::Kind::Bug => "input",
            };
            let text = match &error.hint {
                Some(hint) => format!("{}; {hint}", error.chain()),
                None => error.chain(),
            };
            (StatusCode::BAD_GATEWAY, [(ERROR_KIND, kind)], text).into_response()
        }
    }
}
