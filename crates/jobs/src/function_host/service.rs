//! The server's host, and the socket on which it runs the events of the warehouse's other processes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::extract::{DefaultBodyLimit, State};
use axum::routing::post;
use axum::{Json, Router};
use function::host::FunctionFigures;
use tokio::net::UnixListener;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use super::message::{PATH, Reply, Request, VERSION};
use super::{Host, socket};
use crate::warehouse::Warehouse;

/// The host of a server, opened when an event first needs it.
#[derive(Clone)]
pub struct SharedHost {
    warehouse: Arc<Warehouse>,
    host: Arc<OnceCell<Host>>,
}

impl SharedHost {
    /// A host that is not open yet.
    pub fn new(warehouse: Arc<Warehouse>) -> SharedHost {
        SharedHost { warehouse, host: Arc::default() }
    }

    /// The open host.
    pub async fn get(&self) -> Result<&Host> {
        self.host.get_or_try_init(|| Host::open_for_server(&self.warehouse)).await.context("open the host of functions")
    }

    /// Whether an event runs.
    pub fn is_busy(&self) -> bool {
        self.host.get().is_some_and(|host| host.fleet.busy() > 0)
    }

    /// What was counted of each function, where the host is open.
    pub fn figures(&self) -> Vec<FunctionFigures> {
        self.host.get().map(|host| host.fleet.figures()).unwrap_or_default()
    }

    /// Runs events of other processes. Only the server's own user can connect. An event whose process ends is stopped.
    /// From `stop` on no event is accepted any more; those that run may go on until `end`.
    pub async fn serve(self, stop: CancellationToken, end: CancellationToken) -> Result<()> {
        let path = socket(&self.warehouse);
        let listener = match listen(&path) {
            Ok(listener) => listener,
            // For example, the path is longer than a socket's may be.
            Err(error) => {
                tracing::warn!("jobs run their functions in processes of their own: {error:#}");
                stop.cancelled().await;
                return Ok(());
            }
        };
        let router = Router::new().route(PATH, post(run)).layer(DefaultBodyLimit::disable()).with_state(self);
        let serving = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
        let served = tokio::select! {
            served = serving => served.context("run events of other processes"),
            () = end.cancelled() => Ok(()),
        };
        let _ = fs::remove_file(&path);
        served
    }
}

fn listen(path: &Path) -> Result<UnixListener> {
    let during = || format!("listen on {}", path.display());
    fs::create_dir_all(path.parent().unwrap_or(path)).with_context(during)?;
    // An earlier server was killed: the lease of this one says that no other runs.
    let _ = fs::remove_file(path);
    let listener = UnixListener::bind(path).with_context(during)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).with_context(during)?;
    Ok(listener)
}

/// The connection's end drops this future, and with it the instance.
async fn run(State(shared): State<SharedHost>, Json(request): Json<Request>) -> Json<Reply> {
    if request.version != VERSION {
        return Json(Reply::OtherVersion(VERSION.to_owned()));
    }
    let host = match shared.get().await {
        Ok(host) => host,
        Err(error) => {
            let error = base::Error::setup(base::chain(error.as_ref()));
            return Json(Reply::from(Err(function::host::Refusal::Failed(error))));
        }
    };
    let (name, qualifier) = (request.function.clone(), request.qualifier.clone());
    Json(Reply::from(host.fleet.invoke(&name, &qualifier, request.into_event(), None).await))
}
