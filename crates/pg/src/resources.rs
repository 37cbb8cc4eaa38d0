//! What all queries of a server share: their limits, memory, counters and threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};

use tokio::runtime::{Handle, Runtime};

use super::memory::Memory;
use super::settings::Bounds;
use super::threads::{cores, runtime};
use super::watchdog::RunningQueries;
use sql::error::{Context, Result};

/// The least number of planning threads, also with fewer cores: one slow plan does not delay the others.
const PLANNING_THREADS_MIN: usize = 8;

/// The resources of a server's queries.
pub(crate) struct QueryResources {
    pub(crate) bounds: Bounds,
    pub(crate) memory: Arc<Memory>,
    pub(crate) running: Arc<RunningQueries>,
    pub(crate) counts: Counts,
    /// Runs queries.
    queries: Option<Runtime>,
    /// Plans queries. Planning never yields, so it has its own threads: queries and connections do not wait for it.
    planning: Option<Runtime>,
}

/// Counters of a server's queries, since it was created.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) queries: AtomicU64,
    pub(crate) running: AtomicI64,
    pub(crate) errors: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    pub(crate) rows: AtomicU64,
    /// Run time of ended queries, in microseconds.
    pub(crate) micros: AtomicU64,
}

impl QueryResources {
    /// Starts the threads.
    ///
    /// # Errors
    /// If threads cannot be started.
    pub(crate) fn start(bounds: Bounds) -> Result<QueryResources> {
        let cores = cores();
        Ok(QueryResources {
            bounds,
            memory: Arc::new(Memory::new(bounds.memory_bytes_max)),
            running: Arc::default(),
            counts: Counts::default(),
            queries: Some(runtime("query", cores).context("start the query threads")?),
            planning: Some(runtime("plan", cores.max(PLANNING_THREADS_MIN)).context("start the planning threads")?),
        })
    }

    /// The runtime that runs queries.
    pub(crate) fn queries(&self) -> &Handle {
        // It is `None` only after `drop` has begun.
        self.queries.as_ref().map(Runtime::handle).expect("the runtime of queries lives as long as the server")
    }

    /// The runtime that plans queries.
    pub(crate) fn planning(&self) -> &Handle {
        self.planning.as_ref().map(Runtime::handle).expect("the runtime of planning lives as long as the server")
    }
}

impl Drop for QueryResources {
    fn drop(&mut self) {
        // A runtime must not block on the shutdown of another.
        for runtime in [self.queries.take(), self.planning.take()].into_iter().flatten() {
            runtime.shutdown_background();
        }
    }
}
