//! Serves the lake over PostgreSQL's wire protocol, so that any PostgreSQL client can query it.
//!
//! A connection is a [`Session`](sql::Session) of one role; its statements pass the same parser,
//! views and permission checks as all other readers of the lake. Queries run in a runtime of their
//! own, so that a heavy query does not delay the network, and their rows are sent while
//! they run: a slow client slows its query down. Nothing here writes a table, opens a listener or
//! decides when to stop.

mod catalogue;
mod connection;
mod connection_limit;
mod copy;
mod disconnect;
mod encode;
mod execution;
mod memory;
mod messages;
mod parameters;
mod parser;
mod pg_types;
mod prepared;
mod problem;
mod queries;
mod session_commands;
mod startup;
mod values;
mod variables;
mod verifier;
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
use sql::snapshot::with_row_filter;
use sql::system::SystemTables;

use connection::{Connection, StopReason};
use connection_limit::ConnectionLimit;
use memory::Memory;
pub use verifier::Verifier;
use watchdog::RunningQueries;

/// The time that running queries have to finish after the server is told to stop.
const GRACE: Duration = Duration::from_secs(5);

/// Stack of a thread that parses, plans or runs queries. Only the pages that are used take memory.
const STACK_BYTES: usize = 64 << 20;

/// The least number of planning threads, also with fewer cores: one slow plan does not delay the others.
const PLANNING_THREADS_MIN: usize = 8;

/// A role that may connect.
#[derive(Debug, Clone)]
pub struct Login {
    /// The role; clients log in with its name.
    pub role: Role,
    /// Checks the role's password.
    pub verifier: Verifier,
}

/// Limits of the whole server; `None` is no limit.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// How many clients may be logged in at the same time.
    pub connections_max: usize,
    /// Memory of all queries together.
    pub memory_bytes_max: Option<usize>,
    /// Memory of one query.
    pub query_memory_bytes_max: Option<usize>,
    /// Time of one statement; `SET statement_timeout` can only shorten it.
    pub query_time_max: Option<Duration>,
    /// Resident memory of the process: beyond it, the largest query is cancelled.
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

/// The server's TLS.
#[derive(Debug, Clone)]
pub struct Tls {
    /// Certificates and protocol versions.
    pub config: Arc<ServerConfig>,
    /// Whether connections without TLS are refused.
    pub required: bool,
}

/// The configuration of a [`Server`].
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// `None` serves without TLS.
    pub tls: Option<Tls>,
    /// Limits of connections, memory and time.
    pub bounds: Bounds,
    /// The roles that may connect.
    pub logins: Vec<Login>,
    /// The default time zone of a session; UTC if `None`.
    pub timezone: Option<String>,
    /// Named queries that clients read like tables.
    pub views: Arc<Views>,
}

/// Counters of a server since it was created, for its metrics.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    /// Clients that are logged in now.
    pub connections: i64,
    /// Connections that were accepted, with or without a login.
    pub connections_total: u64,
    /// Queries that were started.
    pub queries: u64,
    /// Queries that run now.
    pub queries_running: i64,
    /// Queries that failed, without the cancelled ones.
    pub errors: u64,
    /// Queries that were cancelled or ran out of time.
    pub cancelled: u64,
    /// Rows that queries produced.
    pub rows: u64,
    /// Sum of the run times of all ended queries.
    pub seconds: f64,
    /// Memory that running queries have reserved.
    pub memory_bytes: usize,
}

/// A server of the lake over PostgreSQL's protocol.
pub struct Server {
    shared: Arc<Shared>,
}

/// State that all connections share.
pub(crate) struct Shared {
    pub(crate) lake: Lake,
    pub(crate) system: Arc<dyn SystemTables>,
    pub(crate) bounds: Bounds,
    pub(crate) timezone: String,
    pub(crate) views: Arc<Views>,
    pub(crate) tls: Option<Tls>,
    pub(crate) logins: HashMap<String, (Arc<Role>, Verifier)>,
    pub(crate) mock_secrets: verifier::MockSecrets,
    pub(crate) memory: Arc<Memory>,
    pub(crate) running: RunningQueries,
    pub(crate) connections: Mutex<HashMap<i32, Arc<Connection>>>,
    pub(crate) catalogue: catalogue::Catalogue,
    pub(crate) connection_limit: ConnectionLimit,
    pub(crate) counts: Counts,
    pub(crate) started_at: DateTime<Utc>,
    /// Runs queries.
    queries: Option<Runtime>,
    /// Plans queries. Planning never yields, so it has its own threads: queries and connections do not wait for it.
    planning: Option<Runtime>,
    /// Reads messages, parses statements and executes session commands.
    connections_runtime: Option<Runtime>,
}

/// The counters behind [`Figures`].
#[derive(Default)]
pub(crate) struct Counts {
    connections_total: AtomicU64,
    pub(crate) queries: AtomicU64,
    pub(crate) running: AtomicI64,
    pub(crate) errors: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    pub(crate) rows: AtomicU64,
    /// Run time of ended queries, in microseconds.
    pub(crate) micros: AtomicU64,
}

