//! Memory that no query's account knows, such as what a function makes of a batch: where the whole process comes near
//! what it may have, the query that holds most is ended, before the kernel ends the server.

use std::fs;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::memory::{QueryMemory, written};
use super::{Shared, locked};

/// Between two looks. A query that fills a machine's memory takes longer.
const EVERY: Duration = Duration::from_millis(50);

/// What an ended query takes to give its memory back.
const GRACE: Duration = Duration::from_millis(500);

/// A query that is running.
#[derive(Debug)]
pub(crate) struct RunningQuery {
    memory: Arc<QueryMemory>,
    started: Instant,
    pub(crate) ended: CancellationToken,
}

#[derive(Debug, Default)]
pub(crate) struct RunningQueries {
    all: Mutex<Vec<Weak<RunningQuery>>>,
}

impl RunningQueries {
    /// It is one of them as long as what is given back lives.
    pub(crate) fn add(&self, memory: Arc<QueryMemory>) -> Arc<RunningQuery> {
        let running = Arc::new(RunningQuery { memory, started: Instant::now(), ended: CancellationToken::new() });
        let mut all = locked(&self.all);
        all.retain(|query| query.strong_count() > 0);
        all.push(Arc::downgrade(&running));
        running
    }

    /// The one that holds most by its account; of those that hold the same, the youngest.
    fn largest(&self) -> Option<Arc<RunningQuery>> {
        let all = locked(&self.all);
        let alive = all.iter().filter_map(Weak::upgrade).filter(|query| !query.ended.is_cancelled());
        alive.max_by_key(|query| (query.memory.held(), query.started))
    }
}

/// Until the server is gone.
pub(crate) async fn watch(shared: Weak<Shared>, bytes_max: usize) {
    let page = rustix::param::page_size();
    loop {
        tokio::time::sleep(EVERY).await;
        let Some(shared) = shared.upgrade() else { return };
        let Some(held) = resident(page).filter(|held| *held > bytes_max) else { continue };
        if let Some(query) = shared.running.largest() {
            let (held, bytes_max) = (written(held), written(bytes_max));
            tracing::warn!(held, bytes_max, "memory is short: the largest query was ended");
            query.ended.cancel();
            drop((query, shared));
            tokio::time::sleep(GRACE).await;
        }
    }
}

/// What the process has in memory that is not a file's.
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
