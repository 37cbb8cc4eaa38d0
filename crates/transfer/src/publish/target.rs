//! The stream as the target of a transfer.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::BoxFuture;
use lake::Lake;
use stream::message::{Body, Message, MessageSettings, Metadata};
use stream::{Address, CredentialsProvider, LastMessage, LogPoint, Publisher, Record, StreamOptions};
use tokio::sync::Mutex;

use super::record::{PublishRecord, point};
use crate::changes::StreamStore;
use crate::error::{Error, Result};
use crate::lsn::Lsn;

/// How far the clock of a stream's servers may be behind: a request that is signed by another time is refused.
const CLOCK_DIFFERENCE: TimeDelta = TimeDelta::minutes(15);

/// The stream that a transfer publishes into. Its copies share one connection, since the order of the messages counts.
#[derive(Clone)]
pub struct StreamTarget {
    /// The stream.
    pub address: Address,
    /// How it is created.
    pub options: StreamOptions,
    /// What messages contain.
    pub messages: MessageSettings,
    /// Keys for it.
    pub credentials: CredentialsProvider,
    /// Where the records of the transfer are kept.
    pub records: Lake,
    connection: Arc<Mutex<Option<Publisher>>>,
    record: Arc<Mutex<()>>,
}

impl StreamTarget {
    /// A target that is not connected yet.
    pub fn new(
        address: Address,
        options: StreamOptions,
        messages: MessageSettings,
        credentials: CredentialsProvider,
        records: Lake,
    ) -> StreamTarget {
        let (connection, record) = (Arc::default(), Arc::default());
        StreamTarget { address, options, messages, credentials, records, connection, record }
    }

    /// Connects, where there is no connection, and returns the record of the transfer: the last change that the stream has,
    /// and its tables. A stream that was created again has none.
    ///
    /// `stream` is the id of the slot's stream: positions of another source's log, or of another publisher, don't count.
    pub async fn connect(&self, transfer: &str, stream: &str) -> Result<PublishRecord> {
        let mut connection = self.connection.lock().await;
        if connection.is_some() {
            return self.read_record(transfer).await;
        }
        let mut publisher = Publisher::connect(&self.address, &self.options, &self.credentials).await?;
        let last = publisher.last().await?.and_then(|message| point_of_last(&message, stream));
        let identity = Some(publisher.identity());
        let now = Utc::now();
        // In one write: where it ends before, the next session finds the same.
        let change = |record: &mut PublishRecord| {
            if record.identity.is_some() && record.identity != identity {
                tracing::warn!("{} is another stream than before: the tables are read again", self.address.display());
                record.tables.clear();
                record.shards.clear();
                (record.last, record.since) = (None, None);
                record.is_new_stream = true;
            }
            // Rows of tables may be stored behind it, and then it is not the stream's last message any more.
            record.last = record.last_of(stream).max(last);
            record.stream = Some(stream.to_owned());
            record.identity = identity;
            record.since.get_or_insert((now - CLOCK_DIFFERENCE).timestamp_micros());
        };
        let record = self.update_record(transfer, change).await?;
        let since = record.since.and_then(DateTime::from_timestamp_micros).unwrap_or(now);
        let point_of = |data: &[u8]| point_of(&Message::parse(data).ok()?.metadata, stream);
        publisher.resume(&record.shards, since, &point_of).await?;
        *connection = Some(publisher);
        Ok(record)
    }

    /// Ends the connection: the next batch is sent by a new one.
    pub async fn disconnect(&self) {
        *self.connection.lock().await = None;
    }

    /// Sends messages. The future ends when they are stored.
    pub async fn send(&self, records: Vec<Record>) -> Result<BoxFuture<'static, Result<()>>> {
        let mut connection = self.connection.lock().await;
        let publisher = connection.as_mut().ok_or_else(|| Error::retry("store messages: the connection has ended"))?;
        let sent = publisher.publish(records).await;
        if sent.is_err() {
            *connection = None;
        }
        sent
    }

    /// Records up to where the shards have all messages, where the stream does not tell.
    pub async fn note_shards(&self, transfer: &str) -> Result<()> {
        let connection = self.connection.lock().await;
        let Some((last, shards)) = connection.as_ref().and_then(Publisher::ends) else { return Ok(()) };
        let change = |record: &mut PublishRecord| {
            record.last = record.last.max(last);
            record.shards.clone_from(shards);
        };
        self.update_record(transfer, change).await.map(drop)
    }

    /// The size of the largest message.
    pub async fn message_bytes_max(&self) -> usize {
        self.connection.lock().await.as_ref().map_or(usize::MAX, Publisher::message_bytes_max)
    }

    /// The record of a transfer.
    pub async fn read_record(&self, transfer: &str) -> Result<PublishRecord> {
        let Some(text) = StreamStore::Lake(&self.records).read(&name(transfer)).await? else {
            return Ok(PublishRecord::default());
        };
        serde_json::from_slice(&text).map_err(|e| Error::setup("read the record of the published tables").because(e))
    }

    /// Changes the record of a transfer, and returns it.
    pub async fn update_record(
        &self,
        transfer: &str,
        change: impl FnOnce(&mut PublishRecord),
    ) -> Result<PublishRecord> {
        let _lock = self.record.lock().await;
        let before = self.read_record(transfer).await?;
        let mut record = before.clone();
        change(&mut record);
        if record != before {
            let text = serde_json::to_vec_pretty(&record)
                .map_err(|e| Error::bug("write the record of the published tables").because(e))?;
            StreamStore::Lake(&self.records).write(&name(transfer), text).await?;
        }
        Ok(record)
    }
}

/// The name of the record.
fn name(transfer: &str) -> String {
    format!("{transfer}.published")
}

/// A position in the log of a stream, as messages have it.
pub fn position_text(commit: Lsn, stream: &str) -> String {
    format!("{commit}@{stream}")
}

/// The change that a message is of; `None` of a row that was read with its table, and of other programs' messages.
fn point_of(metadata: &Metadata<'_>, stream: &str) -> Option<LogPoint> {
    let (commit, of) = metadata.stream_position.as_deref()?.split_once('@')?;
    let commit: Lsn = commit.parse().ok().filter(|_| of == stream)?;
    Some(point(commit, metadata.transaction_record_id?))
}

/// The last change that a stream has, whose last message this is.
fn point_of_last(last: &LastMessage, stream: &str) -> Option<LogPoint> {
    let message = Message::parse(&last.data).ok()?;
    let point = point_of(&message.metadata, stream)?;
    // A message for all shards is stored again in each of them where one does not have it.
    let is_whole = last.is_in_last_shard || matches!(message.body, Body::Data { .. });
    Some(if is_whole { point } else { LogPoint { record: point.record.saturating_sub(1), ..point } })
}
