//! A folder of this machine as a source. Symbolic links are not followed: they could lead out of it, or in loops.

use std::fs::Metadata;
use std::io::SeekFrom;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::BytesMut;
use chrono::{DateTime, NaiveDate, Utc};
use futures::StreamExt;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use walkdir::{DirEntry, WalkDir};

use super::{
    FILES_MAX, ListedFile, Listing, OpenedFile, Pattern, SkipReason, SkippedFile, Source, Template, file_changed,
};
use crate::error::ErrorContext;
use crate::{Error, Kind, Result};

const PIECE_BYTES: usize = 256 << 10;

/// A folder of this machine.
pub struct Folder {
    root: PathBuf,
    patterns: Vec<Template>,
}

impl Folder {
    /// Of the folder `root`, the files that match any of the patterns.
    pub fn new(root: impl Into<PathBuf>, patterns: Vec<Template>) -> Folder {
        Folder { root: root.into(), patterns }
    }
}

#[async_trait]
impl Source for Folder {
    async fn list(&self, date: NaiveDate) -> Result<Listing> {
        let root = self.root.clone();
        let patterns: Vec<Pattern> =
            self.patterns.iter().map(|p| Pattern::parse(&p.fill(date))).collect::<Result<_>>()?;
        let context = format!("list {}", root.display());
        tokio::task::spawn_blocking(move || list(&root, &patterns)).await.during(Kind::Bug, context)?
    }

    async fn open(&self, file: &ListedFile, from: u64) -> Result<OpenedFile> {
        let path = self.root.join(&file.name);
        let context = format!("read {}", path.display());
        let mut handle = File::open(&path).await.map_err(|error| {
            let kind = if error.kind() == std::io::ErrorKind::NotFound { Kind::FixInput } else { Kind::FixSetup };
            Error::new(kind, context.clone()).because(error)
        })?;
        let now = described(&file.name, &handle.metadata().await.during(Kind::Retry, context.clone())?);
        if !now.is_like(file) {
            return Err(file_changed(&file.name));
        }
        handle.seek(SeekFrom::Start(from)).await.during(Kind::Retry, context.clone())?;
        let pieces = futures::stream::try_unfold((handle, now), move |(mut handle, listed)| {
            let context = context.clone();
            async move {
                let mut piece = BytesMut::with_capacity(PIECE_BYTES);
                let read = handle.read_buf(&mut piece).await.during(Kind::Retry, context.clone())?;
                if read > 0 {
                    return Ok(Some((piece.freeze(), (handle, listed))));
                }
                let last = described(&listed.name, &handle.metadata().await.during(Kind::Retry, context)?);
                if last.is_like(&listed) { Ok(None) } else { Err(file_changed(&listed.name)) }
            }
        });
        Ok(OpenedFile { from, bytes: pieces.boxed() })
    }
}

fn list(root: &Path, patterns: &[Pattern]) -> Result<Listing> {
    if !root.is_dir() {
        let what = if root.exists() { "it is not a folder" } else { "there is no such folder" };
        let error = Error::new(Kind::FixSetup, format!("list {}: {what}", root.display()));
        return Err(error.hint("create the folder, or change [source] in the ingest's file"));
    }
    let mut listing = Listing::default();
    for pattern in patterns {
        let folder = root.join(pattern.folder());
        if !folder.is_dir() {
            continue;
        }
        let entries = WalkDir::new(&folder).min_depth(1).max_depth(pattern.depth_max()).follow_links(false);
        for entry in entries {
            match entry {
                Ok(entry) => add_entry(root, pattern, &entry, &mut listing)?,
                // Removed while the folder was read.
                Err(error) if error.io_error().is_some_and(|e| e.kind() == std::io::ErrorKind::NotFound) => {}
                Err(error) => {
                    return Err(Error::new(Kind::FixSetup, format!("list {}", folder.display())).because(error));
                }
            }
            if listing.files.len() > FILES_MAX {
                return listing.finish();
            }
        }
    }
    listing.finish()
}

fn add_entry(root: &Path, pattern: &Pattern, entry: &DirEntry, listing: &mut Listing) -> Result<()> {
    if entry.file_type().is_dir() {
        return Ok(());
    }
    let relative = entry.path().strip_prefix(root).during(Kind::Bug, "name a file of a folder")?;
    let Some(name) = relative.to_str() else {
        let name = relative.to_string_lossy().into_owned();
        if pattern.matches(&name) {
            listing.skipped.push(SkippedFile { name, reason: SkipReason::NotUtf8 });
        }
        return Ok(());
    };
    if !pattern.matches(name) {
        return Ok(());
    }
    let skipped = |reason| SkippedFile { name: name.to_owned(), reason };
    if !entry.file_type().is_file() {
        listing.skipped.push(skipped(SkipReason::NotPlainFile));
        return Ok(());
    }
    match entry.metadata() {
        Ok(metadata) => listing.files.push(described(name, &metadata)),
        Err(_) => listing.skipped.push(skipped(SkipReason::Absent)),
    }
    Ok(())
}

fn described(name: &str, metadata: &Metadata) -> ListedFile {
    let modified = metadata.modified().ok().map(DateTime::<Utc>::from);
    // A copy may have its original's time and size, with other content; the time of its last change is always its own.
    let etag = Some(format!("{}.{:09}", metadata.ctime(), metadata.ctime_nsec()));
    ListedFile { name: name.to_owned(), size: Some(metadata.len()), modified, etag }
}
