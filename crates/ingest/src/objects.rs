//! What came, under the hash of its bytes: the same file twice is one object, and a name never
//! changes what it stands for. An object has its final name only once it is whole, on every store:
//! what is small is put in one piece, what is large by the store's own multi-part upload, which
//! shows nothing before its end. Before that the bytes lie in memory or in a nameless file of the
//! spool, so that a killed process leaves nothing behind. It never deletes.

#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::File;
use std::io::SeekFrom;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload, WriteMultipart};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use crate::error::During;
use crate::source::failed;
use crate::{Error, Kind, Result};

/// Up to this size a file stays in memory on its way.
const IN_MEMORY_BYTES_MAX: usize = 8 << 20;
const PIECE_BYTES: usize = 1 << 20;
/// Stores refuse parts under 5 MiB, and more than 10,000 of them: enough for 160 GB.
const PART_BYTES: usize = 16 << 20;
const PARTS_AT_ONCE: usize = 4;

/// SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash([u8; 32]);

impl Hash {
    pub fn of(bytes: &[u8]) -> Hash {
        Hash(Sha256::digest(bytes).into())
    }

    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hash {
    type Err = Error;

    fn from_str(text: &str) -> Result<Hash> {
        let mut hash = [0; 32];
        hex::decode_to_slice(text, &mut hash).during(Kind::FixInput, format!("read the hash {text:?}"))?;
        Ok(Hash(hash))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Object {
    pub sha256: Hash,
    pub bytes: u64,
}

#[derive(Clone)]
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    spool: PathBuf,
}

impl Objects {
    /// `store` is rooted where `sha256/` is to be; `spool` is a folder of this machine with room for the
    /// largest file, made where it isn't there.
    pub fn new(store: Arc<dyn ObjectStore>, spool: impl Into<PathBuf>) -> Objects {
        Objects { store, spool: spool.into() }
    }

    /// Where an object is, relative to the store.
    pub fn path(sha256: &Hash) -> String {
        let name = sha256.to_string();
        format!("sha256/{}/{name}", &name[..2])
    }

    /// Its size, where it is there.
    ///
    /// # Errors
    /// `Retry` where the store is away.
    pub async fn size(&self, sha256: &Hash) -> Result<Option<u64>> {
        match self.store.head(&Path::from(Self::path(sha256))).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(&format!("look for the object {sha256}"), error)),
        }
    }

    /// # Errors
    /// The stream's own; `FixSetup` where the spool can't be written; those of the store.
    pub async fn put(&self, mut pieces: impl Stream<Item = Result<Bytes>> + Unpin) -> Result<Object> {
        let mut incoming = self.begin();
        while let Some(piece) = pieces.next().await {
            incoming.write(&piece?).await?;
        }
        incoming.finish().await
    }

    /// For what comes in several goes.
    pub fn begin(&self) -> Incoming {
        Incoming { objects: self.clone(), digest: Sha256::new(), bytes: 0, held: BytesMut::new(), spooled: None }
    }

    /// A private copy, whole and checked before the first byte of it is used; it is gone when it is closed.
    ///
    /// # Errors
    /// `FixInput` where there is no such object; `FixSetup` where its bytes are no longer those of its hash.
    pub async fn get(&self, sha256: &Hash) -> Result<File> {
        let context = format!("read the object {sha256}");
        let path = Path::from(Self::path(sha256));
        let got = self.store.get(&path).await.map_err(|error| failed(&context, error))?;
        let mut copy = tokio::fs::File::from_std(self.spool_file().await?);
        let (mut digest, mut pieces) = (Sha256::new(), got.into_stream());
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|error| failed(&context, error))?;
            digest.update(&piece);
            copy.write_all(&piece).await.during(Kind::FixSetup, self.spooling())?;
        }
        let found = Hash(digest.finalize().into());
        if found != *sha256 {
            let what = format!("{context}: its bytes have the hash {found}; restore it from a copy, or fetch it again");
            return Err(Error::new(Kind::FixSetup, what));
        }
        copy.flush().await.during(Kind::FixSetup, self.spooling())?;
        copy.rewind().await.during(Kind::FixSetup, self.spooling())?;
        Ok(copy.into_std().await)
    }

    /// Without a name: the kernel takes it back when the process ends, however it ends.
    async fn spool_file(&self) -> Result<File> {
        let spool = self.spool.clone();
        let made = tokio::task::spawn_blocking(move || {
            std::fs::create_dir_all(&spool)?;
            tempfile::tempfile_in(&spool)
        });
        made.await.during(Kind::Bug, self.spooling())?.during(Kind::FixSetup, self.spooling())
    }

    fn spooling(&self) -> String {
        format!("write a file in {}", self.spool.display())
    }
}

