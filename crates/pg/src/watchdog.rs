//! Guards against memory that no query reserves, such as what a function allocates for a batch: when the process comes
//! near its limit, the largest query is ended, before the kernel kills the server.

use std::fs;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::lock::locked;
use super::memory::{QueryMemory, bytes_text};

/// The pause between two checks: a query takes longer than this to fill a machine's memory.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// The time in which an ended query frees its memory.
const GRACE: Duration = Duration::from_millis(500);

/// A running query that the watchdog can end.
#[derive(Debug)]
pub(crate) struct RunningQuery {
    memory: Arc<QueryMemory>,
    started: Instant,
    /// Cancelled to end the query for lack of memory.
    pub(crate) ended: CancellationToken,
}

/// All running queries of a server.
#[derive(Debug, Default)]
pub(crate) struct RunningQueries {
    all: Mutex<Vec<Weak<RunningQuery>>>,
}

impl RunningQueries {
    /// Adds a query, which is removed when the returned value is dropped.
    pub(crate) fn add(&self, memory: Arc<QueryMemory>) -> Arc<RunningQuery> {
        let running = Arc::new(RunningQuery { memory, started: Instant::now(), ended: CancellationToken::new() });
        let mut all = locked(&self.all);
        all.retain(|query| query.strong_count() > 0);
        all.push(Arc::downgrade(&running));
        running
    }

    /// The query with the most reserved memory; of equal ones, the youngest.
    fn largest(&self) -> Option<Arc<RunningQuery>> {
        let all = locked(&self.all);
        let alive = all.iter().filter_map(Weak::upgrade).filter(|query| !query.ended.is_cancelled());
        alive.max_by_key(|query| (query.memory.reserved_bytes(), query.started))
    }
}

/// Ends the largest query whenever the process has more than `bytes_max` in memory; returns when the server is dropped.
pub(crate) async fn watch(running: Weak<RunningQueries>, bytes_max: usize) {
    let page = rustix::param::page_size();
    loop {
        tokio::time::sleep(CHECK_INTERVAL).await;
        let Some(running) = running.upgrade() else { return };
        let Some(held) = resident(page).filter(|held| *held > bytes_max) else { continue };
        if let Some(query) = running.largest() {
            let (held, bytes_max) = (bytes_text(held), bytes_text(bytes_max));
            tracing::warn!(held, bytes_max, "the process is near its memory limit: the largest query was ended");
            query.ended.cancel();
            drop((query, running));
            tokio::time::sleep(GRACE).await;
        }
    }
}

/// The resident memory of the process that does not belong to files, in bytes.
fn resident(page: usize) -> Option<usize> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let mut fields = text.split_ascii_whitespace().skip(1).map(str::parse::<usize>);
    let (all, of_files) = (fields.next()?.ok()?, fields.next()?.ok()?);
    Some(all.saturating_sub(of_files) * page)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool};

    use super::super::memory::{Memory, QueryMemory};
    use super::{RunningQueries, resident};

    #[test]
    fn the_largest_query_is_chosen_then_the_youngest() {
        let queries = RunningQueries::default();
        let add = || {
            let pool = Arc::new(QueryMemory::new(Arc::new(Memory::new(None)), None));
            (Arc::clone(&pool), queries.add(pool))
        };
        assert!(queries.largest().is_none());
        let ((pool, large), (_, _old), (_, young)) = (add(), add(), add());
        let pool: Arc<dyn MemoryPool> = pool;
        let reservation = MemoryConsumer::new("sort").register(&pool);
        reservation.try_grow(1 << 20).unwrap();
        assert!(Arc::ptr_eq(&queries.largest().unwrap(), &large));
        large.ended.cancel();
        assert!(Arc::ptr_eq(&queries.largest().unwrap(), &young));
        assert!(resident(rustix::param::page_size()).is_some_and(|bytes| bytes > 1 << 16));
    }
}
