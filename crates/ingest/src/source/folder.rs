//! A folder of this machine. Links inside it are not followed: they could lead anywhere, and in rounds.

use std::fs::Metadata;
use std::io::SeekFrom;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::BytesMut;
use chrono::{DateTime, NaiveDate, Utc};
use futures::StreamExt;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use walkdir::{DirEntry, WalkDir};

use super::{FILES_MAX, Left, Listed, Listing, Opened, Pattern, Source, Template, Why, changed};
use crate::error::During;
use crate::{Error, Kind, Result};

const PIECE_BYTES: usize = 256 << 10;

pub struct Folder {
    root: PathBuf,
    patterns: Vec<Template>,
}

impl Folder {
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

    async fn open(&self, file: &Listed, from: u64) -> Result<Opened> {
        let path = self.root.join(&file.name);
        let context = format!("read {}", path.display());
        let mut handle = File::open(&path).await.map_err(|error| {
            let kind = if error.kind() == std::io::ErrorKind::NotFound { Kind::FixInput } else { Kind::FixSetup };
            Error::new(kind, context.clone()).because(error)
        })?;
        let now = described(&file.name, &handle.metadata().await.during(Kind::Retry, context.clone())?);
        if !now.is_like(file) {
            return Err(changed(&file.name));
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
                if last.is_like(&listed) { Ok(None) } else { Err(changed(&listed.name)) }
            }
        });
        Ok(Opened { from, bytes: pieces.boxed() })
    }
}

fn list(root: &Path, patterns: &[Pattern]) -> Result<Listing> {
    if !root.is_dir() {
        return Err(Error::new(Kind::FixSetup, format!("list {}: it is no folder", root.display())));
    }
    let mut listing = Listing::default();
    for pattern in patterns {
        let below = root.join(pattern.folder());
        if !below.is_dir() {
            continue;
        }
        let entries = WalkDir::new(&below).min_depth(1).max_depth(pattern.depth_max()).follow_links(false);
        for entry in entries {
            match entry {
                Ok(entry) => take(root, pattern, &entry, &mut listing)?,
                // Taken away while the folder was read.
                Err(error) if error.io_error().is_some_and(|e| e.kind() == std::io::ErrorKind::NotFound) => {}
                Err(error) => {
                    return Err(Error::new(Kind::FixSetup, format!("list {}", below.display())).because(error));
                }
            }
            if listing.files.len() > FILES_MAX {
                return listing.finish();
            }
        }
    }
    listing.finish()
}

fn take(root: &Path, pattern: &Pattern, entry: &DirEntry, listing: &mut Listing) -> Result<()> {
    if entry.file_type().is_dir() {
        return Ok(());
    }
    let relative = entry.path().strip_prefix(root).during(Kind::Bug, "name a file of a folder")?;
    let Some(name) = relative.to_str() else {
        let name = relative.to_string_lossy().into_owned();
        if pattern.matches(&name) {
            listing.left.push(Left { name, why: Why::Name });
        }
        return Ok(());
    };
    if !pattern.matches(name) {
        return Ok(());
    }
    let left = |why| Left { name: name.to_owned(), why };
    if !entry.file_type().is_file() {
        listing.left.push(left(Why::NotAFile));
        return Ok(());
    }
    match entry.metadata() {
        Ok(metadata) => listing.files.push(described(name, &metadata)),
        Err(_) => listing.left.push(left(Why::Absent)),
    }
    Ok(())
}

fn described(name: &str, metadata: &Metadata) -> Listed {
    let modified = metadata.modified().ok().map(DateTime::<Utc>::from);
    Listed { name: name.to_owned(), size: Some(metadata.len()), modified, etag: None }
}