impl Server {
    /// A server that is ready to serve; it accepts no connection before [`Server::serve`].
    ///
    /// # Errors
    /// If two logins have the same role name, or threads cannot be started.
    pub fn new(lake: Lake, system: Arc<dyn SystemTables>, settings: Settings) -> Result<Server> {
        let mut logins = HashMap::new();
        for Login { role, verifier } in settings.logins {
            let name = role.name.clone();
            if logins.insert(name.clone(), (Arc::new(role), verifier)).is_some() {
                return Err(Error::new(Kind::FixSetup, format!("add role {name:?}: it is declared twice")));
            }
        }
        // Statements and plans are walked recursively, which takes much stack.
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
            mock_secrets: verifier::MockSecrets::new(),
            connections: Mutex::default(),
            catalogue: catalogue::Catalogue::new()?,
            connection_limit: ConnectionLimit::new(settings.bounds.connections_max),
            counts: Counts::default(),
            started_at: Utc::now(),
            queries: Some(runtime("query", cores).context("start the query threads")?),
            planning: Some(runtime("plan", cores.max(PLANNING_THREADS_MIN)).context("start the planning threads")?),
            connections_runtime: Some(runtime("connection", cores).context("start the connection threads")?),
        };
        Ok(Server { shared: Arc::new(shared) })
    }

    /// Checks the row filters of all roles against the tables of the lake; call it before [`Server::serve`].
    ///
    /// # Errors
    /// If a filter names a table that does not exist, or is not a condition on the table's rows: the role would see all
    /// rows of a table of which it is meant to see some.
    pub async fn check(&self) -> Result<()> {
        let Shared { lake, system, views, .. } = self.shared.as_ref();
        let session = Session::new(lake.clone(), Arc::clone(system), None)?.with_views(Arc::clone(views));
        let view = session.snapshot();
        for (role, _) in self.shared.logins.values() {
            for (name, filter) in &role.filters {
                let context = format!("read the filter {filter:?} of role {:?} on {name}", role.name);
                let known = view.names().await?.iter().find(|known| known.to_string() == *name);
                let Some(known) = known else {
                    let (schema, table) = name.split_once('.').unwrap_or_default();
                    let unknown = view.unknown(&TableReference::partial(schema, table)).await?;
                    let context =
                        format!("{context}: a filter needs the exact name of a table, and this table does not exist");
                    return Err(Error::new(Kind::FixSetup, context).because(unknown));
                };
                if let Some(table) = view.table(known).await? {
                    with_row_filter(table, filter).context(&context)?;
                }
            }
        }
        Ok(())
    }

    /// Accepts connections until `stop` is cancelled; then ends idle connections at once, gives running queries five
    /// seconds, and cancels those that remain. It returns when all connections have ended, or a second later.
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
                    let attending = serve_connection(Arc::clone(&self.shared), socket, stop.clone());
                    tasks.spawn_on(attending, self.shared.connections_runtime());
                }
                Err(error) => {
                    // Too many open files, a connection that closed at once: neither ends the server.
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
            connection.terminate(StopReason::Shutdown);
        }
        let _ = tokio::time::timeout(Duration::from_secs(1), tasks.wait()).await;
        Ok(())
    }

    /// The current values of the counters.
    pub fn figures(&self) -> Figures {
        let counts = &self.shared.counts;
        Figures {
            connections: self.shared.connection_limit.open(),
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
    /// The connections whose users are logged in.
    pub(crate) fn all(&self) -> Vec<Arc<Connection>> {
        locked(&self.connections).values().cloned().collect()
    }

    /// The runtime that runs queries.
    pub(crate) fn queries(&self) -> &tokio::runtime::Handle {
        // It is `None` only after `drop` has begun.
        self.queries.as_ref().map(Runtime::handle).expect("the runtime of queries lives as long as the server")
    }
}

impl Shared {
    /// The runtime that plans queries.
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
        // A runtime must not block on the shutdown of another.
        for runtime in
            [self.queries.take(), self.planning.take(), self.connections_runtime.take()].into_iter().flatten()
        {
            runtime.shutdown_background();
        }
    }
}

async fn serve_connection(shared: Arc<Shared>, socket: TcpStream, stop: CancellationToken) {
    shared.counts.connections_total.fetch_add(1, Ordering::Relaxed);
    let acceptor = shared.tls.as_ref().map(|tls| TlsAcceptor::from(Arc::clone(&tls.config)));
    match disconnect::duplicate(socket) {
        Ok((socket, watched)) => {
            let handlers = ConnectionGuard(Arc::new(queries::Handlers::new(Arc::clone(&shared), watched)));
            let ended = handlers.0.ended();
            // A client may send anything: if reading a message panics, only this connection ends.
            let messages = AssertUnwindSafe(messages::serve(socket, acceptor, Arc::clone(&handlers.0))).catch_unwind();
            tokio::select! {
                served = messages => match served {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::debug!(%error, "a connection was interrupted"),
                    Err(_) => tracing::warn!("a connection was closed: reading its message panicked"),
                },
                () = ended.cancelled() => handlers.0.send_shutdown_error(),
                () = idle_after_stop(&stop, &handlers.0) => handlers.0.send_shutdown_error(),
            }
        }
        Err(error) => tracing::warn!(%error, "could not duplicate the socket of a connection"),
    }
}

/// Releases a connection's share of `connections_max` however the connection ends.
struct ConnectionGuard(Arc<queries::Handlers>);

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Completes when the server was told to stop and the connection runs nothing.
async fn idle_after_stop(stop: &CancellationToken, handlers: &queries::Handlers) {
    stop.cancelled().await;
    while handlers.is_busy() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Locks a mutex. A poisoned one is used too: no critical section of this crate leaves its value incomplete.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
