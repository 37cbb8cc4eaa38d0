//! Where files come from. A source lists what it has and opens what it listed; it never changes
//! anything at the other end, and remembers nothing: what came already is [`crate::arrivals`]'.

mod folder;
mod http;
mod pattern;
mod settle;
mod sftp;
mod store;
mod template;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, NaiveDate, Utc};
use futures::stream::BoxStream;

use crate::{Error, Kind, Result};

pub use folder::Folder;
pub use http::{Http, Url as HttpUrl};
pub use pattern::Pattern;
pub use settle::settled;
pub use sftp::{HostKey, Login, Sftp, SftpServer};
pub use store::Store;
pub(crate) use store::failed;
pub use template::Template;

#[cfg(test)]
mod tests;

/// More files than this in one listing is a pattern that was not meant.
pub const FILES_MAX: usize = 200_000;

/// A file as its source describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Relative to the source, with `/` between folders.
    pub name: String,
    pub size: Option<u64>,
    pub modified: Option<DateTime<Utc>>,
    pub etag: Option<String>,
}

impl Listed {
    /// Whether two descriptions can be of the same bytes. An etag decides where both have one.
    pub fn is_like(&self, other: &Listed) -> bool {
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

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// By name, each once.
    pub files: Vec<Listed>,
    /// What was seen and is not among them, to be told.
    pub left: Vec<Left>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    pub name: String,
    pub why: Why,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Its size or its time changed while it was watched: next time.
    Growing,
    /// It was listed and is gone, or not there yet.
    Absent,
    /// Its name is no UTF-8: it can't be written down exactly.
    Name,
    /// A link, a device, a socket.
    NotAFile,
}

impl Why {
    pub fn as_str(self) -> &'static str {
        match self {
            Why::Growing => "still grows",
            Why::Absent => "is not there",
            Why::Name => "its name is not UTF-8",
            Why::NotAFile => "is not a plain file",
        }
    }
}

/// A file's bytes from a position on.
pub struct Opened {
    /// Where they begin: 0 where the source can't begin elsewhere.
    pub from: u64,
    pub bytes: BoxStream<'static, Result<Bytes>>,
}

#[async_trait]
pub trait Source: Send + Sync {
    /// All files that the source's patterns or URLs mean on the logical date.
    ///
    /// # Errors
    /// `Retry` where the other end is away; `FixSetup` where it refuses us or holds more than [`FILES_MAX`].
    async fn list(&self, date: NaiveDate) -> Result<Listing>;

    /// The bytes of the very file that was listed, from `from` on or from the beginning.
    /// A crash meanwhile leaves nothing at the source.
    ///
    /// # Errors
    /// `Retry` where it is no longer the file that was listed, at once or at the end of the stream;
    /// also where the other end is away. `FixInput` where there is no such file.
    async fn open(&self, file: &Listed, from: u64) -> Result<Opened>;
}

impl Listing {
    /// In order, each name once, bounded.
    fn finish(mut self) -> Result<Listing> {
        if self.files.len() > FILES_MAX {
            let what = format!("list the files: more than {FILES_MAX}; narrow the pattern");
            return Err(Error::new(Kind::FixSetup, what));
        }
        self.files.sort_by(|a, b| a.name.cmp(&b.name));
        self.files.dedup_by(|a, b| a.name == b.name);
        self.left.sort_by(|a, b| a.name.cmp(&b.name));
        self.left.dedup();
        Ok(self)
    }
}

fn changed(name: &str) -> Error {
    Error::new(Kind::Retry, format!("read {name}: it is no longer the file that was listed"))
}
