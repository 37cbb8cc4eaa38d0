//! Counts the requests that are being answered, and waits until there are none.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

#[derive(Default)]
pub(super) struct RequestCount {
    count: AtomicUsize,
    ended: Notify,
}

/// Counts a request until it is dropped.
pub(super) struct RequestGuard<'a>(&'a RequestCount);

impl RequestCount {
    /// Counts a request.
    pub fn begin(&self) -> RequestGuard<'_> {
        self.count.fetch_add(1, Ordering::SeqCst);
        RequestGuard(self)
    }

    /// How many there are.
    pub fn get(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// Waits until there are none.
    pub async fn wait_for_none(&self) {
        loop {
            let mut ended = std::pin::pin!(self.ended.notified());
            // Before the count is read: so no end between the two is missed.
            ended.as_mut().enable();
            if self.get() == 0 {
                return;
            }
            ended.await;
        }
    }
}

impl Drop for RequestGuard<'_> {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.ended.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::RequestCount;

    #[tokio::test]
    async fn the_last_request_ends_the_wait() {
        let requests = Arc::new(RequestCount::default());
        requests.wait_for_none().await;
        let (first, second) = (requests.begin(), requests.begin());
        let waiting = tokio::spawn({
            let requests = Arc::clone(&requests);
            async move { requests.wait_for_none().await }
        });
        drop(first);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished() && requests.get() == 1);
        drop(second);
        waiting.await.expect("it ends");
    }
}
