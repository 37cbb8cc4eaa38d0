//! Stores messages in a stream of Kinesis.
//!
//! Kinesis may store the messages of a request and leave some out. Those that follow are then stored before them, so that
//! all messages from the first that was left out on are stored again: a reader sees the changes of a key in their order,
//! and some of them twice.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::client::Client;
use super::{KEY_BYTES_MAX, MESSAGE_BYTES_MAX};
use crate::address::Address;
use crate::credentials::CredentialsProvider;
use crate::error::{Error, Result};
use crate::partition::hash_key;
use crate::record::{Destination, Record, StreamOptions};

/// The limits of a request.
const MESSAGES_MAX: usize = 500;
const BYTES_MAX: usize = 4 << 20;

/// How often a request is sent of which nothing was stored.
const ATTEMPTS_MAX: u32 = 10;
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// How long a new stream may take until it can be used.
const CREATION_WAIT: Duration = Duration::from_secs(300);
const CREATION_POLL: Duration = Duration::from_millis(500);

/// Stores messages.
pub struct Publisher {
    client: Client,
    /// Where the ranges of the open shards begin.
    shards: Vec<String>,
    identity: String,
}

/// A message of a request.
struct Entry {
    value: Value,
    bytes: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Stored {
    records: Vec<StoredRecord>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StoredRecord {
    error_code: Option<String>,
    error_message: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Summary {
    stream_description_summary: StreamSummary,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StreamSummary {
    stream_status: String,
}

impl Publisher {
    pub(crate) async fn connect(
        address: &Address,
        options: &StreamOptions,
        credentials: &CredentialsProvider,
    ) -> Result<Publisher> {
        let client = Client::new(address, credentials)?;
        create(&client, options).await?;
        let shards = client.open_ranges().await?;
        let identity = client.identity().await?;
        Ok(Publisher { client, shards, identity })
    }

    pub(crate) fn identity(&self) -> &str {
        &self.identity
    }

    pub(crate) async fn publish(&mut self, records: Vec<Record>) -> Result<()> {
        let mut entries: Vec<Entry> = Vec::with_capacity(records.len().min(MESSAGES_MAX));
        let mut bytes = 0;
        for record in records {
            if record.destination == Destination::AllShards {
                // Shards may have been split since.
                self.send(std::mem::take(&mut entries)).await?;
                bytes = 0;
                self.shards = self.client.open_ranges().await?;
            }
            for entry in self.entries(record) {
                if entries.len() >= MESSAGES_MAX || (bytes + entry.bytes > BYTES_MAX && !entries.is_empty()) {
                    self.send(std::mem::take(&mut entries)).await?;
                    bytes = 0;
                }
                bytes += entry.bytes;
                entries.push(entry);
            }
        }
        self.send(entries).await
    }

    fn entries(&self, record: Record) -> Vec<Entry> {
        let data = STANDARD.encode(&record.data);
        let bytes = record.data.len() + KEY_BYTES_MAX;
        let entry = |value: Value| Entry { value, bytes };
        match record.destination {
            Destination::Key(key) => {
                vec![entry(json!({"Data": data, "PartitionKey": shortened(key)}))]
            }
            Destination::AllShards => {
                let of =
                    |begin: &String| entry(json!({"Data": data, "PartitionKey": "control", "ExplicitHashKey": begin}));
                self.shards.iter().map(of).collect()
            }
        }
    }

    /// Stores messages, in their order.
    async fn send(&self, entries: Vec<Entry>) -> Result<()> {
        let (mut rest, mut wait, mut attempts) = (&entries[..], FIRST_WAIT, 0);
        while !rest.is_empty() {
            let records: Vec<&Value> = rest.iter().map(|entry| &entry.value).collect();
            let body = json!({"StreamName": self.client.stream, "Records": records});
            let stored: Stored = self.client.request("PutRecords", &body).await?;
            if stored.records.len() != rest.len() {
                return Err(Error::retry(format!("store messages in {}: the answer is of others", self.client.name)));
            }
            let failed = stored.records.iter().position(|record| record.error_code.is_some());
            let Some(first) = failed else { return Ok(()) };
            attempts = if first == 0 { attempts + 1 } else { 0 };
            if attempts >= ATTEMPTS_MAX {
                let record = &stored.records[first];
                let (code, text) = (record.error_code.as_deref(), record.error_message.as_deref());
                let what = format!("store messages in {}: {}", self.client.name, code.unwrap_or_default());
                return Err(Error::retry(format!("{what} {}", text.unwrap_or_default())));
            }
            rest = &rest[first..];
            tokio::time::sleep(wait).await;
            wait = if first == 0 { (wait * 2).min(Duration::from_secs(10)) } else { FIRST_WAIT };
        }
        Ok(())
    }
}

/// Creates the stream, where it does not exist, and waits until it can be used.
async fn create(client: &Client, options: &StreamOptions) -> Result<()> {
    let described = json!({"StreamName": client.stream});
    let began = std::time::Instant::now();
    loop {
        let summary = client.request::<Summary>("DescribeStreamSummary", &described).await;
        match summary {
            Ok(summary) => match summary.stream_description_summary.stream_status.as_str() {
                "ACTIVE" | "UPDATING" => return Ok(()),
                status if began.elapsed() > CREATION_WAIT => {
                    return Err(Error::retry(format!("open {}: it is {status}", client.name)));
                }
                _ => {}
            },
            Err(error) if error.state == Some("missing") => {
                let body = json!({"StreamName": client.stream, "ShardCount": options.shards});
                let created = client.request::<Value>("CreateStream", &body).await;
                created.map(drop).or_else(|error| if error.state == Some("exists") { Ok(()) } else { Err(error) })?;
                let hours = (options.retention.as_secs() / 3600).clamp(24, 8760);
                if hours > 24 {
                    wait_until_active(client, began).await?;
                    let body = json!({"StreamName": client.stream, "RetentionPeriodHours": hours});
                    client.request::<Value>("IncreaseStreamRetentionPeriod", &body).await?;
                }
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(CREATION_POLL).await;
    }
}

async fn wait_until_active(client: &Client, began: std::time::Instant) -> Result<()> {
    let described = json!({"StreamName": client.stream});
    loop {
        let summary = client.request::<Summary>("DescribeStreamSummary", &described).await?;
        match summary.stream_description_summary.stream_status.as_str() {
            "ACTIVE" => return Ok(()),
            status if began.elapsed() > CREATION_WAIT => {
                return Err(Error::retry(format!("create {}: it is {status}", client.name)));
            }
            _ => tokio::time::sleep(CREATION_POLL).await,
        }
    }
}

/// A key of the length that Kinesis allows: a longer one is its hash.
fn shortened(key: String) -> String {
    if key.chars().count() <= KEY_BYTES_MAX { key } else { format!("{:032x}", hash_key(&key)) }
}

const _: () = assert!(MESSAGE_BYTES_MAX < BYTES_MAX);
