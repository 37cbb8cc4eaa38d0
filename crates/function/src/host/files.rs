//! Files that come with an event, and files that it leaves: laid where its sandbox reads them,
//! taken out of it once it has answered.
//!
//! What lies in `/results` was written by the function: no link in it is followed, and no more is
//! taken than the folder may hold. A result appears whole or not at all.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, statat, unlinkat};
use walkdir::WalkDir;

use crate::error::{During, Error, Kind, Result};

/// Folders in folders: more is a mistake, or an attack.
const DEPTH_MAX: usize = 32;
const READ_BY_ALL: u32 = 0o444;
const ENTERED_BY_ALL: u32 = 0o755;

/// What an event brings and what it is to leave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    pub inputs: Vec<Input>,
    /// A folder that is not there yet; it appears, whole, when the function has answered. After an
    /// error it doesn't.
    pub results: Option<PathBuf>,
}

/// A file or a folder of this machine, at `/inputs/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    pub name: String,
    pub path: PathBuf,
}

/// A file that was taken into the folder of the results; its name is its path there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Produced {
    pub name: String,
    pub bytes: u64,
}

/// What of an instance's files the host sees.
#[derive(Debug)]
pub(super) struct Desk {
    inputs: Inputs,
    results: OwnedFd,
    results_bytes_max: u64,
}

/// The host's side of `/inputs`; gone when it is dropped.
#[derive(Debug)]
pub(super) struct Inputs(PathBuf);

/// Why results can't be taken.
#[derive(Debug)]
pub(super) enum Refused {
    /// The function's own doing, said in its words.
    Function(String),
    Host(Error),
}

impl Inputs {
    pub fn make(path: PathBuf) -> Result<Inputs> {
        folder(&path).during(Kind::FixSetup, format!("make folder {}", path.display()))?;
        Ok(Inputs(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Inputs {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Desk {
    pub fn new(inputs: Inputs, results: OwnedFd, results_mb: u64) -> Desk {
        Desk { inputs, results, results_bytes_max: results_mb << 20 }
    }

    /// Before an event: what the one before it left is gone, what comes with this one is there.
    pub fn lay(&self, files: &Files) -> Result<()> {
        self.clear()?;
        if let Some(results) = files.results.as_ref().filter(|results| results.exists()) {
            let context = format!("write results into {}: it is there already", results.display());
            return Err(Error::new(Kind::FixInput, context));
        }
        files.inputs.iter().try_for_each(|input| self.lay_one(input))
    }

    fn lay_one(&self, input: &Input) -> Result<()> {
        let context = || format!("lay {} at /inputs/{}", input.path.display(), input.name);
        let plain = |name: &Path| name.components().all(|part| matches!(part, Component::Normal(_)));
        if input.name.is_empty() || !plain(Path::new(&input.name)) {
            let context = format!("{}: a name is a path below /inputs", context());
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
            let laid = if entry.file_type().is_dir() { folder(&at) } else { link(entry.path(), &at) };
            laid.during(Kind::FixInput, context())?;
        }
        Ok(())
    }

    /// Takes what the function has left into a folder that appears whole.
    pub fn take(&self, into: &Path) -> Result<Vec<Produced>, Refused> {
        let name = into.file_name().and_then(|name| name.to_str()).unwrap_or("results");
        let new = into.with_file_name(format!(".{name}.new"));
        let context = format!("take results into {}", into.display());
        let host = |error: io::Error| Refused::Host(Error::new(Kind::FixSetup, context.clone()).because(error));
        // Left by a host that was killed.
        match fs::remove_dir_all(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(host(error)),
            _ => {}
        }
        let mut taking = Taking { left: self.results_bytes_max, produced: Vec::new() };
        let taken = taking.folder(self.results.as_fd(), &new, "", 0).and_then(|()| {
            fs::rename(&new, into)?;
            let parent = into.parent().filter(|parent| !parent.as_os_str().is_empty());
            File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
            Ok(())
        });
        taken.map_err(|stop| {
            let _ = fs::remove_dir_all(&new);
            match stop {
                Stop::Function(says) => Refused::Function(says),
                Stop::Host(error) => host(error),
            }
        })?;
        Ok(taking.produced)
    }

    /// What no event has any more.
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

/// A second name of the same file costs nothing; a copy where there can be none, or where the
/// function's user could not read it.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    let from = fs::canonicalize(from)?;
    let found = from.metadata()?;
    if !found.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{} is no file", from.display())));
    }
    if found.mode() & 0o004 != 0 && fs::hard_link(&from, to).is_ok() {
        return Ok(());
    }
    fs::copy(&from, to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(READ_BY_ALL))
}

enum Stop {
    Function(String),
    Host(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        Stop::Host(error)
    }
}

struct Taking {
    /// Bytes.
    left: u64,
    produced: Vec<Produced>,
}

impl Taking {
    fn folder(&mut self, from: BorrowedFd<'_>, to: &Path, name: &str, depth: usize) -> Result<(), Stop> {
        if depth > DEPTH_MAX {
            return Err(Stop::Function(format!("/results{name}: more than {DEPTH_MAX} folders in one another")));
        }
        fs::create_dir(to)?;
        for (entry, kind) in entries(from)? {
            let inner = format!("{name}/{}", entry.to_string_lossy());
            let Ok(plain) = entry.to_str() else {
                return Err(Stop::Function(format!("/results{inner}: its name is not UTF-8")));
            };
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let open = |flags| {
                let opened = openat(from, entry.as_c_str(), flags, Mode::empty());
                opened.map_err(|error| Stop::Function(format!("/results{inner}: {}", io::Error::from(error))))
            };
            match kind {
                FileType::Directory => {
                    self.folder(open(flags | OFlags::DIRECTORY)?.as_fd(), &to.join(plain), &inner, depth + 1)?;
                }
                FileType::RegularFile => self.file(open(flags)?, &to.join(plain), &inner)?,
                _ => return Err(Stop::Function(format!("/results{inner}: neither a file nor a folder"))),
            }
        }
        File::open(to)?.sync_all()?;
        Ok(())
    }

    fn file(&mut self, from: OwnedFd, to: &Path, name: &str) -> Result<(), Stop> {
        let from = File::from(from);
        // A file with holes claims more than its folder can hold.
        if !from.metadata()?.is_file() {
            return Err(Stop::Function(format!("/results{name}: neither a file nor a folder")));
        }
        let mut new = File::create(to)?;
        let bytes = io::copy(&mut from.take(self.left + 1), &mut new)?;
        if bytes > self.left {
            return Err(Stop::Function(format!("/results{name}: more than [files] results_mb allows")));
        }
        self.left -= bytes;
        new.sync_all()?;
        self.produced.push(Produced { name: name.trim_start_matches('/').to_owned(), bytes });
        Ok(())
    }
}

/// In the order of their names.
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

fn empty(of: BorrowedFd<'_>, depth: usize) -> io::Result<()> {
    if depth > 4 * DEPTH_MAX {
        return Err(io::Error::other("too many folders in one another"));
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
