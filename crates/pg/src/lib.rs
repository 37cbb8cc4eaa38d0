//! Serves the lake over PostgreSQL's wire protocol, so that any PostgreSQL client can query it.
//!
//! A connection is a [`Session`](sql::Session) of one role; its statements pass the same parser,
//! views and permission checks as all other readers of the lake. Queries run in a runtime of their
//! own, so that a heavy query does not delay the network, and their rows are sent while
//! they run: a slow client slows its query down. Nothing here writes a table, opens a listener or
//! decides when to stop.

mod binding;
mod catalogue;
mod connection;
mod connection_limit;
mod copy;
mod disconnect;
mod encode;
mod execution;
mod lock;
mod memory;
mod messages;
mod parameters;
mod parser;
mod pg_types;
mod prepared;
mod problem;
mod queries;
mod resources;
mod session_commands;
mod settings;
mod shared;
mod startup;
mod threads;
mod values;
mod variables;
mod verifier;
mod watchdog;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use datafusion::common::TableReference;
use futures::FutureExt;
use lake::Lake;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use sql::error::{Context, Error, Kind, Result};
use sql::session::Session;
use sql::snapshot::with_row_filter;
use sql::system::SystemTables;

use connection::StopReason;
pub use settings::{Bounds, Login, Settings, Tls};
use shared::Shared;
pub use verifier::Verifier;

/// The time that running queries have to finish after the server is told to stop.
const GRACE: Duration = Duration::from_secs(5);

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

impl Server {
    /// A server that is ready to serve; it accepts no connection before [`Server::serve`].
    ///
    /// # Errors
    /// If two logins have the same role name, or threads cannot be started.
    pub fn new(lake: Lake, system: Arc<dyn SystemTables>, settings: Settings) -> Result<Server> {
        Ok(Server { shared: Arc::new(Shared::new(lake, system, settings)?) })
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
        let resources = &self.shared.resources;
        if let Some(bytes_max) = resources.bounds.process_bytes_max {
            let watching = watchdog::watch(Arc::downgrade(&resources.running), bytes_max);
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
        while Instant::now() < deadline && resources.counts.running.load(Ordering::Relaxed) > 0 {
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
        let resources = &self.shared.resources;
        let counts = &resources.counts;
        Figures {
            connections: self.shared.connection_limit.open(),
            connections_total: self.shared.connections_total.load(Ordering::Relaxed),
            queries: counts.queries.load(Ordering::Relaxed),
            queries_running: counts.running.load(Ordering::Relaxed),
            errors: counts.errors.load(Ordering::Relaxed),
            cancelled: counts.cancelled.load(Ordering::Relaxed),
            rows: counts.rows.load(Ordering::Relaxed),
            seconds: counts.micros.load(Ordering::Relaxed) as f64 / 1e6,
            memory_bytes: resources.memory.used(),
        }
    }
}

async fn serve_connection(shared: Arc<Shared>, socket: TcpStream, stop: CancellationToken) {
    shared.connections_total.fetch_add(1, Ordering::Relaxed);
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

#[cfg(test)]
mod tests;
