//! Transactions that the server sends before they are committed, because they are large. Their messages are kept until
//! the commit: the first ones in memory, the others in a file without a name, which the operating system removes with the
//! process.

use std::collections::{HashMap, HashSet};
use std::io::{BufReader, BufWriter, ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};

use tempfile::SpooledTempFile;

use crate::error::{Context, Error, Result};

/// The messages of a transaction that are kept in memory.
const MEMORY_BYTES: usize = 4 << 20;
const BUFFER_BYTES: usize = 256 << 10;
/// The transaction of a message, and its length.
const HEAD_BYTES: usize = 8;

const CONTEXT: &str = "keep the changes of a transaction that is not committed yet";

/// The transactions whose messages were sent before their commit.
pub struct StreamedTransactions {
    folder: PathBuf,
    /// The transaction whose messages arrive at the moment.
    open: Option<u32>,
    spools: HashMap<u32, Spool>,
}

struct Spool {
    file: BufWriter<SpooledTempFile>,
    /// The subtransactions that were rolled back.
    aborted: HashSet<u32>,
}

impl StreamedTransactions {
    /// None yet; files are created in `folder`.
    pub fn new(folder: &Path) -> Self {
        StreamedTransactions { folder: folder.to_owned(), open: None, spools: HashMap::new() }
    }

    /// Whether the next messages, until a `StreamStop`, are of such a transaction.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Messages of a transaction follow.
    pub fn start(&mut self, xid: u32) -> Result<()> {
        self.open = Some(xid);
        if !self.spools.contains_key(&xid) {
            std::fs::create_dir_all(&self.folder).context(CONTEXT)?;
            let file = SpooledTempFile::new_in(MEMORY_BYTES, &self.folder);
            let file = BufWriter::with_capacity(BUFFER_BYTES, file);
            self.spools.insert(xid, Spool { file, aborted: HashSet::new() });
        }
        Ok(())
    }

    /// They end.
    pub fn stop(&mut self) {
        self.open = None;
    }

    /// Keeps a message of the transaction, which has the number of its subtransaction after its first byte.
    pub fn add(&mut self, message: &[u8]) -> Result<()> {
        let spool = self.open.and_then(|xid| self.spools.get_mut(&xid));
        let (Some(spool), [tag, x0, x1, x2, x3, rest @ ..]) = (spool, message) else {
            return Err(Error::bug("read the log: a message of no transaction"));
        };
        if !matches!(tag, b'R' | b'I' | b'U' | b'D' | b'T') {
            return Ok(());
        }
        let mut head = [0; HEAD_BYTES + 1];
        head[..4].copy_from_slice(&[*x0, *x1, *x2, *x3]);
        head[4..HEAD_BYTES].copy_from_slice(&(rest.len() as u32).to_be_bytes());
        head[HEAD_BYTES] = *tag;
        spool.file.write_all(&head).and_then(|()| spool.file.write_all(rest)).map_err(full_disk)
    }

    /// Drops the messages of a subtransaction, or of the whole transaction.
    pub fn abort(&mut self, xid: u32, subtransaction: u32) {
        if xid == subtransaction {
            self.spools.remove(&xid);
        } else if let Some(spool) = self.spools.get_mut(&xid) {
            spool.aborted.insert(subtransaction);
        }
    }

    /// The messages of a transaction that is committed.
    pub fn take(&mut self, xid: u32) -> Result<SpooledMessages> {
        let spool = self.spools.remove(&xid);
        let spool = spool.ok_or_else(|| Error::bug(format!("read the log: transaction {xid} was not begun")))?;
        let mut file = spool.file.into_inner().map_err(|error| full_disk(error.into_error()))?;
        file.rewind().context(CONTEXT)?;
        Ok(SpooledMessages {
            file: BufReader::with_capacity(BUFFER_BYTES, file),
            aborted: spool.aborted,
            body: Vec::new(),
            is_pending: false,
            descriptions: HashMap::new(),
            description: Vec::new(),
        })
    }
}

#[cold]
fn full_disk(error: std::io::Error) -> Error {
    Error::retry(CONTEXT).because(error)
}

/// The messages of a transaction, in their order, without those that were rolled back. The description of a relation
/// comes before the first change that is read by it: the server sends it once, also where a subtransaction that was the
/// first to change the relation was rolled back.
pub struct SpooledMessages {
    file: BufReader<SpooledTempFile>,
    aborted: HashSet<u32>,
    body: Vec<u8>,
    /// The change in `body` was not returned yet.
    is_pending: bool,
    /// The descriptions that were not returned yet, by the relation's OID.
    descriptions: HashMap<u32, Vec<u8>>,
    description: Vec<u8>,
}

