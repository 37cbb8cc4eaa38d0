//! Stores delivered files as objects, named by the hash of their bytes: the same file delivered twice
//! is one object, and an object never changes. On every store an object gets its name only when it is
//! complete: a small one is put in one request, a large one by multipart upload, which shows nothing
//! before it is completed. Until then the bytes are in memory or in an unnamed file of the spool
//! folder, so that a killed process leaves nothing behind. Objects are never deleted here.

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

use crate::error::ErrorContext;
use crate::source::store_error;
use crate::{Error, Kind, Result};

/// A larger file goes to the spool before it is stored.
const IN_MEMORY_BYTES_MAX: usize = 8 << 20;
const PIECE_BYTES: usize = 1 << 20;
/// Stores refuse parts under 5 MiB and more than 10,000 parts: this size allows files of 160 GB.
const PART_BYTES: usize = 16 << 20;
const PARTS_AT_ONCE: usize = 4;

/// A SHA-256 hash; as text, 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash([u8; 32]);

impl Hash {
    /// The hash of these bytes.
    pub fn of(bytes: &[u8]) -> Hash {
        Hash(Sha256::digest(bytes).into())
    }

    /// The hash's own 32 bytes.
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

/// A stored object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Object {
    /// The hash of its bytes, which is its name.
    pub sha256: Hash,
    /// Its size.
    pub bytes: u64,
}

/// The objects of a lake: write once, read by hash. Clones share the store.
#[derive(Clone)]
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    spool: PathBuf,
}

impl Objects {
    /// `store` is rooted at the parent of `sha256/`; `spool` is a local folder with room for the largest
    /// file, created when it is first needed.
    pub fn new(store: Arc<dyn ObjectStore>, spool: impl Into<PathBuf>) -> Objects {
        Objects { store, spool: spool.into() }
    }

    /// The local folder for files that are not stored yet.
    pub fn spool(&self) -> &std::path::Path {
        &self.spool
    }

    /// The path of an object, relative to the store.
    pub fn path(sha256: &Hash) -> String {
        let name = sha256.to_string();
        format!("sha256/{}/{name}", &name[..2])
    }

    /// The size of an object in bytes; `None` where there is no such object.
    ///
    /// # Errors
    /// `Retry` where the store can't be reached.
    pub async fn size(&self, sha256: &Hash) -> Result<Option<u64>> {
        match self.store.head(&Path::from(Self::path(sha256))).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(store_error(&format!("look for the object {sha256}"), error)),
        }
    }

    /// Stores the bytes of a stream as one object.
    ///
    /// # Errors
    /// The stream's error; `FixSetup` where the spool can't be written; an error of the store.
    pub async fn put(&self, mut pieces: impl Stream<Item = Result<Bytes>> + Unpin) -> Result<Object> {
        let mut incoming = self.begin();
        while let Some(piece) = pieces.next().await {
            incoming.write(&piece?).await?;
        }
        incoming.finish().await
    }

    /// Starts an object that is written piece by piece.
    pub fn begin(&self) -> ObjectWriter {
        ObjectWriter { objects: self.clone(), digest: Sha256::new(), bytes: 0, held: BytesMut::new(), spooled: None }
    }

    /// A private copy of an object in an unnamed file, complete and with its hash verified. Closing it removes it.
    ///
    /// # Errors
    /// `FixInput` where there is no such object; `FixSetup` where its bytes no longer have its hash.
    pub async fn get(&self, sha256: &Hash) -> Result<File> {
        let context = format!("read the object {sha256}");
        let path = Path::from(Self::path(sha256));
        let got = self.store.get(&path).await.map_err(|error| store_error(&context, error))?;
        let mut copy = tokio::fs::File::from_std(self.spool_file().await?);
        let (mut digest, mut pieces) = (Sha256::new(), got.into_stream());
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|error| store_error(&context, error))?;
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
        let created = tokio::task::spawn_blocking(move || {
            std::fs::create_dir_all(&spool)?;
            tempfile::tempfile_in(&spool)
        });
        created.await.during(Kind::Bug, self.spooling())?.during(Kind::FixSetup, self.spooling())
    }

    fn spooling(&self) -> String {
        format!("write a file in {}", self.spool.display())
    }
}

/// Writes one object. Dropped before [`finish`](ObjectWriter::finish), it leaves nothing.
pub struct ObjectWriter {
    objects: Objects,
    digest: Sha256,
    bytes: u64,
    /// All bytes while the object is small; afterwards those that are not spooled yet.
    held: BytesMut,
    spooled: Option<tokio::fs::File>,
}

impl ObjectWriter {
    /// How many bytes were written so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends bytes.
    ///
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

    /// Discards all bytes, to begin again with the first.
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

    /// Stores the object under its hash, unless it exists. It may be called again after an error.
    ///
    /// # Errors
    /// An error of the store; the store is then unchanged.
    pub async fn finish(&mut self) -> Result<Object> {
        if self.spooled.is_some() {
            self.spool().await?;
        }
        let object = Object { sha256: Hash(self.digest.clone().finalize().into()), bytes: self.bytes };
        // An object of another size was damaged by another program; it is written again.
        let stored_bytes = self.objects.size(&object.sha256).await?;
        if stored_bytes == Some(object.bytes) {
            return Ok(object);
        }
        let path = Path::from(Objects::path(&object.sha256));
        let context = format!("store the object {}", object.sha256);
        if let Some(file) = &mut self.spooled {
            upload(&self.objects, &path, file, &context).await?;
            return Ok(object);
        }
        let mode = if stored_bytes.is_none() { PutMode::Create } else { PutMode::Overwrite };
        let payload = PutPayload::from_bytes(Bytes::copy_from_slice(&self.held));
        match self.objects.store.put_opts(&path, payload, mode.into()).await {
            // Another writer stored the same bytes first.
            Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => Ok(object),
            Err(error) => Err(store_error(&context, error)),
        }
    }
}

async fn upload(objects: &Objects, path: &Path, file: &mut tokio::fs::File, context: &str) -> Result<()> {
    file.flush().await.during(Kind::FixSetup, objects.spooling())?;
    file.seek(SeekFrom::Start(0)).await.during(Kind::FixSetup, objects.spooling())?;
    let upload = objects.store.put_multipart(path).await.map_err(|error| store_error(context, error))?;
    let mut upload = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
    loop {
        let mut piece = BytesMut::with_capacity(PIECE_BYTES);
        let read = file.read_buf(&mut piece).await.during(Kind::FixSetup, objects.spooling());
        match read {
            Ok(0) => break,
            Ok(_) => {
                upload.wait_for_capacity(PARTS_AT_ONCE).await.map_err(|error| store_error(context, error))?;
                upload.put(piece.freeze());
            }
            Err(error) => {
                // Parts that can't be removed now do no harm: an upload that is not completed shows no object.
                let _ = upload.abort().await;
                return Err(error);
            }
        }
    }
    upload.finish().await.map(drop).map_err(|error| store_error(context, error))
}
