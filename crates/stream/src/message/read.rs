//! Reads messages. Values stay as their JSON text, so that no digit of a number is lost.

use std::borrow::Cow;
use std::fmt;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{ControlOperation, Operation, TableDefinition};

/// A message.
#[derive(Debug)]
pub struct Message<'a> {
    /// What it says.
    pub body: Body<'a>,
    /// Of which table, and when.
    pub metadata: Metadata<'a>,
}

/// What a message says.
#[derive(Debug)]
pub enum Body<'a> {
    /// A row was changed.
    Data {
        /// How.
        operation: Operation,
        /// The row after the change; of a delete, the row before, or its key.
        values: Values<'a>,
        /// Columns of the row before the change.
        before: Option<Values<'a>>,
    },
    /// A table was changed.
    Control {
        /// How.
        operation: ControlOperation,
        /// The table afterwards.
        table: Option<TableDefinition>,
    },
}

/// The values of a row, by their columns.
#[derive(Debug, Default)]
pub struct Values<'a>(pub Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Values<'a> {
    /// The value of a column, whose place is most likely `expected`.
    pub fn get(&self, name: &str, expected: usize) -> Option<&'a RawValue> {
        match self.0.get(expected) {
            Some((at, value)) if at == name => Some(value),
            _ => self.0.iter().find(|(at, _)| at == name).map(|(_, value)| *value),
        }
    }
}

/// The metadata of a message.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Metadata<'a> {
    /// When the change was made, or the message.
    pub timestamp: DateTime<Utc>,
    #[serde(borrow)]
    record_type: Cow<'a, str>,
    #[serde(borrow)]
    operation: Cow<'a, str>,
    /// The table's schema.
    #[serde(borrow, default)]
    pub schema_name: Cow<'a, str>,
    /// The table's name.
    #[serde(borrow, default)]
    pub table_name: Cow<'a, str>,
    /// The transaction.
    #[serde(default)]
    pub transaction_id: Option<u64>,
    /// The number of the change in its transaction.
    #[serde(default)]
    pub transaction_record_id: Option<u64>,
    /// When the transaction was committed.
    #[serde(default)]
    pub commit_timestamp: Option<DateTime<Utc>>,
    /// The position of the change in the source's log.
    #[serde(borrow, default)]
    pub stream_position: Option<Cow<'a, str>>,
    /// The partition key.
    #[serde(borrow, default)]
    pub partition_key_value: Option<Cow<'a, str>>,
    /// `all-shards` where each shard has the message.
    #[serde(borrow, default)]
    sent_to: Option<Cow<'a, str>>,
    /// Columns that an update did not change, and whose values the log does not have.
    #[serde(default)]
    pub unchanged: Vec<String>,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    data: Option<Values<'a>>,
    #[serde(borrow, default, rename = "before-image")]
    before: Option<Values<'a>>,
    #[serde(default)]
    control: Option<Value>,
    #[serde(borrow)]
    metadata: Metadata<'a>,
}

impl Metadata<'_> {
    /// Whether each shard has the message, at its place among the shard's other messages.
    pub fn is_in_all_shards(&self) -> bool {
        self.sent_to.as_deref() == Some("all-shards")
    }
}

impl<'a> Message<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// What is wrong with it, for users.
    pub fn parse(bytes: &'a [u8]) -> Result<Message<'a>, String> {
        let envelope: Envelope<'a> =
            serde_json::from_slice(bytes).map_err(|error| format!("it is no message of DMS: {error}"))?;
        let metadata = envelope.metadata;
        let operation = metadata.operation.as_ref();
        let body = match (metadata.record_type.as_ref(), envelope.data, envelope.control) {
            ("data", Some(values), _) => {
                let operation =
                    Operation::of(operation).ok_or_else(|| format!("the operation {operation:?} is not known"))?;
                Body::Data { operation, values, before: envelope.before }
            }
            ("control", _, control) => {
                let operation = ControlOperation::of(operation)
                    .ok_or_else(|| format!("the operation {operation:?} is not known"))?;
                let table = control.as_ref().and_then(|control| control.get("table-def"));
                Body::Control { operation, table: table.map(TableDefinition::of).transpose()? }
            }
            ("data", None, _) => return Err("it has no data".to_owned()),
            (other, ..) => return Err(format!("the record type {other:?} is not known")),
        };
        if metadata.table_name.is_empty() {
            return Err("it names no table".to_owned());
        }
        Ok(Message { body, metadata })
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Values<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Values<'de>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object of a row's values")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Values<'de>, A::Error> {
                let mut members = Vec::with_capacity(16);
                while let Some(Name(name)) = map.next_key()? {
                    members.push((name, map.next_value::<&'de RawValue>()?));
                }
                Ok(Values(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// A member's name, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);
