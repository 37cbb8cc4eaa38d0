//! The server: it starts jobs by their triggers, and serves SQL on PostgreSQL's protocol, health and
//! state by HTTP, and functions. A warehouse has one server at a time. It never runs a job in its
//! own process.

mod api_settings;
mod functions;
mod http;
mod memory;
mod metric_families;
mod metrics;
mod models;
mod request_records;
mod service_metrics;
mod tls;

use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use jobs::function_host::SharedHost;
use jobs::scheduler::Scheduler;
use jobs::system::LedgerTables;
pub use jobs::warehouse::SERVER_LOCK;
use jobs::warehouse::Warehouse;
use model::Endpoints;
use pg::{Bounds, Login, Server, Settings, Verifier};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use api_settings::ApiSettings;

/// The error of a second server.
const SERVED: &str = "another `wattlake serve` is running on this warehouse";

/// What all parts of the server share.
pub struct ServerState {
    pub warehouse: Arc<Warehouse>,
    pub lake: lake::Lake,
    /// The SQL server, where `serve.sql` is set.
    pub sql: Option<Server>,
    /// The endpoints of models.
    pub endpoints: Endpoints,
    /// The host of functions.
    pub functions: SharedHost,
    /// When the server started.
    pub since: Instant,
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// Another server runs on the warehouse, an address is in use, or a setting of `[serve]` or `[roles]`
/// can't be used.
pub async fn run(warehouse: Warehouse) -> Result<()> {
    let Some(_lock) = warehouse.ledger.take_lease(SERVER_LOCK)? else {
        return Err(base::Error::retry(SERVED).hint("stop it first").into());
    };
    check_variables(&warehouse)?;
    raise_open_files();
    let lake = warehouse.lake().await?;
    check_store(&lake).await?;
    let serve = warehouse.config.serve.clone();
    // Before the listeners: whoever can connect can expect that a signal stops the server.
    let stop = stop_on_signals()?;
    // Addresses may be in use: all are bound before anything runs.
    let listeners = Listeners::bind(&warehouse).await?;
    let tls = serve.tls.as_ref().map(tls::load).transpose()?;
    let apis = ApiSettings::new(&serve, tls.clone())?;
    let sql = match serve.sql {
        Some(_) => Some(sql_server(&warehouse, &lake, tls).await?),
        None => None,
    };
    let endpoints = models::endpoints(&warehouse)?;
    let warehouse = Arc::new(warehouse);
    let functions = SharedHost::new(Arc::clone(&warehouse));
    let state = Arc::new(ServerState { warehouse, lake, sql, endpoints, functions, since: Instant::now() });
    let host = state.functions.clone();
    let scheduler = Scheduler::new(&state.warehouse)?;
    let mut tasks = tokio::task::JoinSet::new();
    // Runs may use the host of functions as long as the scheduler waits for them.
    let runs_ended = CancellationToken::new();
    let grace_over = CancellationToken::new();
    tasks.spawn(host.clone().serve(runs_ended.clone(), grace_over.clone()));
    tasks.spawn(end_after(stop.clone(), serve.shutdown_grace, at_rest(runs_ended.clone(), host.clone()), grace_over));
    let (scheduler, ended) = (scheduler.run(stop.clone()), runs_ended.drop_guard());
    tasks.spawn(async move {
        let result = scheduler.await;
        drop(ended);
        result
    });
    if let Some((listener, at)) = listeners.sql {
        tasks.spawn(serve_sql(Arc::clone(&state), listener, at, stop.clone()));
    }
    if let Some((listener, at)) = listeners.http {
        tasks.spawn(http::serve(Arc::clone(&state), listener, at, stop.clone()));
    }
    if !state.warehouse.config.functions.is_empty() {
        host.get().await?;
    }
    // Until the last request is answered.
    let requests_ended = CancellationToken::new();
    let recording = request_records::record(apis.clone(), Arc::clone(&state.warehouse), requests_ended.clone());
    let recording = tokio::spawn(recording);
    let (models, warehouse) = (state.endpoints.clone(), Arc::clone(&state.warehouse));
    let models = models::serve(listeners.models, warehouse, models, apis.clone(), stop.clone());
    tasks.spawn(within_grace("endpoints", stop.clone(), serve.shutdown_grace, models));
    let functions = functions::serve(listeners.functions, host, apis, Arc::clone(&state.warehouse), stop.clone());
    tasks.spawn(within_grace("functions", stop.clone(), serve.shutdown_grace, functions));
    let socket = state.warehouse.environment.variable("NOTIFY_SOCKET");
    notify(socket.as_deref(), "READY=1");
    tracing::info!(warehouse = %state.warehouse.config.root.display(), "ready");
    stop.cancelled().await;
    notify(socket.as_deref(), "STOPPING=1");
    tracing::info!("stopping: queries have a few seconds");
    while let Some(ended) = tasks.join_next().await {
        ended.context("end a part of the server")??;
    }
    requests_ended.cancel();
    recording.await.context("record the last requests")?;
    tracing::info!("stopped");
    Ok(())
}

async fn serve_sql(
    state: Arc<ServerState>,
    listener: TcpListener,
    at: SocketAddr,
    stop: CancellationToken,
) -> Result<()> {
    tracing::info!(address = %at, "SQL is served: psql -h {} -p {} -U ROLE wattlake", at.ip(), at.port());
    match &state.sql {
        Some(server) => server.serve(listener, stop).await.context("serve SQL"),
        None => Ok(()),
    }
}

/// Refuses variables of `[serve]` that are not set, and names the parts that can't be used without theirs.
fn check_variables(warehouse: &Warehouse) -> Result<()> {
    if let Some(unset) = &warehouse.config.serve.unset {
        return Err(unset.clone()).context("read [serve] of wattlake.toml");
    }
    for (part, unset) in warehouse.config.unset() {
        tracing::warn!("{part} can't be used and is left out: {unset}");
    }
    Ok(())
}

/// A listener with its address, where there is one.
type BoundListener = Option<(TcpListener, SocketAddr)>;

/// All listeners of a server.
struct Listeners {
    sql: BoundListener,
    http: BoundListener,
    functions: BoundListener,
    models: BoundListener,
}

impl Listeners {
    async fn bind(warehouse: &Warehouse) -> Result<Listeners> {
        let serve = &warehouse.config.serve;
        Ok(Listeners {
            sql: listen(serve.sql, "sql").await?,
            http: listen(serve.http, "http").await?,
            functions: functions::bind(warehouse).await?,
            models: models::bind(warehouse).await?,
        })
    }
}

/// Ends `part` when the grace after a stop is over: an event that is running then is queued again at the next start.
async fn within_grace(
    name: &str,
    stop: CancellationToken,
    grace: Duration,
    part: impl Future<Output = Result<()>>,
) -> Result<()> {
    let over = async {
        stop.cancelled().await;
        tokio::time::sleep(grace).await;
    };
    let ended = tokio::select! {
        ended = part => ended,
        () = over => Ok(()),
    };
    // Its error is returned when the server stops, which may be in months.
    ended.inspect_err(|error| tracing::error!("{name} are not served any more: {error:#}"))
}

/// Allows this process as many open files as the system lets it have: each instance of a function needs several.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    if now.current != now.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum })
    {
        tracing::warn!(%error, "raise the number of open files");
    }
}

