//! The messages of PostgreSQL's output plugin `pgoutput`, versions 1 and 2 of its protocol.
//!
//! <https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html>

use crate::decode::bytes::Reader;
use crate::error::{Error, Result};
use crate::lsn::Lsn;

/// Microseconds from 1970-01-01 to 2000-01-01, from which PostgreSQL counts.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// A message.
#[derive(Debug, Clone, PartialEq)]
pub enum Message<'a> {
    /// The changes of a transaction begin.
    Begin(Transaction),
    /// They end. The transaction's commit record ends at this position.
    Commit(Lsn),
    /// The columns of a table; sent before its first change, and again where they have changed.
    Relation(Relation),
    /// A row was inserted into the relation with this OID.
    Insert { relation: u32, new: Tuple<'a> },
    /// A row was updated. The old row is present where its identity has changed or the identity is FULL.
    Update { relation: u32, old: Option<Tuple<'a>>, new: Tuple<'a> },
    /// A row was deleted; the old row has the columns of its identity.
    Delete { relation: u32, old: Tuple<'a> },
    /// Relations were truncated.
    Truncate(Vec<u32>),
    /// Messages of a transaction that is not committed yet follow, each with the transaction or subtransaction that it is
    /// of.
    StreamStart { xid: u32 },
    /// Such messages end.
    StreamStop,
    /// A transaction whose messages were sent before is committed; its commit record ends at this position.
    StreamCommit { transaction: Transaction, end: Lsn },
    /// A subtransaction of such a transaction was rolled back, or the whole where both are the same.
    StreamAbort { xid: u32, subtransaction: u32 },
    /// A message that does not change rows: the origin of a transaction, or the name of a type.
    Other,
}

/// A transaction of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Transaction {
    /// The position of its commit record.
    pub commit: Lsn,
    /// When it was committed, in microseconds since 1970.
    pub at_micros: i64,
    /// Its id.
    pub xid: u32,
}

/// The description of a table in the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// The OID of the table.
    pub id: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// `pg_class.relreplident`: d(efault), n(othing), f(ull), i(ndex).
    pub identity: u8,
    /// The columns, in the order of the tuples.
    pub columns: Vec<RelationColumn>,
}

/// A column of a [`Relation`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelationColumn {
    /// Whether it is part of the replica identity.
    pub is_identity: bool,
    /// Its name.
    pub name: String,
    /// The OID of its type.
    pub type_oid: u32,
    /// `pg_attribute.atttypmod`
    pub modifier: i32,
}

/// The values of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tuple<'a> {
    count: usize,
    bytes: &'a [u8],
}

/// A value of a [`Tuple`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field<'a> {
    /// NULL.
    Null,
    /// A large value that the update did not change, and that is not sent.
    Unchanged,
    /// The value in the type's text format.
    Text(&'a [u8]),
    /// The value in the type's binary format, which is that of a binary COPY.
    Binary(&'a [u8]),
}

impl<'a> Tuple<'a> {
    fn read(reader: &mut Reader<'a>) -> Option<Tuple<'a>> {
        let count = usize::try_from(reader.i16()?).ok()?;
        let start = reader.rest();
        for _ in 0..count {
            field(reader)?;
        }
        Some(Tuple { count, bytes: &start[..start.len() - reader.rest().len()] })
    }

    /// The size of the values.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The values, in the order of the relation's columns.
    pub fn fields(&self) -> impl Iterator<Item = Field<'a>> + use<'a> {
        let mut reader = Reader::new(self.bytes);
        (0..self.count).map_while(move |_| field(&mut reader))
    }
}

fn field<'a>(reader: &mut Reader<'a>) -> Option<Field<'a>> {
    Some(match reader.u8()? {
        b'n' => Field::Null,
        b'u' => Field::Unchanged,
        b't' => Field::Text(value(reader)?),
        b'b' => Field::Binary(value(reader)?),
        _ => return None,
    })
}

fn value<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let length = usize::try_from(reader.i32()?).ok()?;
    reader.take(length)
}

