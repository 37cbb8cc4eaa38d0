//! One connection: its role, its session, what it has set, its open block, cursors and query.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use chrono::{DateTime, Utc};
use datafusion::arrow::datatypes::SchemaRef;
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::startup::SecretKey;
use tokio_util::sync::CancellationToken;

use super::encode::Cursor;
use super::problem::{self, CANCELLED, SHUTDOWN};
use super::variables::{APPLICATION_NAME, TIME_ZONE, Variables};
use super::{Shared, catalogue, locked};
use sql::error::Result;
use sql::roles::Role;
use sql::session::{Limits, Session};
use sql::view::View;

/// Why a query was told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    User = 1,
    Time = 2,
    Shutdown = 3,
    Terminated = 4,
}

pub(crate) struct Connection {
    pub(crate) pid: i32,
    pub(crate) secret: SecretKey,
    pub(crate) role: Arc<Role>,
    pub(crate) session: Session,
    pub(crate) client: SocketAddr,
    pub(crate) since: DateTime<Utc>,
    pub(crate) variables: Arc<Mutex<Variables>>,
    /// The state that every query of an open block sees, and the variables as they were before it.
    block: Mutex<Option<Block>>,
    pub(crate) cursors: Mutex<HashMap<String, HeldCursor>>,
    query: Mutex<Query>,
    reason: AtomicU8,
    /// Counts the client's Syncs: what lies between two belongs together.
    pub(crate) batch: AtomicU64,
    /// When cancelled, the connection ends.
    pub(crate) ended: CancellationToken,
    pub(crate) shared: Arc<Shared>,
}

/// A cursor by its name.
pub(crate) struct HeldCursor {
    /// WITH HOLD: outlives its block.
    pub(crate) held: bool,
    pub(crate) columns: SchemaRef,
    pub(crate) cursor: Arc<tokio::sync::Mutex<Cursor>>,
}

struct Block {
    view: Arc<View>,
    before: Variables,
    local: Vec<String>,
}

#[derive(Default)]
struct Query {
    token: CancellationToken,
    text: String,
    since: Option<DateTime<Utc>>,
    busy: bool,
}

/// A line of `pg_stat_activity`.
pub(crate) struct Activity {
    pub(crate) text: String,
    pub(crate) since: Option<DateTime<Utc>>,
    pub(crate) busy: bool,
    pub(crate) in_block: bool,
    pub(crate) application: String,
}

impl Connection {
    pub(crate) fn open(
        shared: &Arc<Shared>,
        role: &Arc<Role>,
        (pid, secret): (i32, SecretKey),
        client: SocketAddr,
        variables: Variables,
        ended: CancellationToken,
    ) -> Result<Arc<Connection>> {
        // Each query has a pool of its own; what the plans may take for granted goes by the bound of one.
        let bounds = &shared.bounds;
        let memory_bytes_max = bounds.query_memory_bytes_max.or(bounds.memory_bytes_max);
        let limits = Limits { memory_bytes_max, partitions: None };
        let session = Session::with_limits(shared.lake.clone(), Arc::clone(&shared.system), None, limits)?
            .with_views(Arc::clone(&shared.views));
        let variables = Arc::new(Mutex::new(variables));
        let session = catalogue::into(session.of_role(Arc::clone(role)), shared, &variables, pid);
        let connection = Connection {
            pid,
            secret,
            role: Arc::clone(role),
            session,
            client,
            since: Utc::now(),
            variables,
            block: Mutex::default(),
            cursors: Mutex::default(),
            query: Mutex::default(),
            reason: AtomicU8::new(0),
            batch: AtomicU64::new(0),
            ended,
            shared: Arc::clone(shared),
        };
        connection.follow_zone();
        Ok(Arc::new(connection))
    }

    /// What a statement sees: the newest state, or that of the open block.
    pub(crate) fn view(&self) -> Arc<View> {
        match locked(&self.block).as_ref() {
            Some(block) => Arc::clone(&block.view),
            None => Arc::new(self.session.view()),
        }
    }

    pub(crate) fn in_block(&self) -> bool {
        locked(&self.block).is_some()
    }

    pub(crate) fn begin(&self) {
        let (view, before) = (Arc::new(self.session.view()), locked(&self.variables).clone());
        locked(&self.block).get_or_insert(Block { view, before, local: Vec::new() });
    }