impl SpooledMessages {
    /// The next message.
    pub fn next(&mut self) -> Result<Option<&[u8]>> {
        while !self.is_pending {
            let Some(xid) = self.read()? else { return Ok(None) };
            let described = relations(&self.body).next().filter(|_| self.body[0] == b'R');
            match described {
                Some(relation) => drop(self.descriptions.insert(relation, std::mem::take(&mut self.body))),
                None => self.is_pending = !self.aborted.contains(&xid),
            }
        }
        if !self.descriptions.is_empty() {
            let description = relations(&self.body).find_map(|relation| self.descriptions.remove(&relation));
            if let Some(description) = description {
                self.description = description;
                return Ok(Some(&self.description));
            }
        }
        self.is_pending = false;
        Ok(Some(&self.body))
    }

    /// The descriptions of relations without a change.
    pub fn rest(self) -> impl Iterator<Item = Vec<u8>> {
        self.descriptions.into_values()
    }

    /// Reads a message, and returns its transaction.
    fn read(&mut self) -> Result<Option<u32>> {
        let mut head = [0; HEAD_BYTES];
        match self.file.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(full_disk(error)),
        }
        let [x0, x1, x2, x3, l0, l1, l2, l3] = head;
        // The tag is not counted.
        self.body.resize(u32::from_be_bytes([l0, l1, l2, l3]) as usize + 1, 0);
        self.file.read_exact(&mut self.body).map_err(full_disk)?;
        Ok(Some(u32::from_be_bytes([x0, x1, x2, x3])))
    }
}

/// The relations of a message, by their OIDs.
fn relations(message: &[u8]) -> impl Iterator<Item = u32> {
    let (tag, rest) = message.split_first().unwrap_or((&0, &[]));
    let oids = match tag {
        // After their number, and the options.
        b'T' => rest.get(5..).unwrap_or_default(),
        _ => rest.get(..4).unwrap_or_default(),
    };
    oids.chunks_exact(4).map(|oid| u32::from_be_bytes([oid[0], oid[1], oid[2], oid[3]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(tag: u8, xid: u32, relation: u32, rest: &str) -> Vec<u8> {
        [&[tag][..], &xid.to_be_bytes(), &relation.to_be_bytes(), rest.as_bytes()].concat()
    }

    fn shown(messages: &mut SpooledMessages) -> Vec<String> {
        let mut shown = Vec::new();
        while let Some(message) = messages.next().unwrap() {
            shown.push(format!("{}{}", char::from(message[0]), String::from_utf8_lossy(&message[5..])));
        }
        shown
    }

    #[test]
    fn transactions_are_kept_apart_and_without_what_was_rolled_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut streamed = StreamedTransactions::new(folder.path());
        let large = "x".repeat(MEMORY_BYTES);
        for part in 0..2 {
            for xid in [7, 8] {
                streamed.start(xid).unwrap();
                if part == 0 {
                    streamed.add(&message(b'R', xid + 100, 1, "first")).unwrap();
                    streamed.add(&message(b'R', xid, 2, "other")).unwrap();
                    streamed.add(&message(b'Y', xid, 2, "a type")).unwrap();
                }
                streamed.add(&message(b'I', xid + 100, 1, &format!("lost {part}"))).unwrap();
                streamed.add(&message(b'I', xid, 1, &format!("kept {part}"))).unwrap();
                streamed.add(&message(b'I', xid + 200, 1, &large)).unwrap();
                streamed.stop();
                assert!(!streamed.is_open());
            }
        }
        streamed.abort(7, 107);
        streamed.abort(8, 8);
        let mut messages = streamed.take(7).unwrap();
        assert!(messages.file.get_ref().is_rolled());
        let large = format!("I{large}");
        assert_eq!(shown(&mut messages), ["Rfirst", "Ikept 0", &large, "Ikept 1", &large]);
        assert_eq!(messages.rest().map(|rest| rest[5..].to_vec()).collect::<Vec<_>>(), [b"other"]);
        assert!(streamed.take(8).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_truncate_has_all_its_relations() {
        let message = [&b"T\0\0\0\x02\0"[..], &3u32.to_be_bytes(), &9u32.to_be_bytes()].concat();
        assert_eq!(relations(&message).collect::<Vec<_>>(), [3, 9]);
    }
}
