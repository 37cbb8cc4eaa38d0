//! The server: jobs by their triggers, SQL on PostgreSQL's protocol, health and state by HTTP. One
//! for a warehouse, until it is told to stop. It never runs a job in its own process.

mod http;
mod memory;
mod metrics;
mod tls;

use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use function::invoke::Api;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use wire::{Bounds, Login, Server, Settings, Verifier};

use crate::config;
use crate::host::Host;
use crate::scheduler::Scheduler;
use crate::system::LedgerTables;
use crate::warehouse::Warehouse;

/// What one server at a time has of a warehouse.
pub const HELD: &str = "serve";

/// What all parts of the server see.
pub struct Served {
    pub warehouse: Warehouse,
    pub lake: lake::Lake,
    pub sql: Option<Server>,
    pub since: Instant,
}

/// Serves until SIGTERM or SIGINT.
pub async fn run(warehouse: Warehouse) -> Result<()> {
    let Some(_alone) = warehouse.ledger.hold(HELD)? else {
        bail!("another `wattlake serve` is running on this warehouse");
    };
    if let Some(unset) = &warehouse.config.serve.unset {
        return Err(unset.clone()).context("read [serve] of wattlake.toml");
    }
    for (part, unset) in warehouse.config.unset() {
        tracing::warn!("{part} can't be used, and all else goes on: {unset}");
    }
    let lake = warehouse.lake().await?;
    let serve = warehouse.config.serve.clone();
    // Who connects to an address may also send a signal.
    let stop = stopped_by_signals()?;
    // All that may be taken by others comes before anything runs.
    let sql_at = bound(serve.sql, "sql").await?;
    let http_at = bound(serve.http, "http").await?;
    let functions_at = bound(serve.functions.filter(|_| !warehouse.config.functions.is_empty()), "functions").await?;
    let sql = match serve.sql {
        Some(_) => Some(sql_server(&warehouse, &lake).await?),
        None => None,
    };
    let served = Arc::new(Served { warehouse, lake, sql, since: Instant::now() });
    let scheduler = Scheduler::new(&served.warehouse.config, &served.warehouse.ledger)?;
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(scheduler.run(stop.clone()));
    if let Some((listener, at)) = sql_at {
        tracing::info!(address = %at, "SQL is served: psql -h {} -p {} -U ROLE wattlake", at.ip(), at.port());
        let (served, stop) = (Arc::clone(&served), stop.clone());
        tasks.spawn(async move {
            match &served.sql {
                Some(server) => server.serve(listener, stop).await.context("serve SQL"),
                None => Ok(()),
            }
        });
    }
    if let Some((listener, at)) = http_at {
        tracing::info!(address = %at, "health, metrics and state are served: http://{at}/");
        tasks.spawn(http::serve(Arc::clone(&served), listener, stop.clone()));
    }
    if let Some((listener, at)) = functions_at {
        let host = Host::open(&served.warehouse).await.context("make functions ready")?;
        tracing::info!(address = %at, "functions are invoked: aws lambda invoke --endpoint-url http://{at}");
        let stop = stop.clone();
        tasks.spawn(functions(host, listener, stop));
    }
    notify("READY=1");
    tracing::info!(warehouse = %served.warehouse.config.root.display(), "ready");
    stop.cancelled().await;
    notify("STOPPING=1");
    tracing::info!("stopping: queries have a few seconds");
    while let Some(ended) = tasks.join_next().await {
        ended.context("end a part of the server")??;
    }
    tracing::info!("stopped");
    Ok(())
}

/// The Invoke API, and the queue of asynchronous events.
async fn functions(host: Host, listener: TcpListener, stop: CancellationToken) -> Result<()> {
    let deferred = host.deferred();
    let api = Api::new(host.fleet.clone(), deferred.clone(), function::invoke::no_web_pages());
    let http = function::invoke::serve(api, listener, stop.clone().cancelled_owned());
    let queue = deferred.run(stop.cancelled_owned());
    let ((), queue) = tokio::join!(http, queue);
    queue.context("run the queue of events")
}

async fn sql_server(warehouse: &Warehouse, lake: &lake::Lake) -> Result<Server> {
    let config = &warehouse.config;
    let limit = memory::limit();
    let memory = config.serve.memory_bytes_max.or(limit.map(|bytes| bytes / 2));
    // A role without its password is refused like one that is not there.
    let logins = config.roles.iter().filter_map(|(name, role)| login(name, role)).collect();
    let settings = Settings {
        tls: config.serve.tls.as_ref().map(tls::load).transpose()?,
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
        tracing::warn!("nobody may connect: there is no [roles.NAME] in wattlake.toml");
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
        },
        verifier: Verifier::parse(password).unwrap_or_else(|| Verifier::of_password(password)),
    })
}

async fn bound(address: Option<SocketAddr>, key: &str) -> Result<Option<(TcpListener, SocketAddr)>> {
    let Some(address) = address else { return Ok(None) };
    let listener = TcpListener::bind(address).await;
    let listener = listener.with_context(|| format!("listen on {address}: choose another with serve.{key}"))?;
    let at = listener.local_addr()?;
    Ok(Some((listener, at)))
}

fn stopped_by_signals() -> Result<CancellationToken> {
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

/// systemd's Type=notify; nothing without it.
fn notify(state: &str) {
    let Ok(path) = std::env::var("NOTIFY_SOCKET") else { return };
    let sent = UnixDatagram::unbound().and_then(|socket| socket.send_to(state.as_bytes(), Path::new(&path)));
    if let Err(error) = sent {
        tracing::warn!(%error, "systemd was not told: {state}");
    }
}
