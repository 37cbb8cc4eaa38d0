//! Stores messages in a stream of Kinesis.
//!
//! Kinesis may store the messages of a request and leave some out. Those of the same partition key that follow are then
//! stored before them, so that they are stored again: a reader sees the changes of a key in their order, and some of them
//! twice. Rows without a key can't come twice: a request has no changes of them whose order counts, and only those that were
//! left out are stored again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Value, json};

use super::client::Client;
use super::stored::StoredChanges;
use super::{KEY_BYTES_MAX, MESSAGE_BYTES_MAX};
use crate::address::Address;
use crate::credentials::CredentialsProvider;
use crate::error::{Error, Result};
use crate::partition::hash_key;
use crate::record::{Destination, LogPoint, Record, StreamOptions};

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
    identity: String,
    /// What an earlier publisher has stored.
    stored: StoredChanges,
    /// The last messages of the shards.
    ends: BTreeMap<String, String>,
    /// The newest change of all that were stored.
    newest: Option<LogPoint>,
}

/// A message of a request.
struct Entry {
    value: Value,
    /// Messages with the same key keep their order; `None` where the message has none in its request.
    key: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Stored {
    records: Vec<StoredRecord>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StoredRecord {
    sequence_number: Option<String>,
    shard_id: Option<String>,
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
        let identity = client.identity().await?;
        let (stored, ends) = (StoredChanges::default(), BTreeMap::new());
        Ok(Publisher { client, identity, stored, ends, newest: None })
    }

    pub(crate) async fn resume(
        &mut self,
        known: &BTreeMap<String, String>,
        since: DateTime<Utc>,
        point_of: &(dyn Fn(&[u8]) -> Option<LogPoint> + Sync),
    ) -> Result<()> {
        (self.stored, self.ends) = StoredChanges::read(&self.client, known, since, point_of).await?;
        Ok(())
    }

    pub(crate) fn ends(&self) -> Option<(Option<LogPoint>, &BTreeMap<String, String>)> {
        // While what was stored before may be sent again, its place in the shards must stay known.
        self.stored.is_empty().then_some((self.newest, &self.ends))
    }

    pub(crate) fn identity(&self) -> &str {
        &self.identity
    }

    pub(crate) async fn publish(&mut self, records: Vec<Record>) -> Result<()> {
        let mut entries: Vec<Entry> = Vec::with_capacity(records.len().min(MESSAGES_MAX));
        let (mut bytes, mut newest) = (0, self.newest);
        let mut rows: HashMap<u64, bool> = HashMap::new();
        for record in records {
            newest = newest.max(record.point);
            let Destination::Key(key) = &record.destination else {
                // Its place among the others counts.
                self.send(std::mem::take(&mut entries)).await?;
                bytes = 0;
                self.send_to_all(&record).await?;
                continue;
            };
            let key = shortened(key);
            if self.is_stored(hash_key(&key), record.point, record.row.is_none()) {
                continue;
            }
            // In one request, changes of equal rows without a key are all inserts, or all deletes.
            let is_other =
                record.row.is_some_and(|(row, removes)| rows.get(&row).is_some_and(|other| *other != removes));
            if is_other {
                self.send(std::mem::take(&mut entries)).await?;
                bytes = 0;
            }
            if entries.is_empty() {
                rows.clear();
            }
            rows.extend(record.row);
            let size = record.data.len() + KEY_BYTES_MAX;
            if entries.len() >= MESSAGES_MAX || (bytes + size > BYTES_MAX && !entries.is_empty()) {
                self.send(std::mem::take(&mut entries)).await?;
                bytes = 0;
            }
            bytes += size;
            let value = json!({"Data": STANDARD.encode(&record.data), "PartitionKey": key});
            entries.push(Entry { value, key: record.row.is_none().then_some(key) });
        }
        self.send(entries).await?;
        self.newest = newest;
        Ok(())
    }

    fn is_stored(&mut self, hash: u128, point: Option<LogPoint>, has_order: bool) -> bool {
        !self.stored.is_empty() && point.is_some_and(|point| self.stored.has(hash, point, has_order))
    }

    /// Stores a message in every shard that takes messages. One may be split meanwhile: then its children get it, too, but
    /// for one that an answer has named.
    async fn send_to_all(&mut self, record: &Record) -> Result<()> {
        let data = STANDARD.encode(&record.data);
        let mut done: HashSet<String> = HashSet::new();
        loop {
            let mut entries = Vec::new();
            for (id, begin) in self.client.open_shards().await? {
                if !done.insert(id) || self.is_stored(begin, record.point, true) {
                    continue;
                }
                let key = begin.to_string();
                let value = json!({"Data": data, "PartitionKey": "control", "ExplicitHashKey": key});
                entries.push(Entry { value, key: Some(key) });
            }
            if entries.is_empty() {
                return Ok(());
            }
            for entries in chunks(entries, MESSAGES_MAX.min(BYTES_MAX / (record.data.len() + KEY_BYTES_MAX))) {
                done.extend(self.send(entries).await?);
            }
        }
    }

    /// Stores messages, in the order of each key.
    ///
    /// Returns the shards that have them.
    async fn send(&mut self, entries: Vec<Entry>) -> Result<Vec<String>> {
        let mut shards = Vec::new();
        let (mut rest, mut wait, mut attempts) = (entries, FIRST_WAIT, 0);
        while !rest.is_empty() {
            let records: Vec<&Value> = rest.iter().map(|entry| &entry.value).collect();
            let body = json!({"StreamName": self.client.stream, "Records": records});
            let stored: Stored = self.client.request("PutRecords", &body).await?;
            if stored.records.len() != rest.len() {
                return Err(Error::retry(format!("store messages in {}: the answer is of others", self.client.name)));
            }
            let mut refused = HashSet::new();
            let (mut again, mut reason) = (Vec::new(), String::new());
            let sent = rest.len();
            for (entry, record) in rest.into_iter().zip(stored.records) {
                if let Some(code) = record.error_code {
                    reason = format!("{code} {}", record.error_message.unwrap_or_default());
                    refused.extend(entry.key.clone());
                    again.push(entry);
                    continue;
                }
                if let (Some(shard), Some(sequence)) = (record.shard_id, record.sequence_number) {
                    shards.push(shard.clone());
                    self.ends.insert(shard, sequence);
                }
                if entry.key.as_ref().is_some_and(|key| refused.contains(key)) {
                    again.push(entry);
                }
            }
            rest = again;
            if rest.is_empty() {
                break;
            }
            attempts = if rest.len() == sent { attempts + 1 } else { 0 };
            if attempts >= ATTEMPTS_MAX {
                return Err(Error::retry(format!("store messages in {}: {reason}", self.client.name)));
            }
            tokio::time::sleep(wait).await;
            wait = if attempts > 0 { (wait * 2).min(Duration::from_secs(10)) } else { FIRST_WAIT };
        }
        Ok(shards)
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
fn shortened(key: &str) -> String {
    if key.chars().count() <= KEY_BYTES_MAX { key.to_owned() } else { format!("{:032x}", hash_key(key)) }
}

/// Parts of up to `size` entries.
fn chunks(entries: Vec<Entry>, size: usize) -> Vec<Vec<Entry>> {
    let mut parts: Vec<Vec<Entry>> = Vec::new();
    for entry in entries {
        match parts.last_mut().filter(|part| part.len() < size) {
            Some(part) => part.push(entry),
            None => parts.push(vec![entry]),
        }
    }
    parts
}

const _: () = assert!(MESSAGE_BYTES_MAX < BYTES_MAX);
