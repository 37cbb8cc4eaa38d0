//! The replication protocol: slots, and the stream of a server's write-ahead log as `pgoutput` decodes it.
//!
//! <https://www.postgresql.org/docs/current/protocol-replication.html>

use std::time::Duration;

use super::wire::Wire;
use super::{Endpoint, quote};
use crate::error::{Error, Result};
use crate::lsn::Lsn;

/// Microseconds from 1970-01-01 to 2000-01-01, from which the protocol counts.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// How long the server may take to end a stream.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// The version from which `pgoutput` sends values in their binary format.
const HAS_BINARY: u32 = 140_000;
/// The version from which `pgoutput` sends transactions that are not committed yet.
const HAS_STREAMING: u32 = 140_000;
/// The version from which a slot can be synchronized to standbys.
const HAS_FAILOVER: u32 = 170_000;

/// A connection that accepts the commands of the replication protocol.
pub struct ReplicationConnection {
    wire: Wire,
    version: u32,
}

/// A slot that was created.
pub struct CreatedSlot {
    /// The position from which the slot has all changes: its snapshot has all transactions before it.
    pub start: Lsn,
    /// The name of the exported snapshot, which exists until the connection's next command.
    pub snapshot: String,
}

/// A message of the stream.
pub enum LogMessage<'a> {
    /// A message of `pgoutput`.
    Data(&'a [u8]),
    /// All changes up to this position were sent.
    Keepalive {
        /// The position.
        sent: Lsn,
        /// The server waits for an answer.
        needs_reply: bool,
    },
}

impl ReplicationConnection {
    /// Connects to a server of this version.
    ///
    /// # Errors
    /// Where the server can't be reached, or the user has not the attribute REPLICATION.
    pub fn connect(endpoint: &Endpoint, version: u32) -> Result<Self> {
        let mut wire = Wire::connect_replication(endpoint).map_err(|error| replication_hint(error, endpoint))?;
        // Texts must not depend on the role's settings.
        wire.batch(&endpoint.session())?;
        if wire.has_bytes() {
            wire.batch("SET client_encoding = 'SQL_ASCII'")?;
        }
        Ok(ReplicationConnection { wire, version })
    }

    /// Whether the database has no encoding, so that texts may be any bytes.
    pub fn has_bytes(&self) -> bool {
        self.wire.has_bytes()
    }

    /// Whether the server can send values in their binary format.
    pub fn has_binary(&self) -> bool {
        self.version >= HAS_BINARY
    }

    /// Creates a slot and exports its snapshot. A temporary slot is dropped with the connection.
    ///
    /// # Errors
    /// Where `wal_level` is not `logical`, all slots are in use, or the user may not create one.
    pub fn create_slot(&mut self, name: &str, is_temporary: bool) -> Result<CreatedSlot> {
        let temporary = if is_temporary { " TEMPORARY" } else { "" };
        // A standby can't have a slot that is synchronized.
        let recovery = self.wire.rows("SELECT pg_is_in_recovery()")?;
        let is_primary = recovery.first().and_then(|row| row.first().cloned().flatten()).as_deref() == Some("f");
        let options = match self.version {
            HAS_FAILOVER.. if !is_temporary && is_primary => "(SNAPSHOT 'export', FAILOVER true)",
            150_000.. => "(SNAPSHOT 'export')",
            _ => "EXPORT_SNAPSHOT",
        };
        let command = format!("CREATE_REPLICATION_SLOT {}{temporary} LOGICAL pgoutput {options}", quote(name));
        let rows = self.wire.rows(&command).map_err(|error| error.within(format!("create the slot {name}")))?;
        let field = |at: usize| rows.first().and_then(|row| row.get(at).cloned()).flatten();
        match (field(1).and_then(|text| text.parse().ok()), field(2)) {
            (Some(start), Some(snapshot)) => Ok(CreatedSlot { start, snapshot }),
            _ => {
                Err(Error::bug(format!("create the slot {name}: the server's answer has no position and no snapshot")))
            }
        }
    }

    /// Starts the stream of a slot with the changes of a publication. Changes before the slot's confirmed position are
    /// not sent. With `is_early`, large transactions are sent before their commit, where the server can do that.
    ///
    /// # Errors
    /// Where the slot is in use, was invalidated, or does not exist.
    pub fn start(
        mut self,
        slot: &str,
        publication: &str,
        is_binary: bool,
        is_early: bool,
        poll: Duration,
    ) -> Result<LogStream> {
        let binary = if is_binary { ", binary 'true'" } else { "" };
        let protocol = match self.version {
            HAS_STREAMING.. if is_early => "proto_version '2', streaming 'on'",
            _ => "proto_version '1'",
        };
        let names = quote(publication).replace('\'', "''");
        let command = format!(
            "START_REPLICATION SLOT {} LOGICAL 0/0 ({protocol}, publication_names '{names}'{binary})",
            quote(slot)
        );
        let started = self.wire.copy_both(&command);
        started.map_err(|error| error.within(format!("stream the log by the slot {slot}")))?;
        self.wire.set_read_timeout(poll)?;
        Ok(LogStream { wire: self.wire })
    }
}

/// The stream of a slot.
pub struct LogStream {
    wire: Wire,
}

impl LogStream {
    /// The next message; `None` where none arrived within the time that [`ReplicationConnection::start`] was given.
    ///
    /// # Errors
    /// Where the server ends the stream.
    pub fn poll(&mut self) -> Result<Option<LogMessage<'_>>> {
        let Some(body) = self.wire.poll()? else { return Ok(None) };
        match body {
            // The positions of the message, and the server's clock.
            [b'w', rest @ ..] if rest.len() >= 24 => Ok(Some(LogMessage::Data(&rest[24..]))),
            [b'k', rest @ ..] if rest.len() >= 17 => {
                let sent = Lsn(u64::from_be_bytes(rest[..8].try_into().unwrap_or_default()));
                Ok(Some(LogMessage::Keepalive { sent, needs_reply: rest[16] != 0 }))
            }
            _ => Err(Error::bug("read the log: a message of an unknown kind")),
        }
    }

    /// Whether a message has arrived that [`LogStream::poll`] has not returned yet.
    pub fn has_message(&self) -> bool {
        self.wire.has_message()
    }

    /// Ends the stream. The slot is free afterwards, unless the server takes long.
    pub fn close(mut self) -> Result<()> {
        self.wire.end_streaming(CLOSE_WAIT)
    }

    /// Reports that all changes before `confirmed` are durable, so that the server need not keep the log before it.
    pub fn confirm(&mut self, confirmed: Lsn) -> Result<()> {
        let mut message = Vec::with_capacity(34);
        message.push(b'r');
        for _ in ["written", "flushed", "applied"] {
            message.extend_from_slice(&confirmed.0.to_be_bytes());
        }
        let now = chrono::Utc::now().timestamp_micros() - EPOCH_MICROS;
        message.extend_from_slice(&now.to_be_bytes());
        message.push(0);
        self.wire.send_data(&message)
    }
}

fn replication_hint(error: Error, endpoint: &Endpoint) -> Error {
    let chain = base::chain(&error);
    if chain.contains("[42501]") || chain.contains("must be superuser or replication role") {
        return error.hint(format!("ALTER ROLE {} REPLICATION", quote(endpoint.user())));
    }
    error
}
