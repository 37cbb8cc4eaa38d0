//! Reads the shards of a stream of JetStream, each by a durable consumer of its own.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::pull::MessagesErrorKind;
use async_nats::jetstream::consumer::{self, AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::{self, AckKind, Message, stream};
use futures::{FutureExt, StreamExt};

use super::{connect, context_of, identity, open, shards, subject};
use crate::address::Address;
use crate::error::{Context, Error, Kind, Result};
use crate::record::{Batch, Delivery, Lag, ShardState, Start, StartPosition};

/// How long the server waits for an acknowledgement before it sends a message again. A message that comes again is not
/// passed on.
const ACK_WAIT: Duration = Duration::from_secs(3600);

/// How much the server sends ahead: it ends a connection that takes too long for what it was sent.
const AHEAD_BYTES: usize = 16 << 20;
/// The size of a batch that is passed on.
const BATCH_BYTES: usize = 8 << 20;
/// Between two looks at what the stream has removed.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Reads a stream.
pub struct Reader {
    jetstream: jetstream::Context,
    address: Address,
    name: String,
}

/// Reads a shard.
pub struct ShardReader {
    stream: stream::Stream,
    consumer: consumer::Consumer<pull::Config>,
    messages: pull::Stream,
    context: String,
    /// The position of the last message that was passed on.
    last: u64,
    /// The number of messages that have arrived, those that were sent again included.
    delivered: u64,
    /// The position up to which no message was removed before it was read, and when that was found out.
    checked: (u64, Instant),
    /// The last messages of batches, each of which acknowledges those before it.
    unacknowledged: VecDeque<(u64, Message)>,
}

impl Reader {
    pub(crate) async fn connect(address: &Address, name: &str) -> Result<Reader> {
        let jetstream = context_of(connect(address).await?);
        let stream = open(&jetstream, address, None).await?;
        shards(&stream, address)?;
        Ok(Reader { jetstream, address: address.clone(), name: name.to_owned() })
    }

    pub(crate) async fn shards(&self) -> Result<Vec<ShardState>> {
        let stream = open(&self.jetstream, &self.address, None).await?;
        let count = shards(&stream, &self.address)?;
        Ok((0..count).map(|shard| ShardState { id: shard.to_string(), parents: Vec::new() }).collect())
    }

    pub(crate) async fn identity(&self) -> Result<String> {
        let stream = open(&self.jetstream, &self.address, None).await?;
        Ok(identity(&stream))
    }

    pub(crate) async fn open(&self, shard: &str, start: &StartPosition) -> Result<ShardReader> {
        let context = format!("read shard {shard} of {}", self.address.display());
        let stream = open(&self.jetstream, &self.address, None).await?;
        let number: u32 = shard.parse().during(Kind::Bug, context.clone())?;
        let state = &stream.cached_info().state;
        let deliver_policy = match start {
            StartPosition::From(Start::Beginning) => DeliverPolicy::All,
            StartPosition::From(Start::New) => DeliverPolicy::New,
            StartPosition::From(Start::At(at)) => DeliverPolicy::ByStartTime { start_time: *at },
            StartPosition::After { position, .. } => {
                check_kept(*position, state, &context)?;
                DeliverPolicy::ByStartSequence { start_sequence: position + 1 }
            }
        };
        let name = format!("{}-{shard}", self.name);
        // One that exists is another worker's, which ends with it, or is of an earlier position.
        let deleted = stream.delete_consumer(&name).await;
        if let Err(error) = deleted
            && !matches!(error.kind(), stream::ConsumerErrorKind::JetStream(ref cause)
                if cause.error_code() == jetstream::ErrorCode::CONSUMER_NOT_FOUND)
        {
            return Err(Error::retry(context).because(error));
        }
        let config = pull::Config {
            durable_name: Some(name),
            deliver_policy,
            ack_policy: AckPolicy::All,
            ack_wait: ACK_WAIT,
            max_ack_pending: -1,
            filter_subject: subject(&self.address.stream, number),
            ..pull::Config::default()
        };
        let consumer = stream.create_consumer(config).await.during(Kind::Retry, context.clone())?;
        let messages = consumer.stream().max_bytes_per_batch(AHEAD_BYTES).messages().await;
        let messages = messages.during(Kind::Retry, context.clone())?;
        let last = match start {
            StartPosition::After { position, .. } => *position,
            StartPosition::From(_) => 0,
        };
        let (delivered, checked, unacknowledged) = (0, (last, Instant::now()), VecDeque::new());
        Ok(ShardReader { stream, consumer, messages, context, last, delivered, checked, unacknowledged })
    }
}

/// Refuses a position after which messages were removed, or which the stream does not have.
fn check_kept(position: u64, state: &stream::State, context: &str) -> Result<()> {
    let lost = |what: String| {
        let hint = "read the tables again: `wattlake transfer resync` for the transfer that publishes";
        Error::input(format!("{context}: {what}")).state("messages-lost").hint(hint)
    };
    if state.first_sequence > position + 1 {
        let removed = format!("messages {} to {} were removed", position + 1, state.first_sequence - 1);
        return Err(lost(format!("{removed} before they were read")));
    }
    if state.last_sequence < position {
        let what = format!("it was read up to message {position}, and the stream ends at {}", state.last_sequence);
        return Err(lost(format!("{what}: the stream was deleted, or has lost messages")));
    }
    Ok(())
}

impl ShardReader {
    pub(crate) async fn next(&mut self, max: usize, wait: Duration) -> Result<Batch> {
        let (mut batch, mut newest, mut bytes) = (Batch::default(), None, 0);
        let mut next = tokio::time::timeout(wait, self.messages.next()).await.ok();
        while let Some(message) = next {
            let message = match message {
                Some(Ok(message)) => message,
                // Another worker has begun to read the shard.
                Some(Err(error)) if matches!(error.kind(), MessagesErrorKind::ConsumerDeleted) => {
                    return Err(Error::retry(self.context.clone()).state("shard-taken").because(error));
                }
                Some(Err(error)) => return Err(Error::retry(self.context.clone()).because(error)),
                None => return Err(Error::retry(format!("{}: the consumer has ended", self.context))),
            };
            let info = message.info().map_err(|error| Error::retry(self.context.clone()).because(error.to_string()))?;
            let (position, pending) = (info.stream_sequence, info.pending);
            let stored_at = info.published.timestamp_micros();
            batch.lag.messages = Some(pending);
            if info.consumer_sequence != self.delivered + 1 {
                // The connection was interrupted, or two workers that began at the same time have both opened the shard: what
                // was on its way is asked for again, soon.
                let what = format!("{}: messages were lost on their way", self.context);
                return Err(Error::retry(what).state("shard-taken"));
            }
            self.delivered = info.consumer_sequence;
            bytes += message.payload.len();
            // One that is sent again was passed on before.
            if position > self.last {
                self.last = position;
                batch.deliveries.push(Delivery {
                    position,
                    sequence: position.to_string(),
                    stored_at,
                    partition_key: None,
                    data: message.payload.clone(),
                });
                newest = Some((position, message));
            }
            if batch.deliveries.len() >= max || bytes >= BATCH_BYTES {
                break;
            }
            next = self.messages.next().now_or_never();
        }
        self.unacknowledged.extend(newest);
        if batch.deliveries.is_empty() {
            (batch.reached, batch.lag) = self.reached().await?;
        } else if self.checked.1.elapsed() >= CHECK_INTERVAL {
            self.stream.info().await.during(Kind::Retry, self.context.clone())?;
            self.check()?;
        }
        Ok(batch)
    }

    /// Refuses to go on where the stream has removed messages that may not have been read.
    fn check(&mut self) -> Result<()> {
        // Before the first message nothing is known to be missing.
        if self.checked.0 > 0 {
            check_kept(self.checked.0, &self.stream.cached_info().state, &self.context)?;
        }
        self.checked = (self.last, Instant::now());
        Ok(())
    }

    /// The end of the stream, where the shard has no message that was not delivered.
    async fn reached(&mut self) -> Result<(Option<u64>, Lag)> {
        let end = self.stream.info().await.during(Kind::Retry, self.context.clone())?.state.last_sequence;
        self.check()?;
        let info = self.consumer.info().await.during(Kind::Retry, self.context.clone())?;
        let pending = info.num_pending;
        // Delivered by the server, and perhaps on its way.
        let is_here = info.delivered.consumer_sequence <= self.delivered;
        let reached = (pending == 0 && is_here).then_some(end.max(self.last));
        if let Some(end) = reached {
            (self.last, self.checked.0) = (end, end);
        }
        Ok((reached, Lag { messages: Some(pending), millis: (pending == 0).then_some(0) }))
    }

    pub(crate) async fn acknowledge(&mut self, position: u64) -> Result<()> {
        let done = self.unacknowledged.iter().take_while(|(newest, _)| *newest <= position).count();
        let Some((_, message)) = self.unacknowledged.drain(..done).last() else { return Ok(()) };
        message.ack_with(AckKind::Ack).await.map_err(|error| Error::retry(self.context.clone()).because(error))
    }
}
