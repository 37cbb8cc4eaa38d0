//! Memory limits of queries: one for each query and one for all together. An operator that can spill
//! to disk does so when a reservation is refused.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{
    FairSpillPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation, UnboundedMemoryPool,
};

/// The memory that all queries together have reserved.
#[derive(Debug)]
pub(crate) struct Memory {
    bytes_max: usize,
    bytes: AtomicUsize,
}

impl Memory {
    /// `None` is no limit.
    pub(crate) fn new(bytes_max: Option<usize>) -> Memory {
        Memory { bytes_max: bytes_max.unwrap_or(usize::MAX), bytes: AtomicUsize::new(0) }
    }

    /// Bytes that are reserved now.
    pub(crate) fn used(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn try_take(&self, bytes: usize) -> bool {
        let within = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.bytes_max);
        self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within).is_ok()
    }
}

/// The memory pool of one query.
#[derive(Debug)]
pub(crate) struct QueryMemory {
    all: Arc<Memory>,
    own: Box<dyn MemoryPool>,
    own_max: Option<usize>,
}

impl QueryMemory {
    /// A pool that reserves at most `own_max` bytes, out of `all`.
    pub(crate) fn new(all: Arc<Memory>, own_max: Option<usize>) -> QueryMemory {
        // Without a limit of its own, one query alone may reserve the whole.
        let fair = own_max.or((all.bytes_max < usize::MAX).then_some(all.bytes_max));
        let own: Box<dyn MemoryPool> = match fair {
            Some(bytes) => Box::new(FairSpillPool::new(bytes)),
            None => Box::new(UnboundedMemoryPool::default()),
        };
        QueryMemory { all, own, own_max }
    }

    /// Bytes that the query has reserved.
    pub(crate) fn reserved_bytes(&self) -> usize {
        self.own.reserved()
    }

    fn refused(&self, reservation: &MemoryReservation, additional: usize, bound: &str) -> DataFusionError {
        let (name, held) = (reservation.consumer().name(), self.own.reserved());
        let [additional, held] = [additional, held].map(bytes_text);
        DataFusionError::ResourcesExhausted(format!(
            "{name} requested {additional} more, the query has reserved {held}; {bound}"
        ))
    }
}

impl fmt::Display for QueryMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "query({})", bytes_text(self.own.reserved()))
    }
}

impl MemoryPool for QueryMemory {
    fn name(&self) -> &str {
        "query"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.own.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.own.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.own.grow(reservation, additional);
        self.all.bytes.fetch_add(additional, Ordering::Relaxed);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.own.shrink(reservation, shrink);
        self.all.bytes.fetch_sub(shrink, Ordering::Relaxed);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        if self.own.try_grow(reservation, additional).is_err() {
            let max = bytes_text(self.own_max.unwrap_or(self.all.bytes_max));
            return Err(self.refused(
                reservation,
                additional,
                &format!("one query may reserve {max} (query_memory_max)"),
            ));
        }
        if !self.all.try_take(additional) {
            self.own.shrink(reservation, additional);
            let (used, max) = (bytes_text(self.all.used()), bytes_text(self.all.bytes_max));
            let bound = format!("all queries together have reserved {used} of {max} (memory_max)");
            return Err(self.refused(reservation, additional, &bound));
        }
        Ok(())
    }

    fn reserved(&self) -> usize {
        self.own.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.own.memory_limit()
    }
}

/// A number of bytes for messages, such as `1.5 MiB`.
pub(crate) fn bytes_text(bytes: usize) -> String {
    const MIB: usize = 1 << 20;
    match bytes {
        0..MIB => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / MIB as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::{Memory, QueryMemory};
    use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool};
    use std::sync::Arc;

    #[test]
    fn queries_share_one_limit_and_release_memory() {
        let all = Arc::new(Memory::new(Some(100)));
        let pool = |max| Arc::new(QueryMemory::new(Arc::clone(&all), max)) as Arc<dyn MemoryPool>;
        let (one, two) = (pool(Some(80)), pool(Some(80)));
        let first = MemoryConsumer::new("sort").register(&one);
        first.try_grow(70).unwrap();
        let error = first.try_grow(20).unwrap_err().to_string();
        assert!(error.contains("query_memory_max"), "{error}");
        let second = MemoryConsumer::new("join").register(&two);
        let error = second.try_grow(40).unwrap_err().to_string();
        assert!(error.contains("(memory_max)") && error.contains("join"), "{error}");
        second.try_grow(30).unwrap();
        drop(first);
        assert_eq!(all.used(), 30);
        second.try_grow(40).unwrap();
        drop(second);
        assert_eq!(all.used(), 0);
    }
}
