//! One connection: its role, session, variables, transaction block, cursors and running statement.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use chrono::{DateTime, Utc};
use datafusion::arrow::datatypes::SchemaRef;
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::startup::SecretKey;
use tokio_util::sync::CancellationToken;

use super::encode::Cursor;
use super::lock::locked;
use super::problem::{self, CANCELLED, SHUTDOWN};
use super::resources::QueryResources;
use super::variables::{APPLICATION_NAME, TIME_ZONE, Variables};
use sql::roles::Role;
use sql::session::Session;
use sql::snapshot::LakeSnapshot;

/// Why a query or a connection was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopReason {
    /// A cancel request, or `pg_cancel_backend`.
    User = 1,
    /// The statement's time limit.
    Timeout = 2,
    /// The server stops.
    Shutdown = 3,
    /// `pg_terminate_backend`.
    Terminated = 4,
}

/// A client that has logged in.
pub(crate) struct Connection {
    /// Identifies the connection in cancel requests and `pg_stat_activity`; it is no process's id.
    pub(crate) pid: i32,
    /// What a cancel request must know besides `pid`.
    pub(crate) secret: SecretKey,
    pub(crate) role: Arc<Role>,
    pub(crate) session: Session,
    /// The client's address.
    pub(crate) client: SocketAddr,
    pub(crate) connected_at: DateTime<Utc>,
    pub(crate) variables: Arc<Mutex<Variables>>,
    /// The open transaction block.
    block: Mutex<Option<Block>>,
    /// The open cursors by name.
    pub(crate) cursors: Mutex<HashMap<String, NamedCursor>>,
    query: Mutex<CurrentQuery>,
    reason: AtomicU8,
    /// Counts the client's Sync messages; the messages between two of them see one state of the lake.
    pub(crate) sync_count: AtomicU64,
    /// Cancelled to close the connection.
    pub(crate) ended: CancellationToken,
    pub(crate) resources: Arc<QueryResources>,
}

/// Holds the connection once its user has logged in.
pub(crate) type ConnectionCell = Arc<OnceLock<Arc<Connection>>>;

/// An open cursor.
pub(crate) struct NamedCursor {
    /// Declared WITH HOLD: it stays open when its transaction block commits.
    pub(crate) with_hold: bool,
    pub(crate) columns: SchemaRef,
    pub(crate) cursor: Arc<tokio::sync::Mutex<Cursor>>,
}

struct Block {
    view: Arc<LakeSnapshot>,
    /// The variables before the block.
    before: Variables,
    /// The variables that SET LOCAL has set.
    local: Vec<String>,
}

#[derive(Default)]
struct CurrentQuery {
    token: CancellationToken,
    text: String,
    started_at: Option<DateTime<Utc>>,
    busy: bool,
}

/// What `pg_stat_activity` shows of a connection's current or last statement.
pub(crate) struct Activity {
    /// The statement's text.
    pub(crate) text: String,
    pub(crate) started_at: Option<DateTime<Utc>>,
    /// Whether the statement still runs.
    pub(crate) busy: bool,
    /// Whether a transaction block is open.
    pub(crate) in_block: bool,
    /// `application_name`.
    pub(crate) application: String,
}

impl Connection {
    /// The connection of a client that has logged in. Cancelling `ended` closes it.
    pub(crate) fn open(
        session: Session,
        resources: &Arc<QueryResources>,
        role: &Arc<Role>,
        (pid, secret): (i32, SecretKey),
        client: SocketAddr,
        variables: Arc<Mutex<Variables>>,
        ended: CancellationToken,
    ) -> Arc<Connection> {
        let connection = Connection {
            pid,
            secret,
            role: Arc::clone(role),
            session,
            client,
            connected_at: Utc::now(),
            variables,
            block: Mutex::default(),
            cursors: Mutex::default(),
            query: Mutex::default(),
            reason: AtomicU8::new(0),
            sync_count: AtomicU64::new(0),
            ended,
            resources: Arc::clone(resources),
        };
        connection.apply_time_zone();
        Arc::new(connection)
    }

    /// The state of the lake that a statement sees: the newest, or that of the open block.
    pub(crate) fn view(&self) -> Arc<LakeSnapshot> {
        match locked(&self.block).as_ref() {
            Some(block) => Arc::clone(&block.view),
            None => Arc::new(self.session.snapshot()),
        }
    }

    /// Whether a transaction block is open.
    pub(crate) fn in_block(&self) -> bool {
        locked(&self.block).is_some()
    }

    /// Opens a transaction block with the newest state of the lake; without effect if one is open.
    pub(crate) fn begin(&self) {
        let (view, before) = (Arc::new(self.session.snapshot()), locked(&self.variables).clone());
        locked(&self.block).get_or_insert(Block { view, before, local: Vec::new() });
    }

    /// Ends the transaction block and closes its cursors. A block that is not `committed` restores all variables.
    pub(crate) fn end_block(&self, committed: bool) {
        let block = locked(&self.block).take();
        if let Some(block) = block {
            let mut variables = locked(&self.variables);
            if committed {
                for name in block.local {
                    let before = block.before.get(&name).map(str::to_owned);
                    // The value was accepted before, so setting it again does not fail.
                    let _ = variables.set(&name, before);
                }
            } else {
                *variables = block.before;
            }
        }
        self.apply_time_zone();
        locked(&self.cursors).retain(|_, cursor| cursor.with_hold && committed);
    }

