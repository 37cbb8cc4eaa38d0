//! Files that come with an event, and files that the function leaves: inputs are placed where the sandbox reads
//! them, and results are collected once the function has answered.
//!
//! The content of `/results` is not trusted: no link in it is followed, and no more is copied than the folder may
//! hold. The results appear whole or not at all.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, statat, unlinkat};
use walkdir::WalkDir;

use crate::error::{Error, ErrorContext, Kind, Result};

/// The deepest nesting of folders in the results. More is a mistake or an attack.
const DEPTH_MAX: usize = 32;
const READ_BY_ALL: u32 = 0o444;
const ENTERED_BY_ALL: u32 = 0o755;

/// The files of an event: its inputs, and where its results go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFiles {
    /// What the function reads in `/inputs`.
    pub inputs: Vec<Input>,
    /// A folder that does not exist yet. It appears, whole, when the function has answered; after an error of the
    /// function it does not. `None`: the results are removed.
    pub results: Option<PathBuf>,
}

/// A file or a folder of this machine, at `/inputs/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Its path below `/inputs`.
    pub name: String,
    /// Where it is on this machine.
    pub path: PathBuf,
}

/// A file that was copied into the folder of the results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultFile {
    /// Its path in that folder.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

/// The host's side of an instance's `/inputs` and `/results`.
#[derive(Debug)]
pub(super) struct InstanceFiles {
    inputs: Inputs,
    results: OwnedFd,
    results_bytes_max: u64,
}

/// The folder that is `/inputs` in an instance. It is removed when this is dropped.
#[derive(Debug)]
pub(super) struct Inputs(PathBuf);

/// Why results can't be collected.
#[derive(Debug)]
pub(super) enum ResultsError {
    /// The function wrote something that can't be a result: which file, and why not.
    Function(String),
    /// The host could not copy them.
    Host(Error),
}

impl Inputs {
    /// Creates the folder.
    pub fn make(path: PathBuf) -> Result<Inputs> {
        folder(&path).during(Kind::FixSetup, format!("create folder {}", path.display()))?;
        Ok(Inputs(path))
    }

    /// Where the folder is on this machine.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Inputs {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl InstanceFiles {
    /// The files of an instance whose open folder `/results` holds at most `results_mb`.
    pub fn new(inputs: Inputs, results: OwnedFd, results_mb: u64) -> InstanceFiles {
        InstanceFiles { inputs, results, results_bytes_max: results_mb << 20 }
    }

    /// Removes the files of the previous event and places the inputs of this one.
    ///
    /// # Errors
    /// [`Kind::FixInput`] for an input that can't be read or has no plain name, and for a results folder that exists.
    pub fn place_inputs(&self, files: &EventFiles) -> Result<()> {
        self.clear()?;
        if let Some(results) = files.results.as_ref().filter(|results| results.exists()) {
            let context = format!("write results to {}: it exists already; name a new folder", results.display());
            return Err(Error::new(Kind::FixInput, context));
        }
        files.inputs.iter().try_for_each(|input| self.place_input(input))
    }

    fn place_input(&self, input: &Input) -> Result<()> {
        let context = || format!("place {} at /inputs/{}", input.path.display(), input.name);
        let plain = |name: &Path| name.components().all(|part| matches!(part, Component::Normal(_)));
        if input.name.is_empty() || !plain(Path::new(&input.name)) {
            let context = format!("{}: the name must be a path below /inputs", context());
            return Err(Error::new(Kind::FixInput, context));
        }
        let at = self.inputs.0.join(&input.name);
        for parent in Path::new(&input.name).ancestors().skip(1).collect::<Vec<_>>().into_iter().rev() {
            folder(&self.inputs.0.join(parent)).during(Kind::FixSetup, context())?;
        }
        for entry in WalkDir::new(&input.path).follow_links(true) {
            let entry = entry.during(Kind::FixInput, context())?;
            let inner = entry.path().strip_prefix(&input.path).unwrap_or(Path::new(""));
            let at = if inner.as_os_str().is_empty() { at.clone() } else { at.join(inner) };
            let placed = if entry.file_type().is_dir() { folder(&at) } else { link(entry.path(), &at) };
            placed.during(Kind::FixInput, context())?;
        }
        Ok(())
    }

    /// Copies the results to `into`, which appears whole. A crash leaves at most a hidden folder beside it, which the
    /// next call removes.
    pub fn collect_results(&self, into: &Path) -> Result<Vec<ResultFile>, ResultsError> {
        let name = into.file_name().and_then(|name| name.to_str()).unwrap_or("results");
        let new = into.with_file_name(format!(".{name}.new"));
        let context = format!("copy results to {}", into.display());
        let host = |error: io::Error| ResultsError::Host(Error::new(Kind::FixSetup, context.clone()).because(error));
        // Left by a host that was killed.
        match fs::remove_dir_all(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(host(error)),
            _ => {}
        }
        let mut collector = Collector { left: self.results_bytes_max, produced: Vec::new() };
        let taken = collector.folder(self.results.as_fd(), &new, "", 0).and_then(|()| {
            fs::rename(&new, into)?;
            let parent = into.parent().filter(|parent| !parent.as_os_str().is_empty());
            File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
            Ok(())
        });
        taken.map_err(|stop| {
            let _ = fs::remove_dir_all(&new);
            match stop {
                CollectError::Function(says) => ResultsError::Function(says),
                CollectError::Host(error) => host(error),
            }
        })?;
        Ok(collector.produced)
    }

