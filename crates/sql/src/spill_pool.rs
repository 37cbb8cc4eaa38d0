//! Memory of a session in which sorts spill to disk beyond a size, and no query fails for want of memory.
//!
//! A job's query must not fail because it is large: what can't spill, such as the hash table of a join, is counted and
//! not limited. What can spill takes turns within the size.

use std::fmt::{Display, Formatter};
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::error::Result;
use datafusion::execution::memory_pool::{FairSpillPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};

/// A pool that limits what can spill.
#[derive(Debug)]
pub struct SpillPool {
    spillable: FairSpillPool,
    other: AtomicUsize,
}

impl SpillPool {
    /// A pool in which sorts and the like have so many bytes together.
    pub fn new(spill_bytes: usize) -> SpillPool {
        SpillPool { spillable: FairSpillPool::new(spill_bytes), other: AtomicUsize::new(0) }
    }
}

impl Display for SpillPool {
    fn fmt(&self, out: &mut Formatter<'_>) -> std::fmt::Result {
        write!(out, "spill pool({} reserved)", self.reserved())
    }
}

impl MemoryPool for SpillPool {
    fn name(&self) -> &'static str {
        "spill pool"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        if consumer.can_spill() {
            self.spillable.register(consumer);
        }
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        if consumer.can_spill() {
            self.spillable.unregister(consumer);
        }
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        match reservation.consumer().can_spill() {
            true => self.spillable.grow(reservation, additional),
            false => drop(self.other.fetch_add(additional, Ordering::Relaxed)),
        }
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        match reservation.consumer().can_spill() {
            true => self.spillable.shrink(reservation, shrink),
            false => drop(self.other.fetch_sub(shrink, Ordering::Relaxed)),
        }
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        match reservation.consumer().can_spill() {
            true => self.spillable.try_grow(reservation, additional),
            false => {
                self.other.fetch_add(additional, Ordering::Relaxed);
                Ok(())
            }
        }
    }

    fn reserved(&self) -> usize {
        self.spillable.reserved() + self.other.load(Ordering::Relaxed)
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Infinite
    }
}
