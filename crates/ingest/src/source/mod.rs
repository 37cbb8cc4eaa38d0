//! Sources of files: folders, object stores, HTTP and SFTP servers. A source lists files and opens
//! those that it listed. It never changes anything on the other side, and does not know which files
//! arrived before; [`crate::arrivals`] does.

mod folder;
mod http;
mod pattern;
mod sftp;
mod stable;
mod store;
mod template;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, NaiveDate, Utc};
use futures::stream::BoxStream;

use crate::{Error, Kind, Result};

pub use folder::Folder;
pub(crate) use http::redirected;
pub use http::{Http, Url as HttpUrl};
pub use pattern::Pattern;
pub use sftp::{HostKey, Login, Sftp, SftpServer};
pub use stable::list_stable;
pub use store::Store;
pub(crate) use store::store_error;
pub use template::Template;

#[cfg(test)]
mod tests;

/// A listing of more files than this is refused: its pattern is probably wrong.
pub const FILES_MAX: usize = 200_000;

/// A file as its source describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedFile {
    /// Relative to the source, with `/` between folders.
    pub name: String,
    /// In bytes; `None` where the source does not provide it.
    pub size: Option<u64>,
    /// When it was last modified; `None` where the source does not provide it.
    pub modified: Option<DateTime<Utc>>,
    /// The source's tag of its content; `None` where it has none.
    pub etag: Option<String>,
}

impl ListedFile {
    /// Whether two descriptions can be of the same bytes. Where both have an ETag, their times don't count.
    pub fn is_like(&self, other: &ListedFile) -> bool {
        fn differ<T: PartialEq>(a: Option<&T>, b: Option<&T>) -> bool {
            matches!((a, b), (Some(a), Some(b)) if a != b)
        }
        match (&self.etag, &other.etag) {
            (Some(a), Some(b)) => a == b && !differ(self.size.as_ref(), other.size.as_ref()),
            _ => {
                !differ(self.size.as_ref(), other.size.as_ref())
                    && !differ(self.modified.as_ref(), other.modified.as_ref())
            }
        }
    }
}

/// The files of a source at one time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Sorted by name, without duplicates.
    pub files: Vec<ListedFile>,
    /// Files that match but can't be fetched now, for the report.
    pub skipped: Vec<SkippedFile>,
}

/// A file that matches but is not fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedFile {
    /// Relative to the source; where it is not UTF-8, with replacement characters.
    pub name: String,
    /// Why it is not fetched.
    pub reason: SkipReason,
}

/// Why a file is not fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkipReason {
    /// Its size or time changed between two listings: it is left for the next run.
    Growing,
    /// It does not exist yet, or no longer.
    Absent,
    /// Its name is not UTF-8, so that it can't be recorded exactly.
    NotUtf8,
    /// A link, a device or a socket.
    NotPlainFile,
}

impl SkipReason {
    /// The reason in words, to follow the file's name.
    pub fn as_str(self) -> &'static str {
        match self {
            SkipReason::Growing => "is still growing",
            SkipReason::Absent => "does not exist",
            SkipReason::NotUtf8 => "its name is not UTF-8",
            SkipReason::NotPlainFile => "is not a plain file",
        }
    }
}

/// A stream of a file's bytes from some offset to its end.
pub struct OpenedFile {
    /// The offset of the first byte: 0 where the source can't begin anywhere else.
    pub from: u64,
    /// The bytes; an error ends the stream.
    pub bytes: BoxStream<'static, Result<Bytes>>,
}

/// A place that files are fetched from.
#[async_trait]
pub trait Source: Send + Sync {
    /// All files that match the source's patterns or URLs, filled in with the logical date.
    ///
    /// # Errors
    /// `Retry` where the source can't be reached; `FixSetup` where it denies access, or has more files than
    /// [`FILES_MAX`].
    async fn list(&self, date: NaiveDate) -> Result<Listing>;

    /// The bytes of a listed file, from the offset `from` where the source can, else from the beginning.
    ///
    /// # Errors
    /// `Retry` where the file changed since it was listed, at once or at the end of the stream, or where
    /// the source can't be reached. `FixInput` where there is no such file.
    async fn open(&self, file: &ListedFile, from: u64) -> Result<OpenedFile>;
}

impl Listing {
    /// Sorts the files and removes duplicates.
    ///
    /// # Errors
    /// `FixSetup` for more than [`FILES_MAX`] files.
    fn finish(mut self) -> Result<Listing> {
        if self.files.len() > FILES_MAX {
            let what = format!("list the files: there are more than {FILES_MAX}; narrow the pattern");
            return Err(Error::new(Kind::FixSetup, what));
        }
        self.files.sort_by(|a, b| a.name.cmp(&b.name));
        self.files.dedup_by(|a, b| a.name == b.name);
        self.skipped.sort_by(|a, b| a.name.cmp(&b.name));
        self.skipped.dedup();
        Ok(self)
    }
}

fn file_changed(name: &str) -> Error {
    Error::new(Kind::Retry, format!("read {name}: it changed since it was listed"))
}