    /// Removes the inputs and results.
    pub fn clear(&self) -> Result<()> {
        const CLEAR: &str = "clear the files of an event";
        for entry in fs::read_dir(&self.inputs.0).during(Kind::FixSetup, CLEAR)? {
            let entry = entry.during(Kind::FixSetup, CLEAR)?;
            let folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let gone = if folder { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) };
            gone.during(Kind::FixSetup, CLEAR)?;
        }
        empty(self.results.as_fd(), 0).during(Kind::Retry, CLEAR)
    }
}

fn folder(path: &Path) -> io::Result<()> {
    if !path.is_dir() {
        fs::create_dir(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(ENTERED_BY_ALL))?;
    }
    Ok(())
}

/// Makes a hard link, which costs nothing, or a copy: where no link is possible, or where the function's user
/// could not read the file.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    let from = fs::canonicalize(from)?;
    let found = from.metadata()?;
    if !found.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{} is not a file", from.display())));
    }
    // A copy over a hard link would write to the file that it links to.
    if fs::symlink_metadata(to).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "another input has this name"));
    }
    if found.mode() & 0o004 != 0 && fs::hard_link(&from, to).is_ok() {
        return Ok(());
    }
    let mut copy = File::create_new(to)?;
    io::copy(&mut File::open(&from)?, &mut copy)?;
    fs::set_permissions(to, fs::Permissions::from_mode(READ_BY_ALL))
}

/// Why collecting has stopped; see [`ResultsError`].
enum CollectError {
    Function(String),
    Host(io::Error),
}

impl From<io::Error> for CollectError {
    fn from(error: io::Error) -> CollectError {
        CollectError::Host(error)
    }
}

struct Collector {
    /// Bytes that may still be copied.
    left: u64,
    produced: Vec<ResultFile>,
}

impl Collector {
    fn folder(&mut self, from: BorrowedFd<'_>, to: &Path, name: &str, depth: usize) -> Result<(), CollectError> {
        if depth > DEPTH_MAX {
            return Err(CollectError::Function(format!("/results{name}: folders are nested deeper than {DEPTH_MAX}")));
        }
        fs::create_dir(to)?;
        for (entry, kind) in entries(from)? {
            let inner = format!("{name}/{}", entry.to_string_lossy());
            let Ok(plain) = entry.to_str() else {
                return Err(CollectError::Function(format!("/results{inner}: its name is not UTF-8")));
            };
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let open = |flags| {
                let opened = openat(from, entry.as_c_str(), flags, Mode::empty());
                opened.map_err(|error| CollectError::Function(format!("/results{inner}: {}", io::Error::from(error))))
            };
            match kind {
                FileType::Directory => {
                    self.folder(open(flags | OFlags::DIRECTORY)?.as_fd(), &to.join(plain), &inner, depth + 1)?;
                }
                FileType::RegularFile => self.file(open(flags)?, &to.join(plain), &inner)?,
                _ => return Err(CollectError::Function(format!("/results{inner}: neither a file nor a folder"))),
            }
        }
        File::open(to)?.sync_all()?;
        Ok(())
    }

    fn file(&mut self, from: OwnedFd, to: &Path, name: &str) -> Result<(), CollectError> {
        let from = File::from(from);
        if !from.metadata()?.is_file() {
            return Err(CollectError::Function(format!("/results{name}: neither a file nor a folder")));
        }
        let mut new = File::create(to)?;
        // A sparse file may be larger than the folder that holds it.
        let bytes = io::copy(&mut from.take(self.left + 1), &mut new)?;
        if bytes > self.left {
            return Err(CollectError::Function(format!(
                "/results{name}: the results are larger than [files] results_mb"
            )));
        }
        self.left -= bytes;
        new.sync_all()?;
        self.produced.push(ResultFile { name: name.trim_start_matches('/').to_owned(), bytes });
        Ok(())
    }
}

/// The entries of an open folder, in the order of their names.
fn entries(of: BorrowedFd<'_>) -> io::Result<Vec<(std::ffi::CString, FileType)>> {
    let mut all = Vec::new();
    for entry in Dir::read_from(of)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            let found = statat(of, name, AtFlags::SYMLINK_NOFOLLOW)?;
            all.push((name.to_owned(), FileType::from_raw_mode(found.st_mode)));
        }
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(all)
}

/// Removes everything in an open folder.
fn empty(of: BorrowedFd<'_>, depth: usize) -> io::Result<()> {
    if depth > 4 * DEPTH_MAX {
        return Err(io::Error::other("folders are nested too deep"));
    }
    for (name, kind) in entries(of)? {
        let flags = if kind == FileType::Directory {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
            empty(openat(of, &name, flags, Mode::empty())?.as_fd(), depth + 1)?;
            AtFlags::REMOVEDIR
        } else {
            AtFlags::empty()
        };
        unlinkat(of, &name, flags)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
