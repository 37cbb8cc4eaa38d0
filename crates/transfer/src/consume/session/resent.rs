//! Messages that can't be applied, and those that a user has sent again.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use stream::Delivery;
use stream::message::{Body, Message};

use super::super::quarantine::{Quarantine, QuarantinedMessage};
use super::{QUARANTINED_MAX, RESENT, RESENT_INTERVAL, Session};
use crate::changes::StreamStore;
use crate::error::{Error, Result};

impl Session {
    /// Whether to look for messages that a user has sent again.
    pub(super) fn is_resent_due(&mut self) -> bool {
        let has_all = self.shards.iter().all(|shard| shard.is_caught_up && shard.held.is_empty());
        let is_due = has_all && self.resent_at.elapsed() >= RESENT_INTERVAL;
        if is_due {
            self.resent_at = Instant::now();
        }
        is_due
    }

    /// Applies messages that a user has sent again. Returns whether there were any.
    pub(super) fn apply_resent(&mut self) -> Result<bool> {
        // One worker does it: that of the first shard.
        let is_first = self.part.readable.first() == self.shards.first().map(|shard| &shard.id);
        if !is_first || !self.resent.is_empty() {
            return Ok(false);
        }
        let request = Arc::clone(&self.part.request);
        let quarantine = Quarantine::new(StreamStore::Lake(&request.lake), &request.settings.name);
        let resent = self.runtime.block_on(quarantine.resent())?;
        for message in &resent {
            let content = Bytes::from(message.content());
            let shard = format!("{RESENT}{}", message.id());
            let outcome = match Message::parse(&content) {
                Err(reason) => Err(reason),
                Ok(Message { body: Body::Data { operation, values, before }, metadata }) => {
                    self.change((&shard, 1, content.len()), &metadata, operation, &values, before.as_ref())?
                }
                Ok(_) => Err("a control message can't be sent again".to_owned()),
            };
            if let Err(reason) = outcome {
                let again = QuarantinedMessage { reason, ..message.clone() };
                self.runtime.block_on(quarantine.add(&again))?;
            }
            self.resent.push(message.id());
        }
        Ok(!resent.is_empty())
    }

    pub(super) fn quarantine(&mut self, shard: &str, delivery: &Delivery, reason: &str) -> Result<()> {
        self.quarantined += 1;
        let request = &self.part.request;
        tracing::warn!(shard, position = delivery.position, "a message is quarantined: {reason}");
        if self.quarantined > QUARANTINED_MAX {
            let what =
                format!("read {}: {QUARANTINED_MAX} messages can't be applied: {reason}", request.address.display());
            return Err(Error::input(what).state("quarantined").hint("is it the stream that was meant?"));
        }
        let message = QuarantinedMessage::new(shard, delivery, reason);
        let quarantine = Quarantine::new(StreamStore::Lake(&request.lake), &request.settings.name);
        self.runtime.block_on(quarantine.add(&message))
    }
}
