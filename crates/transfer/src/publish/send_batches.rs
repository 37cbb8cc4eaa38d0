//! Sends batches of messages to the stream, beside the session that collects them.

use futures::StreamExt;
use futures::stream::FuturesOrdered;
use stream::Record;

use super::target::StreamTarget;
use crate::error::Result;

/// The batches that are sent and not known to be stored.
const BATCHES_SENT: usize = 8;

/// Messages that are sent together.
pub struct MessageBatch {
    /// In their order.
    pub records: Vec<Record>,
    /// Their number.
    pub number: u64,
}

/// Sends batches, and reports those that are stored, in their order. Ends by the first error.
pub async fn send_batches(
    target: StreamTarget,
    mut batches: tokio::sync::mpsc::Receiver<MessageBatch>,
    results: std::sync::mpsc::Sender<Result<u64>>,
) {
    let mut sent = FuturesOrdered::new();
    let mut is_open = true;
    while is_open || !sent.is_empty() {
        let stored = tokio::select! {
            biased;
            Some(stored) = sent.next(), if !sent.is_empty() => Some(stored),
            batch = batches.recv(), if is_open && sent.len() < BATCHES_SENT => match batch {
                None => {
                    is_open = false;
                    None
                }
                Some(MessageBatch { records, number }) => match target.send(records).await {
                    Ok(storing) => {
                        sent.push_back(async move { storing.await.map(|()| number) });
                        None
                    }
                    Err(error) => Some(Err(error)),
                },
            },
        };
        let Some(stored) = stored else { continue };
        let is_error = stored.is_err();
        // Where the session has ended, nobody receives it.
        if results.send(stored).is_err() || is_error {
            target.disconnect().await;
            return;
        }
    }
}
