//! A stream, whichever system carries it.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;

use crate::address::{Address, Broker};
use crate::credentials::CredentialsProvider;
use crate::error::Result;
use crate::record::{Batch, LastMessage, LogPoint, Record, ShardState, StartPosition, StreamOptions};
use crate::{kinesis, nats};

/// Stores messages in a stream, in their order.
pub enum Publisher {
    /// In NATS JetStream.
    Nats(Box<nats::Publisher>),
    /// In Kinesis.
    Kinesis(Box<kinesis::Publisher>),
}

impl Publisher {
    /// Connects to a stream, which is created where it does not exist.
    ///
    /// # Errors
    /// `Retry` where the server can't be reached; `FixSetup` where it refuses the credentials or the stream.
    pub async fn connect(
        address: &Address,
        options: &StreamOptions,
        credentials: &CredentialsProvider,
    ) -> Result<Publisher> {
        Ok(match &address.broker {
            Broker::Nats { .. } => Publisher::Nats(Box::new(nats::Publisher::connect(address, options).await?)),
            Broker::Kinesis { .. } => {
                Publisher::Kinesis(Box::new(kinesis::Publisher::connect(address, options, credentials).await?))
            }
        })
    }

    /// The message that was stored last, by whomever; `None` where the stream is empty, or where it does not tell.
    pub async fn last(&self) -> Result<Option<LastMessage>> {
        match self {
            Publisher::Nats(publisher) => publisher.last().await,
            Publisher::Kinesis(_) => Ok(None),
        }
    }

    /// Finds out which changes the stream has, of those that may be sent again, so that they are not stored twice: `known`
    /// are the last messages of [`Publisher::ends`], `since` is when the first message was stored. It concerns systems
    /// for which [`Publisher::last`] does not tell.
    ///
    /// # Errors
    /// Where the shards can't be read.
    pub async fn resume(
        &mut self,
        known: &BTreeMap<String, String>,
        since: DateTime<Utc>,
        point_of: &(dyn Fn(&[u8]) -> Option<LogPoint> + Sync),
    ) -> Result<()> {
        match self {
            Publisher::Nats(_) => Ok(()),
            Publisher::Kinesis(publisher) => publisher.resume(known, since, point_of).await,
        }
    }

    /// The newest change that this publisher has stored, with all before it, and the last message of each shard; `None`
    /// while that is not known, and where [`Publisher::last`] tells.
    pub fn ends(&self) -> Option<(Option<LogPoint>, &BTreeMap<String, String>)> {
        match self {
            Publisher::Nats(_) => None,
            Publisher::Kinesis(publisher) => publisher.ends(),
        }
    }

    /// What tells the stream from another one, also of its name, which was created later.
    pub fn identity(&self) -> String {
        match self {
            Publisher::Nats(publisher) => publisher.identity(),
            Publisher::Kinesis(publisher) => publisher.identity().to_owned(),
        }
    }

    /// The size of the largest message that can be stored.
    pub fn message_bytes_max(&self) -> usize {
        match self {
            Publisher::Nats(publisher) => publisher.message_bytes_max(),
            Publisher::Kinesis(_) => kinesis::MESSAGE_BYTES_MAX,
        }
    }

    /// Sends messages. The future that is returned ends when all of them are stored; another batch may be sent before.
    ///
    /// # Errors
    /// `Retry`, from here or from the future, where it is not known which of the messages are stored. A publisher is of
    /// no use after an error.
    pub async fn publish(&mut self, records: Vec<Record>) -> Result<BoxFuture<'static, Result<()>>> {
        match self {
            Publisher::Nats(publisher) => publisher.publish(records).await,
            Publisher::Kinesis(publisher) => {
                publisher.publish(records).await?;
                Ok(Box::pin(async { Ok(()) }))
            }
        }
    }
}

/// Reads a stream.
pub enum Reader {
    /// NATS JetStream.
    Nats(nats::Reader),
    /// Kinesis.
    Kinesis(kinesis::Reader),
}

impl Reader {
    /// Connects to a stream as the reader with this name: readers of other names don't affect it.
    ///
    /// # Errors
    /// `Retry` where the server can't be reached; `FixSetup` where there is no such stream, or it may not be read.
    pub async fn connect(address: &Address, name: &str, credentials: &CredentialsProvider) -> Result<Reader> {
        Ok(match &address.broker {
            Broker::Nats { .. } => Reader::Nats(nats::Reader::connect(address, name).await?),
            Broker::Kinesis { .. } => Reader::Kinesis(kinesis::Reader::connect(address, credentials).await?),
        })
    }

    /// The shards, those that were split or merged included.
    pub async fn shards(&self) -> Result<Vec<ShardState>> {
        match self {
            Reader::Nats(reader) => reader.shards().await,
            Reader::Kinesis(reader) => reader.shards().await,
        }
    }

    /// What tells the stream from another one, also of its name, which was created later.
    pub async fn identity(&self) -> Result<String> {
        match self {
            Reader::Nats(reader) => reader.identity().await,
            Reader::Kinesis(reader) => reader.identity().await,
        }
    }

    /// Begins to read a shard.
    ///
    /// # Errors
    /// `FixInput` with the state `messages-lost` where messages after the position were removed before they were read.
    pub async fn open(&self, shard: &str, start: &StartPosition) -> Result<ShardReader> {
        Ok(match self {
            Reader::Nats(reader) => ShardReader::Nats(Box::new(reader.open(shard, start).await?)),
            Reader::Kinesis(reader) => ShardReader::Kinesis(Box::new(reader.open(shard, start).await?)),
        })
    }
}

/// Reads a shard.
pub enum ShardReader {
    /// Of NATS JetStream.
    Nats(Box<nats::ShardReader>),
    /// Of Kinesis.
    Kinesis(Box<kinesis::ShardReader>),
}

impl ShardReader {
    /// The next messages, up to `max`. Returns without any after about `wait`.
    pub async fn next(&mut self, max: usize, wait: Duration) -> Result<Batch> {
        match self {
            ShardReader::Nats(reader) => reader.next(max, wait).await,
            ShardReader::Kinesis(reader) => reader.next(max, wait).await,
        }
    }

    /// Tells the server up to where messages are not needed again, so that its own figures are right. Where a shard is
    /// read from is decided by the caller's position, not by this.
    pub async fn acknowledge(&mut self, position: u64) -> Result<()> {
        match self {
            ShardReader::Nats(reader) => reader.acknowledge(position).await,
            ShardReader::Kinesis(_) => Ok(()),
        }
    }
}
