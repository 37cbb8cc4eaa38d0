//! Gives functions access to the lake, where their `[lake]` allows it: SQL on PostgreSQL's protocol
//! and the lake's files by HTTP, on the loopback of the function's sandbox. Nothing can be written.

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use function::host::{LakeServices, ServiceFn};
use function::registry::FunctionVersion;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use pg::{Bounds, Login, Server, Settings, Verifier};
use sql::Role;
use tokio_util::sync::CancellationToken;

use crate::system::LedgerTables;
use crate::warehouse::Warehouse;

const CONNECTIONS_MAX: usize = 16;
const MEMORY_BYTES_MAX: usize = 2 << 30;
const QUERY_TIME_MAX: Duration = Duration::from_secs(900);

/// The services for functions, and the environment variables with which a function logs in.
pub async fn open(warehouse: &Warehouse) -> Result<(BTreeMap<String, String>, LakeServices)> {
    let lake = warehouse.lake().await?;
    // Only the function's sandbox reaches the listener; the password is there because clients need one.
    let password = uuid::Uuid::new_v4().to_string();
    let environment = BTreeMap::from([
        ("PGPASSWORD".to_owned(), password.clone()),
        ("PGDATABASE".to_owned(), "wattlake".to_owned()),
        ("PGSSLMODE".to_owned(), "disable".to_owned()),
    ]);
    let store = Arc::clone(lake.store());
    let sql = SqlServers {
        lake,
        system: Arc::new(LedgerTables::of(&warehouse.ledger)),
        views: warehouse.config.views(),
        timezone: warehouse.config.serve.timezone.clone(),
        password,
        servers: Mutex::default(),
    };
    let sql: ServiceFn = Arc::new(move |found, listener| log_failure(sql.serve(found, listener), found));
    let objects: ServiceFn = Arc::new(move |found, listener| log_failure(objects(&store, found, listener), found));
    Ok((environment, LakeServices { sql: Some(sql), objects: Some(objects) }))
}

fn log_failure(started: Result<Box<dyn Any + Send + Sync>>, found: &FunctionVersion) -> Box<dyn Any + Send + Sync> {
    started.unwrap_or_else(|error| {
        tracing::error!(function = found.name, error = format!("{error:#}"), "the function has no access to the lake");
        Box::new(())
    })
}

/// The SQL servers of functions, started when a function first needs its own.
struct SqlServers {
    lake: lake::Lake,
    system: Arc<LedgerTables>,
    views: Arc<sql::Views>,
    timezone: String,
    password: String,
    /// By function: a server whose only role is the function.
    servers: Mutex<HashMap<String, Arc<Server>>>,
}

impl SqlServers {
    fn serve(&self, found: &FunctionVersion, listener: TcpListener) -> Result<Box<dyn Any + Send + Sync>> {
        let server = self.server(&found.name)?;
        let (stop, listener) = (CancellationToken::new(), to_tokio(listener)?);
        let guard = stop.clone().drop_guard();
        tokio::spawn(async move { server.serve(listener, stop).await });
        Ok(Box::new(guard))
    }

    fn server(&self, function: &str) -> Result<Arc<Server>> {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = servers.get(function) {
            return Ok(Arc::clone(server));
        }
        let role = Role { name: function.to_owned(), ..Role::default() };
        let bounds = Bounds {
            connections_max: CONNECTIONS_MAX,
            memory_bytes_max: Some(MEMORY_BYTES_MAX),
            query_memory_bytes_max: Some(MEMORY_BYTES_MAX),
            query_time_max: Some(QUERY_TIME_MAX),
            process_bytes_max: None,
        };
        let settings = Settings {
            tls: None,
            bounds,
            logins: vec![Login { role, verifier: Verifier::of_password(&self.password) }],
            timezone: Some(self.timezone.clone()),
            views: Arc::clone(&self.views),
        };
        let system: Arc<dyn sql::SystemTables> = Arc::clone(&self.system) as _;
        let server = Arc::new(Server::new(self.lake.clone(), system, settings)?);
        servers.insert(function.to_owned(), Arc::clone(&server));
        Ok(server)
    }
}

fn to_tokio(listener: TcpListener) -> Result<tokio::net::TcpListener> {
    listener.set_nonblocking(true).context("take over a function's port")?;
    tokio::net::TcpListener::from_std(listener).context("take over a function's port")
}

/// The files of the lake that one function may read.
#[derive(Clone)]
struct Objects {
    store: Arc<dyn ObjectStore>,
    prefixes: Arc<[Path]>,
}

fn objects(
    store: &Arc<dyn ObjectStore>,
    found: &FunctionVersion,
    listener: TcpListener,
) -> Result<Box<dyn Any + Send + Sync>> {
    let prefixes = found.settings.lake.objects.iter().map(|prefix| Path::from(prefix.as_str())).collect();
    let state = Objects { store: Arc::clone(store), prefixes };
    let router = Router::new().route("/{*path}", get(object)).with_state(state);
    let (stop, listener) = (CancellationToken::new(), to_tokio(listener)?);
    let guard = stop.clone().drop_guard();
    tokio::spawn(async move { axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await });
    Ok(Box::new(guard))
}

/// Answers `GET /PATH` with a file of the lake, where it is under one of the function's prefixes.
async fn object(State(objects): State<Objects>, uri: Uri) -> Response {
    let Ok(path) = Path::from_url_path(uri.path().trim_start_matches('/')) else {
        return (StatusCode::BAD_REQUEST, "not a path\n").into_response();
    };
    if !objects.prefixes.iter().any(|prefix| path.prefix_matches(prefix)) {
        let body = "the function may not read this path: [lake] of its function.toml names the prefixes\n";
        return (StatusCode::FORBIDDEN, body).into_response();
    }
    match objects.store.get(&path).await {
        Ok(found) => {
            let length = (header::CONTENT_LENGTH, found.meta.size.to_string());
            ([length], Body::from_stream(found.into_stream())).into_response()
        }
        Err(object_store::Error::NotFound { .. }) => (StatusCode::NOT_FOUND, "no such object\n").into_response(),
        Err(error) => {
            tracing::warn!(%error, "an object could not be read for a function");
            (StatusCode::SERVICE_UNAVAILABLE, "the lake's store does not answer\n").into_response()
        }
    }
}
