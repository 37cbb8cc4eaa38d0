//! A program that is called with the messages of a shard, as Kinesis calls a function of AWS Lambda.
//!
//! <https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html>

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use stream::Delivery;

use crate::error::Result;

/// What is called, and with how many messages.
#[derive(Clone)]
pub struct HandlerSettings {
    /// What is called.
    pub handler: Arc<dyn BatchHandler>,
    /// The most messages of a call.
    pub batch_size: usize,
    /// How long a batch waits to become full.
    pub batch_window: Duration,
    /// Whether a batch that fails is divided, so that one message does not hold up the others.
    pub bisects: bool,
    /// How often a batch is tried again before its messages are quarantined; without an end where it is absent.
    pub retries_max: Option<u32>,
}

/// The outcome of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchOutcome {
    /// All messages are done.
    Done,
    /// The messages before this one are done, by the answer of the function.
    FailedFrom(usize),
    /// The call has failed: the function's error.
    Failed(String),
}

/// Is called with messages.
#[async_trait]
pub trait BatchHandler: Send + Sync {
    /// Calls with messages of a shard, in their order. A call may come again with messages of an earlier one.
    ///
    /// # Errors
    /// Where it could not be called.
    async fn call(&self, shard: &str, messages: &[Delivery]) -> Result<BatchOutcome>;
}
