//! The lake on PostgreSQL's protocol: every tool that speaks to PostgreSQL reads the lake as it is.
//!
//! A connection is a [`Session`](sql::Session) of one role; what it asks goes through the same
//! statements, views and checks as everything else that reads. Queries run in a runtime of their
//! own, so that no heavy one keeps others waiting for an answer from the network, and their rows
//! are sent as they come: a slow reader holds its query back. Nothing here writes a table, opens
//! a listener or decides when to stop.

mod acts;
mod catalogue;
mod connection;
mod copy;
mod encode;
mod kinds;
mod memory;
mod messages;
mod parameters;
mod parser;
mod places;
mod prepared;
mod problem;
mod queries;
mod rows;
mod startup;
mod values;
mod variables;
mod verifier;
mod watch;
mod watchdog;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use datafusion::common::TableReference;
use futures::FutureExt;
use lake::Lake;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use sql::error::{Context, Error, Kind, Result};
use sql::marts::Views;
use sql::roles::Role;
use sql::session::Session;
use sql::system::SystemTables;
use sql::view::filtered;

use connection::{Connection, Reason};
use memory::Memory;
use places::Places;
pub use verifier::Verifier;
use watchdog::RunningQueries;

/// What running queries have, once the server is told to stop.
const GRACE: Duration = Duration::from_secs(5);

/// Of a thread that reads statements, plans and runs queries; only what is used of it takes memory.
const STACK_BYTES: usize = 64 << 20;

/// So many plans are made at once at least, also where there are fewer cores: a slow one stops none of the others.
const PLANNING_THREADS_MIN: usize = 8;

/// Who may connect, and with what.
#[derive(Debug, Clone)]
pub struct Login {
    pub role: Role,
    pub verifier: Verifier,
}

/// Bounds that hold for everyone.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub connections_max: usize,
    /// Of all queries together.
    pub memory_bytes_max: Option<usize>,
    pub query_memory_bytes_max: Option<usize>,
    /// Also what `SET statement_timeout` may not go beyond.
    pub query_time_max: Option<Duration>,
    /// Of the whole process: beyond it, the largest query is ended.
    pub process_bytes_max: Option<usize>,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            connections_max: 100,
            memory_bytes_max: None,
            query_memory_bytes_max: None,
            query_time_max: None,
            process_bytes_max: None,
        }
    }
}

/// TLS as the server offers it.
#[derive(Debug, Clone)]
pub struct Tls {
    pub config: Arc<ServerConfig>,
    /// Connections in clear are refused.
    pub required: bool,
}

#[derive(Debug, Clone, Default)]
pub struct Settings {
    pub tls: Option<Tls>,
    pub bounds: Bounds,
    pub logins: Vec<Login>,
    /// The time zone of a session that sets none; UTC by default.
    pub timezone: Option<String>,
    /// Queries that answer under names as tables do.
    pub views: Arc<Views>,
}

/// What has passed since the server was made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    /// Open now.
    pub connections: i64,
    pub connections_total: u64,
    pub queries: u64,
    pub queries_running: i64,
    pub errors: u64,
    pub cancelled: u64,
    pub rows: u64,
    /// Of all queries, first to last row.
    pub seconds: f64,
    pub memory_bytes: usize,
}

pub struct Server {
    shared: Arc<Shared>,
}

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) lake: Lake,
    pub(crate) system: Arc<dyn SystemTables>,
    pub(crate) bounds: Bounds,
    pub(crate) timezone: String,
    pub(crate) views: Arc<Views>,
    pub(crate) tls: Option<Tls>,
    pub(crate) logins: HashMap<String, (Arc<Role>, Verifier)>,
    pub(crate) unknown: verifier::Unknown,
    pub(crate) memory: Arc<Memory>,
    pub(crate) running: RunningQueries,
    pub(crate) connections: Mutex<HashMap<i32, Arc<Connection>>>,
    pub(crate) catalogue: catalogue::Catalogue,
    pub(crate) places: Places,
    pub(crate) counts: Counts,
    pub(crate) started_at: DateTime<Utc>,
    queries: Option<Runtime>,
    /// Makes plans, which yields to nobody until it is done: neither queries nor connections wait for it.
    planning: Option<Runtime>,
    /// Reads messages and statements, and answers what takes no query.
    connections_runtime: Option<Runtime>,
}