/// Cancels `end` once `stop` was cancelled and the grace is over, or nothing runs any more.
async fn end_after(
    stop: CancellationToken,
    grace: Duration,
    at_rest: impl Future<Output = ()>,
    end: CancellationToken,
) -> Result<()> {
    stop.cancelled().await;
    let _ = tokio::time::timeout(grace, at_rest).await;
    end.cancel();
    Ok(())
}

/// Waits until the server's own runs have ended, which may still invoke functions, and then all events.
async fn at_rest(runs_ended: CancellationToken, host: SharedHost) {
    runs_ended.cancelled().await;
    while host.is_busy() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Refuses a lake that commits can't rely on. One that does not answer may do so later; its health says so meanwhile.
async fn check_store(lake: &lake::Lake) -> Result<()> {
    match lake.check_store().await {
        Err(error) if error.kind == base::Kind::Retry => tracing::warn!("{}", error.chain()),
        checked => checked?,
    }
    Ok(())
}

async fn sql_server(warehouse: &Warehouse, lake: &lake::Lake, tls: Option<Arc<ServerConfig>>) -> Result<Server> {
    let config = &warehouse.config;
    let required = config.serve.tls.as_ref().is_some_and(|tls| tls.required);
    let limit = memory::limit();
    let memory = config.serve.memory_bytes_max.or(limit.map(|bytes| bytes / 2));
    // A role whose password is not set is refused like a role that does not exist.
    let logins = config.roles.iter().filter_map(|(name, role)| login(name, role)).collect();
    let settings = Settings {
        tls: tls.map(|config| pg::Tls { config, required }),
        bounds: Bounds {
            connections_max: config.serve.connections_max,
            memory_bytes_max: memory,
            query_memory_bytes_max: config.serve.query_memory_bytes_max.or(memory.map(|bytes| bytes / 2)),
            query_time_max: Some(config.serve.query_time_max),
            process_bytes_max: limit.map(|bytes| bytes / 10 * 9),
        },
        logins,
        timezone: Some(config.serve.timezone.clone()),
        views: config.views(),
    };
    let system = LedgerTables::of(&warehouse.ledger).with_marts(config.clone(), lake.clone());
    let server = Server::new(lake.clone(), Arc::new(system), settings)?;
    server.check().await.context("check [roles] of wattlake.toml")?;
    if config.roles.is_empty() {
        tracing::warn!("nobody can connect: wattlake.toml has no [roles.NAME]");
    }
    Ok(server)
}

fn login(name: &str, role: &config::Role) -> Option<Login> {
    let password = role.password.as_ref().ok()?.reveal();
    Some(Login {
        role: sql::Role {
            name: name.to_owned(),
            tables: role.tables.clone(),
            filters: role.filters.clone(),
            system: role.system,
            ..sql::Role::default()
        },
        verifier: Verifier::parse(password).unwrap_or_else(|| Verifier::of_password(password)),
    })
}

/// Binds an address, where there is one. `key` is its key of `[serve]`.
async fn listen(address: Option<SocketAddr>, key: &str) -> Result<BoundListener> {
    let Some(address) = address else { return Ok(None) };
    let listener = TcpListener::bind(address).await;
    let listener = listener.with_context(|| format!("listen on {address}: choose another address with serve.{key}"))?;
    let at = listener.local_addr()?;
    Ok(Some((listener, at)))
}

/// A token that SIGTERM or SIGINT cancels.
fn stop_on_signals() -> Result<CancellationToken> {
    let stop = CancellationToken::new();
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let (mut signals, stop) = (signal(kind).context("listen to signals")?, stop.clone());
        tokio::spawn(async move {
            signals.recv().await;
            stop.cancel();
        });
    }
    Ok(stop)
}

/// Notifies systemd by its socket, for units with `Type=notify`. Does nothing elsewhere.
fn notify(socket: Option<&str>, state: &str) {
    let Some(path) = socket else { return };
    let sent = UnixDatagram::unbound().and_then(|socket| socket.send_to(state.as_bytes(), Path::new(path)));
    if let Err(error) = sent {
        tracing::warn!(%error, "systemd could not be notified: {state}");
    }
}
