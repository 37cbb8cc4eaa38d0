//! Enforces `connections_max`. Only connections whose users have logged in count against it; the others are counted
//! separately, and when they are too many the oldest is closed: clients without a password cannot block the server.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio_util::sync::CancellationToken;

use super::lock::locked;

/// The most connections whose users have not logged in yet.
const PENDING_MAX: usize = 256;

/// The connections of a server, counted.
pub(crate) struct ConnectionLimit {
    max: usize,
    open: AtomicUsize,
    ids: AtomicU64,
    pending: Mutex<VecDeque<(u64, CancellationToken)>>,
}

impl ConnectionLimit {
    /// A limit of `max` connections whose users are logged in.
    pub(crate) fn new(max: usize) -> ConnectionLimit {
        ConnectionLimit { max, open: AtomicUsize::new(0), ids: AtomicU64::new(0), pending: Mutex::default() }
    }

    /// Whether `max` users are logged in.
    pub(crate) fn is_full(&self) -> bool {
        self.open.load(Ordering::Relaxed) >= self.max
    }

    /// The number of connections whose users are logged in, with those whose proof is being checked.
    pub(crate) fn open(&self) -> i64 {
        i64::try_from(self.open.load(Ordering::Relaxed)).unwrap_or(i64::MAX)
    }

    /// Registers a connection before its login and returns its id; cancelling `ended` closes it. If too many are
    /// pending, the oldest is closed.
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

    /// Forgets a connection that has closed or logged in; an unknown id is ignored.
    pub(crate) fn remove_pending(&self, id: u64) {
        locked(&self.pending).retain(|(pending, _)| *pending != id);
    }

    /// Reserves a connection while a password's proof is checked. Dropping the reservation releases it, unless
    /// [`Reservation::confirm`] was called. `None` if `max` connections are open.
    pub(crate) fn reserve(&self) -> Option<Reservation<'_>> {
        let free = |open: usize| (open < self.max).then_some(open + 1);
        self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free).ok()?;
        Some(Reservation { limit: self, is_confirmed: false })
    }

    /// Releases a connection that [`Reservation::confirm`] had confirmed; call it once for each.
    pub(crate) fn release(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection that counts against the limit while its login is checked.
pub(crate) struct Reservation<'a> {
    limit: &'a ConnectionLimit,
    is_confirmed: bool,
}

impl Reservation<'_> {
    /// Keeps the reservation, since the user of pending connection `id` has logged in.
    pub(crate) fn confirm(mut self, id: u64) {
        self.is_confirmed = true;
        self.limit.remove_pending(id);
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if !self.is_confirmed {
            self.limit.release();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_pending_connection_is_closed() {
        let limit = ConnectionLimit::new(1);
        let tokens: Vec<CancellationToken> = (0..=PENDING_MAX).map(|_| CancellationToken::new()).collect();
        let ids: Vec<u64> = tokens.iter().map(|token| limit.add_pending(token)).collect();
        assert!(tokens[0].is_cancelled() && !tokens[1].is_cancelled());
        limit.reserve().unwrap().confirm(ids[1]);
        assert!(limit.reserve().is_none());
        limit.release();
        drop(limit.reserve());
        limit.reserve().unwrap().confirm(ids[2]);
        assert_eq!((limit.open(), locked(&limit.pending).len()), (1, PENDING_MAX - 2));
    }
}