/// An object on its way. Dropped, it was never there.
pub struct Incoming {
    objects: Objects,
    digest: Sha256,
    bytes: u64,
    /// All of it as long as it is small; then what is not spooled yet.
    held: BytesMut,
    spooled: Option<tokio::fs::File>,
}

impl Incoming {
    /// What came so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// # Errors
    /// `FixSetup` where the spool can't be written.
    pub async fn write(&mut self, piece: &[u8]) -> Result<()> {
        self.digest.update(piece);
        self.bytes += piece.len() as u64;
        self.held.extend_from_slice(piece);
        if self.spooled.is_some() && self.held.len() < PIECE_BYTES {
            return Ok(());
        }
        if self.held.len() > IN_MEMORY_BYTES_MAX || self.spooled.is_some() {
            self.spool().await?;
        }
        Ok(())
    }

    /// From the first byte again.
    pub fn restart(&mut self) {
        *self = self.objects.begin();
    }

    async fn spool(&mut self) -> Result<()> {
        let file = match &mut self.spooled {
            Some(file) => file,
            None => self.spooled.insert(tokio::fs::File::from_std(self.objects.spool_file().await?)),
        };
        file.write_all(&self.held).await.during(Kind::FixSetup, self.objects.spooling())?;
        self.held.clear();
        Ok(())
    }

    /// Can be tried again after an error.
    ///
    /// # Errors
    /// Those of the store; then the object is as it was before, there or not.
    pub async fn finish(&mut self) -> Result<Object> {
        if self.spooled.is_some() {
            self.spool().await?;
        }
        let object = Object { sha256: Hash(self.digest.clone().finalize().into()), bytes: self.bytes };
        // A size that is wrong was caused by another program; the object is written again.
        let there = self.objects.size(&object.sha256).await?;
        if there == Some(object.bytes) {
            return Ok(object);
        }
        let path = Path::from(Objects::path(&object.sha256));
        let context = format!("store the object {}", object.sha256);
        if let Some(file) = &mut self.spooled {
            upload(&self.objects, &path, file, &context).await?;
            return Ok(object);
        }
        let mode = if there.is_none() { PutMode::Create } else { PutMode::Overwrite };
        let payload = PutPayload::from_bytes(Bytes::copy_from_slice(&self.held));
        match self.objects.store.put_opts(&path, payload, mode.into()).await {
            // Another was quicker with the same bytes.
            Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => Ok(object),
            Err(error) => Err(failed(&context, error)),
        }
    }
}

async fn upload(objects: &Objects, path: &Path, file: &mut tokio::fs::File, context: &str) -> Result<()> {
    file.flush().await.during(Kind::FixSetup, objects.spooling())?;
    file.seek(SeekFrom::Start(0)).await.during(Kind::FixSetup, objects.spooling())?;
    let upload = objects.store.put_multipart(path).await.map_err(|error| failed(context, error))?;
    let mut upload = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
    loop {
        let mut piece = BytesMut::with_capacity(PIECE_BYTES);
        let read = file.read_buf(&mut piece).await.during(Kind::FixSetup, objects.spooling());
        match read {
            Ok(0) => break,
            Ok(_) => {
                upload.wait_for_capacity(PARTS_AT_ONCE).await.map_err(|error| failed(context, error))?;
                upload.put(piece.freeze());
            }
            Err(error) => {
                // What was sent is of no use; that it can't be taken back changes nothing.
                let _ = upload.abort().await;
                return Err(error);
            }
        }
    }
    upload.finish().await.map(drop).map_err(|error| failed(context, error))
}
