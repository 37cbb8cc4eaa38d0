//! Writes messages. What is the same for all changes of a table, or of a transaction, is formatted once.

use chrono::{DateTime, SecondsFormat};

use super::{ControlOperation, MessageSettings, Operation, TableDefinition};

/// Writes the messages of a stream.
#[derive(Debug, Clone)]
pub struct MessageWriter {
    /// What messages contain.
    pub settings: MessageSettings,
}

/// What all messages of a table have in common.
#[derive(Debug, Clone)]
pub struct MessageHead {
    /// `,"schema-name":"public","table-name":"measure"`
    table: String,
}

/// Where and when a change was made.
#[derive(Debug, Clone, Copy)]
pub struct DataDetails<'a> {
    /// When the transaction was committed, as [`MessageWriter::timestamp`] writes it.
    pub timestamp: &'a str,
    /// The transaction; `None` where the row was read with the rest of its table.
    pub transaction: Option<TransactionDetails<'a>>,
    /// The partition key.
    pub partition_key: &'a str,
    /// The names of columns whose values the log does not have.
    pub unchanged: &'a [&'a str],
}

/// The transaction of a change.
#[derive(Debug, Clone, Copy)]
pub struct TransactionDetails<'a> {
    /// Its id.
    pub id: u64,
    /// The number of the change in it.
    pub record: u64,
    /// The transaction of the change before, and the number of that change in it.
    pub previous: (u64, u64),
    /// The position of the transaction in the log.
    pub position: &'a str,
}

impl MessageHead {
    /// The head of a table's messages.
    pub fn new(schema: &str, table: &str) -> MessageHead {
        let mut text = Vec::new();
        text.extend_from_slice(b",\"schema-name\":");
        write_string(schema, &mut text);
        text.extend_from_slice(b",\"table-name\":");
        write_string(table, &mut text);
        MessageHead { table: String::from_utf8_lossy(&text).into_owned() }
    }
}

impl MessageWriter {
    /// An instant, in microseconds since 1970, as messages have it.
    pub fn timestamp(at_micros: i64) -> String {
        let at = DateTime::from_timestamp_micros(at_micros).unwrap_or_default();
        at.to_rfc3339_opts(SecondsFormat::Micros, true)
    }

    /// Writes the message of a change. `data` and `before` are the members of the objects, without the braces.
    pub fn data(
        &self,
        out: &mut Vec<u8>,
        head: &MessageHead,
        operation: Operation,
        (data, before): (&[u8], Option<&[u8]>),
        details: &DataDetails<'_>,
    ) {
        out.extend_from_slice(b"{\"data\":{");
        out.extend_from_slice(data);
        out.push(b'}');
        if let Some(before) = before {
            out.extend_from_slice(b",\"before-image\":{");
            out.extend_from_slice(before);
            out.push(b'}');
        }
        out.extend_from_slice(b",\"metadata\":{\"timestamp\":\"");
        out.extend_from_slice(details.timestamp.as_bytes());
        out.extend_from_slice(b"\",\"record-type\":\"data\",\"operation\":\"");
        out.extend_from_slice(operation.name().as_bytes());
        out.extend_from_slice(b"\",\"partition-key-type\":\"");
        out.extend_from_slice(self.settings.partition_by.name().as_bytes());
        out.push(b'"');
        if self.settings.include_partition_value {
            out.extend_from_slice(b",\"partition-key-value\":");
            write_string(details.partition_key, out);
        }
        out.extend_from_slice(head.table.as_bytes());
        if let Some(transaction) = &details.transaction {
            self.transaction(out, transaction, details.timestamp);
        }
        if !details.unchanged.is_empty() {
            out.extend_from_slice(b",\"unchanged\":[");
            for (at, name) in details.unchanged.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_string(name, out);
            }
            out.push(b']');
        }
        out.extend_from_slice(b"}}");
    }

    fn transaction(&self, out: &mut Vec<u8>, transaction: &TransactionDetails<'_>, timestamp: &str) {
        let mut number = |name: &[u8], value: u64| {
            out.extend_from_slice(name);
            let mut digits = [0; 20];
            out.extend_from_slice(decimal(value, &mut digits));
        };
        number(b",\"transaction-id\":", transaction.id);
        if !self.settings.include_transaction_details {
            return;
        }
        number(b",\"transaction-record-id\":", transaction.record);
        number(b",\"prev-transaction-id\":", transaction.previous.0);
        number(b",\"prev-transaction-record-id\":", transaction.previous.1);
        out.extend_from_slice(b",\"commit-timestamp\":\"");
        out.extend_from_slice(timestamp.as_bytes());
        out.extend_from_slice(b"\",\"stream-position\":\"");
        out.extend_from_slice(transaction.position.as_bytes());
        out.push(b'"');
    }

    /// The message of a change of a table, which is stored in all shards. `place` is its position in the log, with the number
    /// of a change.
    pub fn control(
        &self,
        head: &MessageHead,
        operation: ControlOperation,
        table: &TableDefinition,
        timestamp: &str,
        place: Option<(&str, u64)>,
    ) -> Vec<u8> {
        let place = place.filter(|_| self.settings.include_transaction_details);
        let place = place.map_or_else(String::new, |(position, record)| {
            format!(",\"transaction-record-id\":{record},\"stream-position\":\"{position}\"")
        });
        let table = serde_json::json!({"table-def": table.to_json()});
        format!(
            "{{\"control\":{table},\"metadata\":{{\"timestamp\":\"{timestamp}\",\"record-type\":\"control\",\"operation\":\"{}\",\
             \"partition-key-type\":\"task-id\",\"sent-to\":\"all-shards\"{place}{}}}}}",
            operation.name(),
            head.table
        )
        .into_bytes()
    }
}

/// A number's digits.
fn decimal(mut value: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return &digits[at..];
        }
    }
}

/// Writes a text as JSON.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    if text.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
        return;
    }
    // A text is written to memory, which can't fail.
    let _ = serde_json::to_writer(out, text);
}
