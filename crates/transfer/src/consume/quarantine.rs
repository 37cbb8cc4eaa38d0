//! Messages that can't be applied: each is kept with its reason, until a user sends it again or removes it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use stream::Delivery;

use crate::changes::StreamStore;
use crate::error::{Error, Result};

/// A message that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantinedMessage {
    /// Its shard.
    pub shard: String,
    /// Its position in the shard.
    pub position: u64,
    /// The name of the position in the stream.
    pub sequence: String,
    /// Its partition key, where the stream keeps it.
    #[serde(default)]
    pub partition_key: Option<String>,
    /// When it was stored in the stream, in microseconds since 1970.
    pub stored_at: i64,
    /// Why it can't be applied.
    pub reason: String,
    /// The message, where it is a text.
    pub message: Option<String>,
    /// The message in base64, where it is none.
    pub bytes: Option<String>,
}

impl QuarantinedMessage {
    /// A message with the reason.
    pub fn new(shard: &str, delivery: &Delivery, reason: &str) -> QuarantinedMessage {
        let text = std::str::from_utf8(&delivery.data).ok();
        QuarantinedMessage {
            shard: shard.to_owned(),
            position: delivery.position,
            sequence: delivery.sequence.clone(),
            partition_key: delivery.partition_key.clone(),
            stored_at: delivery.stored_at,
            reason: reason.to_owned(),
            message: text.map(str::to_owned),
            bytes: text.is_none().then(|| STANDARD.encode(&delivery.data)),
        }
    }

    /// Its content.
    pub fn content(&self) -> Vec<u8> {
        match (&self.message, &self.bytes) {
            (Some(text), _) => text.clone().into_bytes(),
            (None, Some(bytes)) => STANDARD.decode(bytes).unwrap_or_default(),
            (None, None) => Vec::new(),
        }
    }

    /// Its name among the messages that are kept.
    pub fn id(&self) -> String {
        format!("{}-{}", self.shard, self.position)
    }
}

/// The messages of a transfer that are kept.
#[derive(Clone, Copy)]
pub struct Quarantine<'a> {
    store: StreamStore<'a>,
    transfer: &'a str,
}

impl<'a> Quarantine<'a> {
    /// Those of a transfer.
    pub fn new(store: StreamStore<'a>, transfer: &'a str) -> Quarantine<'a> {
        Quarantine { store, transfer }
    }

    fn folder(&self, is_resent: bool) -> String {
        format!("{}.{}", self.transfer, if is_resent { "resent" } else { "quarantine" })
    }

    /// Keeps a message.
    pub async fn add(&self, message: &QuarantinedMessage) -> Result<()> {
        self.write(&format!("{}/{}", self.folder(false), message.id()), message).await
    }

    async fn write(&self, name: &str, message: &QuarantinedMessage) -> Result<()> {
        let text = serde_json::to_vec_pretty(message).map_err(|e| Error::bug("keep a message").because(e))?;
        self.store.write(name, text).await
    }

    /// The messages that are kept.
    pub async fn list(&self) -> Result<Vec<QuarantinedMessage>> {
        self.messages(false).await
    }

    /// The messages that are to be applied again.
    pub async fn resent(&self) -> Result<Vec<QuarantinedMessage>> {
        self.messages(true).await
    }

    async fn messages(&self, is_resent: bool) -> Result<Vec<QuarantinedMessage>> {
        let folder = self.folder(is_resent);
        let mut messages: Vec<QuarantinedMessage> = Vec::new();
        for (name, _) in self.store.list(&folder).await? {
            let Some(text) = self.store.read(&format!("{folder}/{name}")).await? else { continue };
            messages.push(serde_json::from_slice(&text).map_err(|e| Error::setup("read a kept message").because(e))?);
        }
        messages.sort_by_key(|message| (message.stored_at, message.position));
        Ok(messages)
    }

    /// Has a message applied again by a worker. Its row is then what the message says, also where later messages have
    /// changed it.
    pub async fn resend(&self, message: &QuarantinedMessage) -> Result<()> {
        // In this order: where it ends in between, the message is applied, and is still listed.
        self.write(&format!("{}/{}", self.folder(true), message.id()), message).await?;
        self.remove(&message.id()).await
    }

    /// Removes a message.
    pub async fn remove(&self, id: &str) -> Result<()> {
        self.store.remove(&format!("{}/{id}", self.folder(false))).await
    }

    /// A message was applied.
    pub async fn finish(&self, id: &str) -> Result<()> {
        self.store.remove(&format!("{}/{id}", self.folder(true))).await
    }
}
