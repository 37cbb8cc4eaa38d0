//! Reads a shard in the background.

use std::time::Duration;

use stream::{Batch, Reader, ShardReader, StartPosition};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::watch;

use crate::error::Result;

/// The messages that are read together.
const BATCH_MESSAGES: usize = 5000;
/// How long a read waits for messages.
const READ_WAIT: Duration = Duration::from_millis(200);
/// The batches that are read before the first is applied.
const BATCHES_AHEAD: usize = 2;

/// A shard that is read.
pub struct ShardTask {
    /// Its batches; the last may be an error.
    pub batches: Receiver<Result<Batch>>,
    acknowledged: watch::Sender<u64>,
}

impl ShardTask {
    /// Begins to read a shard.
    pub async fn start(reader: &Reader, shard: &str, start: &StartPosition) -> Result<ShardTask> {
        let reader = reader.open(shard, start).await?;
        let (sender, batches) = channel(BATCHES_AHEAD);
        let (acknowledged, to_acknowledge) = watch::channel(0);
        tokio::spawn(read(reader, sender, to_acknowledge));
        Ok(ShardTask { batches, acknowledged })
    }

    /// Tells the server up to where messages are not needed again.
    pub fn acknowledge(&self, position: u64) {
        self.acknowledged.send_if_modified(|at| {
            let is_new = position > *at;
            *at = (*at).max(position);
            is_new
        });
    }
}

async fn read(mut reader: ShardReader, batches: Sender<Result<Batch>>, mut acknowledged: watch::Receiver<u64>) {
    loop {
        let read = tokio::select! {
            batch = reader.next(BATCH_MESSAGES, READ_WAIT) => batch,
            () = batches.closed() => return,
        };
        if acknowledged.has_changed().unwrap_or_default() {
            let position = *acknowledged.borrow_and_update();
            if let Err(error) = reader.acknowledge(position).await {
                // It is for the server's own figures.
                tracing::warn!("{}", base::chain(&error));
            }
        }
        let is_last = read.as_ref().map_or(true, |batch| batch.is_end);
        // The session may have ended.
        if batches.send(read).await.is_err() || is_last {
            return;
        }
    }
}