    /// The columns of an open cursor.
    ///
    /// # Errors
    /// If no cursor has this name.
    pub(crate) fn cursor_columns(&self, name: &str) -> PgWireResult<SchemaRef> {
        match locked(&self.cursors).get(name) {
            Some(cursor) => Ok(Arc::clone(&cursor.columns)),
            None => Err(problem::error("34000", format!("cursor \"{name}\" does not exist"))),
        }
    }

    /// Sets a variable, or resets it with `None`, and returns its new value. `local` lasts until the end of the block.
    ///
    /// # Errors
    /// If the variable does not exist, cannot be changed, or the value is invalid.
    pub(crate) fn set(&self, name: &str, value: Option<String>, local: bool) -> PgWireResult<String> {
        if local && let Some(block) = locked(&self.block).as_mut() {
            block.local.push(name.to_owned());
        }
        let now = locked(&self.variables).set(name, value)?;
        if name.eq_ignore_ascii_case(TIME_ZONE) {
            self.apply_time_zone();
        }
        Ok(now)
    }

    /// Resets all variables to their defaults.
    pub(crate) fn reset_all(&self) {
        locked(&self.variables).reset_all();
        self.apply_time_zone();
    }

    /// The session's time zone.
    pub(crate) fn zone(&self) -> String {
        locked(&self.variables).time_zone().to_owned()
    }

    /// Sets the session's time zone for the engine's casts and functions.
    pub(crate) fn apply_time_zone(&self) {
        let zone = self.zone();
        self.session.context.state_ref().write().config_mut().options_mut().execution.time_zone = Some(zone);
    }

    /// Marks the start of a statement: until [`Connection::finish`] it can be cancelled, also by its time limit.
    pub(crate) fn start(self: &Arc<Self>, text: &str) {
        let token = self.ended.child_token();
        self.reason.store(0, Ordering::Relaxed);
        *locked(&self.query) =
            CurrentQuery { token: token.clone(), text: text.to_owned(), started_at: Some(Utc::now()), busy: true };
        let requested = locked(&self.variables).statement_timeout();
        let limit = match (requested, self.resources.bounds.query_time_max) {
            (Some(requested), Some(max)) => Some(requested.min(max)),
            (requested, max) => requested.or(max),
        };
        if let Some(limit) = limit {
            let connection = Arc::downgrade(self);
            tokio::spawn(async move {
                let over = tokio::time::sleep(limit);
                tokio::select! {
                    () = over => if let Some(connection) = connection.upgrade() {
                        connection.stop(&token, StopReason::Timeout);
                    },
                    () = token.cancelled() => {}
                }
            });
        }
    }

    /// Marks the end of the statement.
    pub(crate) fn finish(&self) {
        let mut query = locked(&self.query);
        query.busy = false;
        // Ends the task that waits for the time limit; nothing else uses this token any more.
        query.token.cancel();
    }

    /// Cancelled when the current statement is cancelled or the connection is closed.
    pub(crate) fn token(&self) -> CancellationToken {
        locked(&self.query).token.clone()
    }

    /// Whether a statement runs.
    pub(crate) fn is_busy(&self) -> bool {
        locked(&self.query).busy
    }

    /// Cancels the running statement; `false` if none runs.
    pub(crate) fn cancel(&self) -> bool {
        let query = locked(&self.query);
        if query.busy {
            self.stop(&query.token, StopReason::User);
        }
        query.busy
    }

    /// Cancels the running statement and closes the connection.
    pub(crate) fn terminate(&self, reason: StopReason) {
        self.stop(&self.ended, reason);
    }

    fn stop(&self, token: &CancellationToken, reason: StopReason) {
        let _ = self.reason.compare_exchange(0, reason as u8, Ordering::Relaxed, Ordering::Relaxed);
        token.cancel();
    }

    /// The error for a cancelled statement, by the reason of its cancellation.
    pub(crate) fn cancellation_error(&self) -> PgWireError {
        const TIMEOUT: u8 = StopReason::Timeout as u8;
        const SHUTDOWN_REASON: u8 = StopReason::Shutdown as u8;
        const TERMINATED: u8 = StopReason::Terminated as u8;
        match self.reason.load(Ordering::Relaxed) {
            TIMEOUT => problem::error(CANCELLED, "canceling statement due to statement timeout"),
            SHUTDOWN_REASON | TERMINATED => {
                problem::fatal(SHUTDOWN, "terminating connection due to administrator command")
            }
            _ => problem::error(CANCELLED, "canceling statement due to user request"),
        }
    }

    /// Does `work`, or returns an error as soon as the statement is cancelled.
    pub(crate) async fn unless_cancelled<T>(&self, work: impl Future<Output = PgWireResult<T>>) -> PgWireResult<T> {
        let token = self.token();
        tokio::select! {
            biased;
            () = token.cancelled() => Err(self.cancellation_error()),
            done = work => done,
        }
    }

    /// What `pg_stat_activity` shows of the connection.
    pub(crate) fn activity(&self) -> Activity {
        let query = locked(&self.query);
        let application = locked(&self.variables).get(APPLICATION_NAME).unwrap_or_default().to_owned();
        Activity {
            text: query.text.clone(),
            started_at: query.started_at,
            busy: query.busy,
            in_block: self.in_block(),
            application,
        }
    }
}
