//! Places of connections. Those whose users have logged in take one of `connections_max`; those that have not yet are
//! counted apart, and the oldest of them makes room for the next: nobody without a password keeps others out.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio_util::sync::CancellationToken;

use super::locked;

/// Connections whose users have not logged in yet.
const PENDING_MAX: usize = 256;

pub(crate) struct Places {
    max: usize,
    taken: AtomicUsize,
    ids: AtomicU64,
    pending: Mutex<VecDeque<(u64, CancellationToken)>>,
}

impl Places {
    pub(crate) fn new(max: usize) -> Places {
        Places { max, taken: AtomicUsize::new(0), ids: AtomicU64::new(0), pending: Mutex::default() }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.taken.load(Ordering::Relaxed) >= self.max
    }

    pub(crate) fn taken(&self) -> i64 {
        i64::try_from(self.taken.load(Ordering::Relaxed)).unwrap_or(i64::MAX)
    }

    /// A connection has come; `ended` ends it where it makes room for others.
    pub(crate) fn add_pending(&self, ended: &CancellationToken) -> u64 {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let mut pending = locked(&self.pending);
        if pending.len() >= PENDING_MAX
            && let Some((_, oldest)) = pending.pop_front()
        {
            oldest.cancel();
        }
        pending.push_back((id, ended.clone()));
        id
    }

    pub(crate) fn remove_pending(&self, id: u64) {
        locked(&self.pending).retain(|(pending, _)| *pending != id);
    }

    /// A place for as long as a proof is looked at, and for good where it holds. `None` where all are taken.
    pub(crate) fn reserve(&self) -> Option<Reservation<'_>> {
        let free = |taken: usize| (taken < self.max).then_some(taken + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free).ok()?;
        Some(Reservation { places: self, is_kept: false })
    }

    /// What [`Reservation::keep`] kept.
    pub(crate) fn give_back(&self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(crate) struct Reservation<'a> {
    places: &'a Places,
    is_kept: bool,
}

impl Reservation<'_> {
    /// Its user has logged in.
    pub(crate) fn keep(mut self, id: u64) {
        self.is_kept = true;
        self.places.remove_pending(id);
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if !self.is_kept {
            self.places.give_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_without_a_login_makes_room() {
        let places = Places::new(1);
        let tokens: Vec<CancellationToken> = (0..=PENDING_MAX).map(|_| CancellationToken::new()).collect();
        let ids: Vec<u64> = tokens.iter().map(|token| places.add_pending(token)).collect();
        assert!(tokens[0].is_cancelled() && !tokens[1].is_cancelled());
        places.reserve().unwrap().keep(ids[1]);
        assert!(places.reserve().is_none());
        places.give_back();
        drop(places.reserve());
        places.reserve().unwrap().keep(ids[2]);
        assert_eq!((places.taken(), locked(&places.pending).len()), (1, PENDING_MAX - 2));
    }
}