#[derive(Default)]
pub(crate) struct Counts {
    connections_total: AtomicU64,
    pub(crate) queries: AtomicU64,
    pub(crate) running: AtomicI64,
    pub(crate) errors: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    pub(crate) rows: AtomicU64,
    pub(crate) micros: AtomicU64,
}

impl Server {
    /// # Errors
    /// Where a role is there twice, or the threads for queries can't be started.
    pub fn new(lake: Lake, system: Arc<dyn SystemTables>, settings: Settings) -> Result<Server> {
        let mut logins = HashMap::new();
        for Login { role, verifier } in settings.logins {
            let name = role.name.clone();
            if logins.insert(name.clone(), (Arc::new(role), verifier)).is_some() {
                return Err(Error::new(Kind::FixSetup, format!("take role {name:?}: it is there twice")));
            }
        }
        // Statements and plans are walked by recursion.
        let runtime = |name: &str, threads: usize| {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(threads).thread_name(name).thread_stack_size(STACK_BYTES).enable_all().build()
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let shared = Shared {
            memory: Arc::new(Memory::new(settings.bounds.memory_bytes_max)),
            running: RunningQueries::default(),
            lake,
            system,
            bounds: settings.bounds,
            timezone: settings.timezone.unwrap_or_else(|| "UTC".to_owned()),
            views: settings.views,
            tls: settings.tls,
            logins,
            unknown: verifier::Unknown::new(),
            connections: Mutex::default(),
            catalogue: catalogue::Catalogue::new()?,
            places: Places::new(settings.bounds.connections_max),
            counts: Counts::default(),
            started_at: Utc::now(),
            queries: Some(runtime("query", cores).context("start the threads of queries")?),
            planning: Some(runtime("plan", cores.max(PLANNING_THREADS_MIN)).context("start the threads of planning")?),
            connections_runtime: Some(runtime("connection", cores).context("start the threads of connections")?),
        };
        Ok(Server { shared: Arc::new(shared) })
    }

    /// Proves the filters of all roles against the tables that are there: call it before serving.
    ///
    /// # Errors
    /// Where a filter is for a table that is not there, or is no condition on its rows: a role that is meant to see some
    /// rows of a table would see all of them.
    pub async fn check(&self) -> Result<()> {
        let Shared { lake, system, views, .. } = self.shared.as_ref();
        let session = Session::new(lake.clone(), Arc::clone(system), None)?.with_views(Arc::clone(views));
        let view = session.view();
        for (role, _) in self.shared.logins.values() {
            for (name, filter) in &role.filters {
                let context = format!("read the filter {filter:?} of role {:?} on {name}", role.name);
                let known = view.names().await?.iter().find(|known| known.to_string() == *name);
                let Some(known) = known else {
                    let (schema, table) = name.split_once('.').unwrap_or_default();
                    let unknown = view.unknown(&TableReference::partial(schema, table)).await?;
                    let context =
                        format!("{context}: a filter names one table as it is written, and this one is not there");
                    return Err(Error::new(Kind::FixSetup, context).because(unknown));
                };
                if let Some(table) = view.table(known).await? {
                    filtered(table, filter).context(&context)?;
                }
            }
        }
        Ok(())
    }

    /// Answers until `stop`; then takes no new connection, and gives queries a few seconds.
    pub async fn serve(&self, listener: TcpListener, stop: CancellationToken) -> Result<()> {
        let tasks = TaskTracker::new();
        if let Some(bytes_max) = self.shared.bounds.process_bytes_max {
            let watching = watchdog::watch(Arc::downgrade(&self.shared), bytes_max);
            self.shared.connections_runtime().spawn(watching);
        }
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, _)) => {
                    let attending = attend(Arc::clone(&self.shared), socket, stop.clone());
                    tasks.spawn_on(attending, self.shared.connections_runtime());
                }
                Err(error) => {
                    // Too many open files, a connection that was gone at once: neither ends the server.
                    tracing::warn!(%error, "could not accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        drop(listener);
        tasks.close();
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline && self.shared.counts.running.load(Ordering::Relaxed) > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for connection in self.shared.all() {
            connection.end(Reason::Shutdown);
        }
        let _ = tokio::time::timeout(Duration::from_secs(1), tasks.wait()).await;
        Ok(())
    }

    pub fn figures(&self) -> Figures {
        let counts = &self.shared.counts;
        Figures {
            connections: self.shared.places.taken(),
            connections_total: counts.connections_total.load(Ordering::Relaxed),
            queries: counts.queries.load(Ordering::Relaxed),
            queries_running: counts.running.load(Ordering::Relaxed),
            errors: counts.errors.load(Ordering::Relaxed),
            cancelled: counts.cancelled.load(Ordering::Relaxed),
            rows: counts.rows.load(Ordering::Relaxed),
            seconds: counts.micros.load(Ordering::Relaxed) as f64 / 1e6,
            memory_bytes: self.shared.memory.used(),
        }
    }
}

impl Shared {
    pub(crate) fn all(&self) -> Vec<Arc<Connection>> {
        locked(&self.connections).values().cloned().collect()
    }

