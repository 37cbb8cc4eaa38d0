//! Stores messages in a stream of JetStream.
//!
//! The server stores the messages of a connection in their order. Only the last of a batch asks for an answer, and names
//! the sequence number that must precede it: where a message before it was lost, or somebody else has stored one, the
//! server refuses it.

use async_nats::Subject;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, stream};
use bytes::Bytes;
use futures::future::BoxFuture;

use super::{connect, context_of, identity, open, shards, subject};
use crate::address::Address;
use crate::error::{Context, Error, Kind, Result};
use crate::partition::shard_of;
use crate::record::{Destination, LastMessage, Record, StreamOptions};

/// What a message takes beside its content: subject, headers, and the protocol's own bytes.
const OVERHEAD_BYTES: usize = 1024;

/// Stores messages.
pub struct Publisher {
    jetstream: jetstream::Context,
    stream: stream::Stream,
    subjects: Vec<Subject>,
    name: String,
    /// The sequence number of the last message of the stream.
    last: u64,
    /// Nothing was stored by this connection yet.
    is_first: bool,
}

impl Publisher {
    pub(crate) async fn connect(address: &Address, options: &StreamOptions) -> Result<Publisher> {
        let jetstream = context_of(connect(address).await?);
        let mut stream = open(&jetstream, address, Some(options)).await?;
        let subjects = (0..shards(&stream, address)?).map(|shard| subject(&address.stream, shard).into()).collect();
        let name = address.display();
        let info = stream.info().await.during(Kind::Retry, format!("read the state of {name}"))?;
        let last = info.state.last_sequence;
        Ok(Publisher { jetstream, stream, subjects, name, last, is_first: true })
    }

    pub(crate) fn message_bytes_max(&self) -> usize {
        self.jetstream.client().server_info().max_payload.saturating_sub(OVERHEAD_BYTES)
    }

    pub(crate) fn identity(&self) -> String {
        identity(&self.stream)
    }

    pub(crate) async fn last(&self) -> Result<Option<LastMessage>> {
        if self.last == 0 {
            return Ok(None);
        }
        match self.stream.get_raw_message(self.last).await {
            Ok(message) => {
                let is_in_last_shard = self.subjects.last() == Some(&message.subject);
                Ok(Some(LastMessage { data: message.payload, is_in_last_shard }))
            }
            // It was removed for its age.
            Err(error) if matches!(error.kind(), stream::RawMessageErrorKind::NoMessageFound) => Ok(None),
            Err(error) => Err(Error::retry(format!("read the last message of {}", self.name)).because(error)),
        }
    }

    pub(crate) async fn publish(&mut self, records: Vec<Record>) -> Result<BoxFuture<'static, Result<()>>> {
        let context = format!("store messages in {}", self.name);
        let client = self.jetstream.client();
        let mut waiting: Option<(Subject, Bytes)> = None;
        for record in records {
            let data = Bytes::from(record.data);
            let subjects = match &record.destination {
                Destination::Key(key) => {
                    let shard = shard_of(key, self.subjects.len() as u32) as usize;
                    &self.subjects[shard..=shard]
                }
                Destination::AllShards => &self.subjects[..],
            };
            for subject in subjects {
                let Some((subject, data)) = waiting.replace((subject.clone(), data.clone())) else { continue };
                if std::mem::take(&mut self.is_first) {
                    // What an earlier connection has sent may have come since: then nothing of this one is stored.
                    let message = PublishMessage::build().payload(data).expected_last_sequence(self.last);
                    let answer = self.jetstream.send_publish(subject, message).await;
                    answer.during(Kind::Retry, context.clone())?.await.during(Kind::Retry, context.clone())?;
                    self.last += 1;
                } else {
                    client.publish(subject, data).await.during(Kind::Retry, context.clone())?;
                    self.last += 1;
                }
            }
        }
        let Some((subject, data)) = waiting else { return Ok(Box::pin(async { Ok(()) })) };
        let message = PublishMessage::build().payload(data).expected_last_sequence(self.last);
        let answer = self.jetstream.send_publish(subject, message).await.during(Kind::Retry, context.clone())?;
        self.last += 1;
        let expected = self.last;
        Ok(Box::pin(async move {
            let stored = answer.await.during(Kind::Retry, context.clone())?;
            if stored.sequence != expected {
                let what = format!("{context}: the last one has number {}, not {expected}", stored.sequence);
                return Err(Error::retry(what).state("stream-order"));
            }
            Ok(())
        }))
    }
}