impl<'a> Message<'a> {
    /// Parses a message.
    ///
    /// # Errors
    /// `Bug` where it does not have the form of the protocol.
    pub fn parse(bytes: &'a [u8]) -> Result<Message<'a>> {
        let tag = bytes.first().copied().unwrap_or_default();
        parse(bytes).ok_or_else(|| {
            Error::bug(format!("read the log: a message {:?} of {} bytes is malformed", char::from(tag), bytes.len()))
        })
    }
}

fn parse(bytes: &[u8]) -> Option<Message<'_>> {
    let mut reader = Reader::new(bytes);
    let reader = &mut reader;
    Some(match reader.u8()? {
        b'B' => Message::Begin(Transaction {
            commit: lsn(reader)?,
            at_micros: reader.i64()?.saturating_add(EPOCH_MICROS),
            xid: reader.i32()?.cast_unsigned(),
        }),
        b'C' => {
            let (_flags, _commit) = (reader.u8()?, lsn(reader)?);
            Message::Commit(lsn(reader)?)
        }
        b'R' => Message::Relation(relation(reader)?),
        b'I' => {
            let relation = oid(reader)?;
            (reader.u8()? == b'N').then_some(())?;
            Message::Insert { relation, new: Tuple::read(reader)? }
        }
        b'U' => {
            let relation = oid(reader)?;
            let (old, tag) = match reader.u8()? {
                b'K' | b'O' => (Some(Tuple::read(reader)?), reader.u8()?),
                tag => (None, tag),
            };
            (tag == b'N').then_some(())?;
            Message::Update { relation, old, new: Tuple::read(reader)? }
        }
        b'D' => {
            let relation = oid(reader)?;
            matches!(reader.u8()?, b'K' | b'O').then_some(())?;
            Message::Delete { relation, old: Tuple::read(reader)? }
        }
        b'T' => {
            let count = reader.i32()?;
            let _options = reader.u8()?;
            Message::Truncate((0..count).map(|_| oid(reader)).collect::<Option<_>>()?)
        }
        b'S' => Message::StreamStart { xid: oid(reader)? },
        b'E' => Message::StreamStop,
        b'c' => {
            let xid = oid(reader)?;
            let _flags = reader.u8()?;
            let (commit, end) = (lsn(reader)?, lsn(reader)?);
            let at_micros = reader.i64()?.saturating_add(EPOCH_MICROS);
            Message::StreamCommit { transaction: Transaction { commit, at_micros, xid }, end }
        }
        b'A' => Message::StreamAbort { xid: oid(reader)?, subtransaction: oid(reader)? },
        b'O' | b'Y' | b'M' => Message::Other,
        _ => return None,
    })
}

fn relation(reader: &mut Reader<'_>) -> Option<Relation> {
    let id = oid(reader)?;
    let (schema, name) = (text(reader)?, text(reader)?);
    // An empty name stands for pg_catalog.
    let schema = if schema.is_empty() { "pg_catalog".to_owned() } else { schema };
    let identity = reader.u8()?;
    let count = reader.i16()?;
    let column = |_| {
        let flags = reader.u8()?;
        Some(RelationColumn {
            is_identity: flags & 1 != 0,
            name: text(reader)?,
            type_oid: oid(reader)?,
            modifier: reader.i32()?,
        })
    };
    let columns = (0..count).map(column).collect::<Option<_>>()?;
    Some(Relation { id, schema, name, identity, columns })
}

fn oid(reader: &mut Reader<'_>) -> Option<u32> {
    reader.i32().map(i32::cast_unsigned)
}

fn lsn(reader: &mut Reader<'_>) -> Option<Lsn> {
    reader.i64().map(Lsn::from_i64)
}

/// A text that ends with a zero byte.
fn text(reader: &mut Reader<'_>) -> Option<String> {
    let length = reader.rest().iter().position(|byte| *byte == 0)?;
    let text = String::from_utf8_lossy(reader.take(length)?).into_owned();
    reader.u8()?;
    Some(text)
}

#[cfg(test)]
mod tests;
