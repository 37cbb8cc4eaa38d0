//! Stores what functions print in files, one for each function. The files are rotated, so that they never fill
//! the disk. Each line is stored with its time, version and invocation, so the output of one invocation can be
//! found. Lines are written without a buffer: a kill loses none of them.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{SecondsFormat, Utc};
use serde::Serialize;

use super::logs::{Line, Sink};
use crate::definition::is_name;
use crate::error::{ErrorContext, Kind, Result};

/// Files for each function, the current one included.
const FILES_MAX: usize = 4;

/// The stored output of all functions. Cheap to clone.
#[derive(Clone)]
pub struct Journal {
    inner: Arc<Inner>,
}

struct Inner {
    folder: PathBuf,
    file_bytes_max: u64,
    /// By function: its current file and how many bytes that has.
    open: Mutex<BTreeMap<String, (File, u64)>>,
}

/// A stored line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JournalLine {
    /// When it was printed: RFC 3339, UTC, with milliseconds.
    pub at: String,
    /// The version that printed it.
    pub version: String,
    /// The invocation that printed it; `None` before the instance's first one.
    pub request_id: Option<String>,
    /// The line itself.
    pub text: String,
}

impl Journal {
    /// Opens the journal in a folder, which is created where it does not exist. A file of more than `file_bytes_max`
    /// is rotated.
    pub fn open(folder: &Path, file_bytes_max: u64) -> Result<Journal> {
        fs::create_dir_all(folder).during(Kind::FixSetup, format!("create folder {}", folder.display()))?;
        let inner = Inner { folder: folder.to_owned(), file_bytes_max, open: Mutex::default() };
        Ok(Journal { inner: Arc::new(inner) })
    }

    /// A sink that stores each line here, for [`super::PoolSettings`]. A line that can't be written is dropped with a
    /// warning.
    pub fn sink(&self) -> Sink {
        let journal = self.clone();
        Arc::new(move |line| {
            if let Err(error) = journal.put(&line) {
                tracing::warn!(%error, function = line.function, "store a function's output");
            }
        })
    }

    /// The newest `limit` lines of a function, or of one of its invocations. The oldest of them comes first.
    pub fn lines(&self, function: &str, request_id: Option<&str>, limit: usize) -> Result<Vec<JournalLine>> {
        let mut kept = VecDeque::new();
        if !is_name(function) {
            return Ok(Vec::new());
        }
        for number in (0..FILES_MAX).rev() {
            let path = self.path(function, number);
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error).during(Kind::FixSetup, format!("read {}", path.display())),
            };
            for line in BufReader::new(file).split(b'\n') {
                let line = line.during(Kind::FixSetup, format!("read {}", path.display()))?;
                let line = read_line(&String::from_utf8_lossy(&line));
                let wanted = |line: &JournalLine| request_id.is_none() || line.request_id.as_deref() == request_id;
                if let Some(line) = line.filter(wanted) {
                    kept.push_back(line);
                    if kept.len() > limit {
                        kept.pop_front();
                    }
                }
            }
        }
        Ok(kept.into())
    }

    fn put(&self, line: &Line) -> io::Result<()> {
        let at = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        let request_id = line.request_id.as_deref().unwrap_or("-");
        // The text is the last field, so it may contain tabs.
        let written = format!("{at}\t{}\t{request_id}\t{}\n", line.version, line.text.replace('\n', " "));
        let mut open = self.inner.open.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, bytes) = match open.get_mut(&line.function) {
            Some(there) => there,
            None => {
                let file = File::options().append(true).create(true).open(self.path(&line.function, 0))?;
                let bytes = file.metadata()?.len();
                open.entry(line.function.clone()).or_insert((file, bytes))
            }
        };
        file.write_all(written.as_bytes())?;
        *bytes += written.len() as u64;
        if *bytes > self.inner.file_bytes_max {
            open.remove(&line.function);
            self.rotate(&line.function)?;
        }
        Ok(())
    }

    fn rotate(&self, function: &str) -> io::Result<()> {
        for number in (0..FILES_MAX - 1).rev() {
            match fs::rename(self.path(function, number), self.path(function, number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn path(&self, function: &str, number: usize) -> PathBuf {
        let name = if number == 0 { format!("{function}.log") } else { format!("{function}.{number}.log") };
        self.inner.folder.join(name)
    }
}

/// `None` for an incomplete line.
fn read_line(line: &str) -> Option<JournalLine> {
    let mut fields = line.splitn(4, '\t');
    let mut next = || fields.next().map(str::to_owned);
    let (at, version, request_id, text) = (next()?, next()?, next()?, next()?);
    Some(JournalLine { at, version, request_id: Some(request_id).filter(|id| id != "-"), text })
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn line(request_id: Option<&str>, text: &str) -> Line {
        let request_id = request_id.map(str::to_owned);
        Line { function: "bill".into(), version: "3".into(), request_id, text: text.into() }
    }

    #[test]
    fn the_lines_of_one_invocation() {
        let folder = TempDir::new().unwrap();
        let journal = Journal::open(folder.path(), 1 << 20).unwrap();
        let sink = journal.sink();
        for printed in
            [line(Some("1"), "one\ttab"), line(None, "between"), line(Some("2"), "été"), line(Some("1"), "two")]
        {
            sink(printed);
        }
        let texts = |id: Option<&str>, limit| -> Vec<String> {
            journal.lines("bill", id, limit).unwrap().into_iter().map(|line| line.text).collect()
        };
        assert_eq!(texts(Some("1"), 9), ["one\ttab", "two"]);
        assert_eq!(texts(None, 2), ["été", "two"]);
        assert_eq!(journal.lines("bill", None, 9).unwrap()[1].request_id, None);
        assert!(
            journal.lines("../bill", None, 9).unwrap().is_empty()
                && journal.lines("other", None, 9).unwrap().is_empty()
        );
    }

    #[test]
    fn it_never_fills_the_disk() {
        let folder = TempDir::new().unwrap();
        let journal = Journal::open(folder.path(), 1000).unwrap();
        let sink = journal.sink();
        for number in 0..1000 {
            sink(line(Some("1"), &format!("line {number}")));
        }
        let files: Vec<u64> =
            fs::read_dir(folder.path()).unwrap().map(|f| f.unwrap().metadata().unwrap().len()).collect();
        assert!(files.len() <= FILES_MAX && files.iter().sum::<u64>() < 5000, "{files:?}");
        let kept = journal.lines("bill", None, 9).unwrap();
        assert_eq!(kept.last().unwrap().text, "line 999");
    }
}