    /// Also ends the block's cursors.
    pub(crate) fn end_block(&self, kept: bool) {
        let block = locked(&self.block).take();
        if let Some(block) = block {
            let mut variables = locked(&self.variables);
            if kept {
                for name in block.local {
                    let before = block.before.get(&name).map(str::to_owned);
                    // It was a good value before.
                    let _ = variables.set(&name, before);
                }
            } else {
                *variables = block.before;
            }
        }
        self.follow_zone();
        locked(&self.cursors).retain(|_, cursor| cursor.held && kept);
    }

    /// `local` ends with the block.
    pub(crate) fn set(&self, name: &str, value: Option<String>, local: bool) -> PgWireResult<String> {
        if local && let Some(block) = locked(&self.block).as_mut() {
            block.local.push(name.to_owned());
        }
        let now = locked(&self.variables).set(name, value)?;
        if name.eq_ignore_ascii_case(TIME_ZONE) {
            self.follow_zone();
        }
        Ok(now)
    }

    pub(crate) fn reset_all(&self) {
        locked(&self.variables).reset_all();
        self.follow_zone();
    }

    pub(crate) fn zone(&self) -> String {
        locked(&self.variables).get(TIME_ZONE).unwrap_or("UTC").to_owned()
    }

    /// The engine's casts and functions go by the session's zone.
    pub(crate) fn follow_zone(&self) {
        let zone = self.zone();
        self.session.context.state_ref().write().config_mut().options_mut().execution.time_zone = Some(zone);
    }

    /// A statement begins: until [`Connection::finish`], it can be cancelled and runs against its time.
    pub(crate) fn start(self: &Arc<Self>, text: &str) {
        let token = self.ended.child_token();
        self.reason.store(0, Ordering::Relaxed);
        *locked(&self.query) =
            Query { token: token.clone(), text: text.to_owned(), since: Some(Utc::now()), busy: true };
        let asked = locked(&self.variables).statement_timeout();
        let limit = match (asked, self.shared.bounds.query_time_max) {
            (Some(asked), Some(max)) => Some(asked.min(max)),
            (asked, max) => asked.or(max),
        };
        if let Some(limit) = limit {
            let connection = Arc::downgrade(self);
            tokio::spawn(async move {
                let over = tokio::time::sleep(limit);
                tokio::select! {
                    () = over => if let Some(connection) = connection.upgrade() {
                        connection.stop(&token, Reason::Time);
                    },
                    () = token.cancelled() => {}
                }
            });
        }
    }

    pub(crate) fn finish(&self) {
        let mut query = locked(&self.query);
        query.busy = false;
        // Wakes the watch over its time; nobody reads this token any more.
        query.token.cancel();
    }

    pub(crate) fn token(&self) -> CancellationToken {
        locked(&self.query).token.clone()
    }

    pub(crate) fn is_busy(&self) -> bool {
        locked(&self.query).busy
    }

    /// `false` where nothing runs.
    pub(crate) fn cancel(&self) -> bool {
        let query = locked(&self.query);
        if query.busy {
            self.stop(&query.token, Reason::User);
        }
        query.busy
    }

    pub(crate) fn end(&self, reason: Reason) {
        self.stop(&self.ended, reason);
    }

    fn stop(&self, token: &CancellationToken, reason: Reason) {
        let _ = self.reason.compare_exchange(0, reason as u8, Ordering::Relaxed, Ordering::Relaxed);
        token.cancel();
    }

    pub(crate) fn why_cancelled(&self) -> PgWireError {
        const TIME: u8 = Reason::Time as u8;
        const SHUTDOWN_REASON: u8 = Reason::Shutdown as u8;
        const TERMINATED: u8 = Reason::Terminated as u8;
        match self.reason.load(Ordering::Relaxed) {
            TIME => problem::error(CANCELLED, "canceling statement due to statement timeout"),
            SHUTDOWN_REASON | TERMINATED => {
                problem::fatal(SHUTDOWN, "terminating connection due to administrator command")
            }
            _ => problem::error(CANCELLED, "canceling statement due to user request"),
        }
    }

    /// Does `work` unless it is cancelled meanwhile.
    pub(crate) async fn unless_cancelled<T>(&self, work: impl Future<Output = PgWireResult<T>>) -> PgWireResult<T> {
        let token = self.token();
        tokio::select! {
            biased;
            () = token.cancelled() => Err(self.why_cancelled()),
            done = work => done,
        }
    }

    pub(crate) fn activity(&self) -> Activity {
        let query = locked(&self.query);
        let application = locked(&self.variables).get(APPLICATION_NAME).unwrap_or_default().to_owned();
        Activity {
            text: query.text.clone(),
            since: query.since,
            busy: query.busy,
            in_block: self.in_block(),
            application,
        }
    }
}
