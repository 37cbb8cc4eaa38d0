//! What a run of a collect did.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::failure;
use crate::flows::moment::instant_text;

/// What a run did for one item.
#[derive(Debug, Default, Clone)]
pub struct ItemReport {
    /// Its name; empty where the collect asks for one thing only.
    pub item: String,
    /// Values that are equal to what the table had.
    pub unchanged: u64,
    /// Values that the table did not have.
    pub new: u64,
    /// Values that are other than before.
    pub revised: u64,
    /// Why an answer was quarantined, with its first faults.
    pub quarantined: Vec<String>,
    /// Why the item could not be asked for.
    pub error: Option<String>,
}

/// What a run did.
#[derive(Debug, Default)]
pub struct CollectReport {
    pub items: Vec<ItemReport>,
    /// The partner asked not to be asked before this instant, so that items are left for a later run.
    pub not_before: Option<DateTime<Utc>>,
    /// Whether a later run may succeed where items failed.
    pub(super) is_retryable: bool,
}

impl CollectReport {
    /// The exit code of the run.
    pub fn exit_code(&self) -> u8 {
        match self.items.iter().any(|item| item.error.is_some()) {
            true if self.is_retryable => failure::code::RETRY,
            true => failure::code::FIX_SETUP,
            false if self.is_all_quarantined() => failure::code::FIX_INPUT,
            false => 0,
        }
    }

    /// Whether nothing could be taken.
    pub(super) fn is_all_quarantined(&self) -> bool {
        let is_taken = |item: &ItemReport| item.new + item.revised + item.unchanged > 0;
        !self.items.is_empty() && self.items.iter().all(|item| !item.quarantined.is_empty() && !is_taken(item))
    }

    /// The run's figures.
    pub fn figures(&self) -> Value {
        let sum = |count: fn(&ItemReport) -> u64| self.items.iter().map(count).sum::<u64>();
        let items = |is: fn(&ItemReport) -> bool| self.items.iter().filter(|item| is(item)).count();
        json!({
            "items": self.items.len(), "rows": sum(|item| item.new + item.revised), "new": sum(|item| item.new),
            "revised": sum(|item| item.revised), "unchanged": sum(|item| item.unchanged), "quarantined": items(|item| !item.quarantined.is_empty()),
            "failed": items(|item| item.error.is_some()), "not_before": self.not_before.map(instant_text),
        })
    }
}
