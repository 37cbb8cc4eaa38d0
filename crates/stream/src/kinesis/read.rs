//! Reads the shards of a stream of Kinesis.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::client::Client;
use crate::address::Address;
use crate::credentials::CredentialsProvider;
use crate::error::{Context, Error, Kind, Result};
use crate::record::{Batch, Delivery, Lag, ShardState, Start, StartPosition};

/// The limit of a request.
const MESSAGES_MAX: usize = 10_000;
/// A shard may be read five times a second, by all of its readers together.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Reads a stream.
pub struct Reader {
    client: Client,
}

/// Reads a shard.
pub struct ShardReader {
    client: Client,
    shard: String,
    /// Where the next request begins; `None` at the end of the shard.
    iterator: Option<String>,
    /// The position of the last message, and its name in the stream.
    last: (u64, Option<String>),
    polled_at: Option<Instant>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Shards {
    shards: Vec<Shard>,
    next_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Shard {
    pub shard_id: String,
    parent_shard_id: Option<String>,
    adjacent_parent_shard_id: Option<String>,
    hash_key_range: HashKeyRange,
    sequence_number_range: SequenceNumberRange,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HashKeyRange {
    starting_hash_key: String,
    ending_hash_key: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SequenceNumberRange {
    ending_sequence_number: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Iterator {
    shard_iterator: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Records {
    records: Vec<KinesisRecord>,
    next_shard_iterator: Option<String>,
    millis_behind_latest: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct KinesisRecord {
    sequence_number: String,
    approximate_arrival_timestamp: Option<f64>,
    data: String,
    partition_key: String,
}

impl Shard {
    /// The first and the last hash key whose messages it has.
    pub fn range(&self) -> Result<(u128, u128)> {
        let number = |text: &String| text.parse().during(Kind::Retry, format!("read the range of {}", self.shard_id));
        Ok((number(&self.hash_key_range.starting_hash_key)?, number(&self.hash_key_range.ending_hash_key)?))
    }
}

impl Client {
    /// The shards, those that were split or merged included.
    pub async fn list(&self) -> Result<Vec<Shard>> {
        let (mut shards, mut token) = (Vec::new(), None::<String>);
        loop {
            let body = match &token {
                Some(token) => json!({"NextToken": token}),
                None => json!({"StreamName": self.stream}),
            };
            let page: Shards = self.request("ListShards", &body).await?;
            shards.extend(page.shards);
            match page.next_token {
                Some(next) => token = Some(next),
                None => return Ok(shards),
            }
        }
    }

    /// The shards that take messages, each with where its range begins.
    pub async fn open_shards(&self) -> Result<Vec<(String, u128)>> {
        let shards = self.list().await?.into_iter();
        let open = shards.filter(|shard| shard.sequence_number_range.ending_sequence_number.is_none());
        open.map(|shard| Ok((shard.shard_id.clone(), shard.range()?.0))).collect()
    }
}

impl Reader {
    pub(crate) async fn connect(address: &Address, credentials: &CredentialsProvider) -> Result<Reader> {
        let client = Client::new(address, credentials)?;
        client.list().await.map_err(|error| match error.state {
            // It may be created yet.
            Some("missing") => Error::retry(error.context)
                .state("missing")
                .hint("the transfer that publishes into it creates it: start that first"),
            _ => error,
        })?;
        Ok(Reader { client })
    }

    pub(crate) async fn identity(&self) -> Result<String> {
        self.client.identity().await
    }

    pub(crate) async fn shards(&self) -> Result<Vec<ShardState>> {
        let shards = self.client.list().await?;
        let state = |shard: Shard| ShardState {
            id: shard.shard_id,
            parents: shard.parent_shard_id.into_iter().chain(shard.adjacent_parent_shard_id).collect(),
        };
        Ok(shards.into_iter().map(state).collect())
    }

    pub(crate) async fn open(&self, shard: &str, start: &StartPosition) -> Result<ShardReader> {
        ShardReader::open(&self.client, shard, start).await
    }
}

impl ShardReader {
    /// Begins to read a shard.
    pub async fn open(client: &Client, shard: &str, start: &StartPosition) -> Result<ShardReader> {
        let last = match start {
            StartPosition::After { position, sequence, .. } => {
                (*position, Some(sequence.clone()).filter(|sequence| !sequence.is_empty()))
            }
            StartPosition::From(_) => (0, None),
        };
        let mut reader =
            ShardReader { client: client.clone(), shard: shard.to_owned(), iterator: None, last, polled_at: None };
        let kind = match start {
            StartPosition::From(Start::New) => json!({"ShardIteratorType": "LATEST"}),
            StartPosition::From(Start::At(at)) => {
                json!({"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": at.timestamp_micros() as f64 / 1e6})
            }
            StartPosition::From(Start::Beginning) | StartPosition::After { .. } => reader.continued(),
        };
        reader.iterate(kind).await?;
        Ok(reader)
    }

    /// Where the next message is.
    fn continued(&self) -> Value {
        match &self.last.1 {
            Some(sequence) => {
                json!({"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": sequence})
            }
            None => json!({"ShardIteratorType": "TRIM_HORIZON"}),
        }
    }

    async fn iterate(&mut self, mut body: Value) -> Result<()> {
        body["StreamName"] = json!(self.client.stream);
        body["ShardId"] = json!(self.shard);
        let iterator: Iterator = self.client.request("GetShardIterator", &body).await?;
        self.iterator = Some(iterator.shard_iterator);
        Ok(())
    }

    pub(crate) async fn next(&mut self, max: usize, wait: Duration) -> Result<Batch> {
        let until = Instant::now() + wait;
        loop {
            if let Some(at) = self.polled_at {
                tokio::time::sleep(POLL_INTERVAL.saturating_sub(at.elapsed())).await;
            }
            self.polled_at = Some(Instant::now());
            let batch = self.poll(max).await?;
            if !batch.deliveries.is_empty() || batch.is_end || Instant::now() >= until {
                return Ok(batch);
            }
        }
    }

    async fn poll(&mut self, max: usize) -> Result<Batch> {
        let Some(iterator) = &self.iterator else { return Ok(Batch { is_end: true, ..Batch::default() }) };
        let body = json!({"ShardIterator": iterator, "Limit": max.min(MESSAGES_MAX)});
        let answer: Records = match self.client.request("GetRecords", &body).await {
            Ok(answer) => answer,
            Err(error) if error.state == Some("expired") => {
                let body = self.continued();
                self.iterate(body).await?;
                return Ok(Batch::default());
            }
            Err(error) => return Err(error),
        };
        let mut batch = Batch::default();
        for record in answer.records {
            let context = || format!("read message {} of {}", record.sequence_number, self.client.name);
            let data = STANDARD.decode(&record.data).during(Kind::Retry, context())?;
            let position = self.last.0 + 1;
            self.last = (position, Some(record.sequence_number.clone()));
            batch.deliveries.push(Delivery {
                position,
                stored_at: (record.approximate_arrival_timestamp.unwrap_or_default() * 1e6) as i64,
                sequence: record.sequence_number,
                partition_key: Some(record.partition_key),
                data: Bytes::from(data),
            });
        }
        self.iterator = answer.next_shard_iterator;
        batch.lag = Lag { messages: None, millis: answer.millis_behind_latest };
        batch.is_end = self.iterator.is_none() && batch.deliveries.is_empty();
        batch.reached = (batch.deliveries.is_empty() && answer.millis_behind_latest == Some(0)).then_some(self.last.0);
        Ok(batch)
    }
}
