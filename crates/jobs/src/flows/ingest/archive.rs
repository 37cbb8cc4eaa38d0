//! Files of an archive: each becomes an object and gets a verdict of its own, under the archive's name and its own.

use std::fs::File;
use std::io::Read;

use anyhow::{Context, Result};
use bytes::Bytes;
use chrono::TimeDelta;
use ingest::archive::{Archive, Delivered, PackedFile, open};
use ingest::source::ListedFile;

use super::{Fetched, IngestRun};

const PIECE_BYTES: usize = 1 << 20;

impl IngestRun<'_> {
    /// What a stored file of this name is.
    pub(super) async fn opened(&self, file: File, name: &str) -> Result<Delivered> {
        let (name, format) = (name.to_owned(), self.ingest.layout.format.clone());
        let opened = tokio::task::spawn_blocking(move || open(file, &name, &format));
        Ok(opened.await.context("open a file")??)
    }

    /// The next file of an archive, and the archive.
    pub(super) async fn next_of(&self, mut archive: Archive) -> Result<Option<(PackedFile, Archive)>> {
        let spool = self.objects.spool().to_owned();
        let unpacked = tokio::task::spawn_blocking(move || Ok::<_, ingest::Error>((archive.next(&spool)?, archive)));
        let (file, archive) = unpacked.await.context("unpack a file")??;
        Ok(file.map(|file| (file, archive)))
    }

    /// Stores a file of an archive as an object.
    pub(super) async fn store(&self, packed: PackedFile, archive: &Fetched) -> Result<Fetched> {
        let PackedFile { name, place, mut content } = packed;
        let name = format!("{}/{name}", archive.file.name);
        let mut incoming = self.objects.begin();
        loop {
            let piece = tokio::task::spawn_blocking(move || {
                let mut piece = Vec::with_capacity(PIECE_BYTES);
                let read = (&mut content).take(PIECE_BYTES as u64).read_to_end(&mut piece);
                read.map(|_| (content, piece))
            });
            let read = piece.await.context("read an unpacked file")?;
            let (rest, piece) = read.with_context(|| format!("read {name}"))?;
            if piece.is_empty() {
                break;
            }
            content = rest;
            incoming.write(&Bytes::from(piece)).await?;
        }
        let object = incoming.finish().await.with_context(|| format!("store {name}"))?;
        let file = ListedFile { name, size: Some(object.bytes), modified: archive.file.modified, etag: None };
        // As files that are found together do, they arrive in their order.
        let listed_at = archive.listed_at + TimeDelta::microseconds(i64::try_from(place)?);
        Ok(Fetched { file, object, listed_at })
    }
}