    pub(crate) fn queries(&self) -> &tokio::runtime::Handle {
        // There from the start, and taken only when the last connection is gone.
        self.queries.as_ref().map(Runtime::handle).expect("the runtime of queries lives as long as the server")
    }
}

impl Shared {
    pub(crate) fn planning(&self) -> &tokio::runtime::Handle {
        self.planning.as_ref().map(Runtime::handle).expect("the runtime of planning lives as long as the server")
    }

    fn connections_runtime(&self) -> &tokio::runtime::Handle {
        let runtime = self.connections_runtime.as_ref().map(Runtime::handle);
        runtime.expect("the runtime of connections lives as long as the server")
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // A runtime may not be waited for inside of another.
        for runtime in
            [self.queries.take(), self.planning.take(), self.connections_runtime.take()].into_iter().flatten()
        {
            runtime.shutdown_background();
        }
    }
}

async fn attend(shared: Arc<Shared>, socket: TcpStream, stop: CancellationToken) {
    shared.counts.connections_total.fetch_add(1, Ordering::Relaxed);
    let acceptor = shared.tls.as_ref().map(|tls| TlsAcceptor::from(Arc::clone(&tls.config)));
    match watch::pair(socket) {
        Ok((socket, watched)) => {
            let handlers = ConnectionGuard(Arc::new(queries::Handlers::new(Arc::clone(&shared), watched)));
            let ended = handlers.0.ended();
            // What a client sends may be anything: where reading it panics, this connection ends and no other.
            let messages = AssertUnwindSafe(messages::serve(socket, acceptor, Arc::clone(&handlers.0))).catch_unwind();
            tokio::select! {
                served = messages => match served {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::debug!(%error, "a connection broke off"),
                    Err(_) => tracing::warn!("a connection was ended: its message could not be read"),
                },
                () = ended.cancelled() => handlers.0.say_goodbye(),
                () = idle_at(&stop, &handlers.0) => handlers.0.say_goodbye(),
            }
        }
        Err(error) => tracing::warn!(%error, "could not take a connection"),
    }
}

/// However a connection ends, its place is free again.
struct ConnectionGuard(Arc<queries::Handlers>);

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// When the server stops, who runs nothing goes at once.
async fn idle_at(stop: &CancellationToken, handlers: &queries::Handlers) {
    stop.cancelled().await;
    while handlers.is_busy() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A lock is never held over anything that panics; were it so, its value is still whole.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
