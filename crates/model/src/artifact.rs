//! Artifacts of models by the hash of their bytes: `model.tar.gz`, unpacked once, or a single file.
//!
//! An archive is not trusted: names, kinds and sizes of its entries are checked before anything is written.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use base::{Error, ErrorContext, Kind, Result};
use flate2::read::MultiGzDecoder;
use function::store::Digest;

/// How large the files of an archive may be together.
const UNPACKED_BYTES_MAX: u64 = 50 << 30;
const ENTRIES_MAX: usize = 100_000;
/// How long an artifact that nothing uses is kept: longer than any creation of what uses it takes.
const UNUSED_FOR: Duration = Duration::from_hours(6);
/// After so long, what is still being unpacked was left by a process that was killed.
const UNPACKED_WITHIN: Duration = Duration::from_hours(24);
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// The beginning and the end of the URL of a stored artifact. SageMaker's clients expect one of S3.
const URL: (&str, &str) = ("s3://wattlake/artifacts/", "/model.tar.gz");

/// A folder with artifacts. Several processes may share it.
#[derive(Debug, Clone)]
pub struct ArtifactStore {
    root: PathBuf,
}

impl ArtifactStore {
    /// Opens the store in a folder, which is created where it does not exist.
    pub fn open(root: &Path) -> Result<ArtifactStore> {
        let doing = format!("create folder {}", root.display());
        fs::create_dir_all(root.join("new")).during(Kind::FixSetup, doing.clone())?;
        fs::set_permissions(root, fs::Permissions::from_mode(0o711)).during(Kind::FixSetup, doing)?;
        Ok(ArtifactStore { root: root.to_owned() })
    }

    /// Puts a file into the store: an archive (`.tar.gz`), which is unpacked, or any other file. Returns its hash.
    ///
    /// # Errors
    /// [`Kind::FixInput`] names the archive's entry that is not allowed, or the file that can't be read.
    pub fn put(&self, file: &Path) -> Result<String> {
        let doing = || format!("store {}", file.display());
        let hash = hash_of(file).during(Kind::FixInput, doing())?;
        let folder = self.path(&hash);
        if folder.is_dir() {
            // It is young again: who puts it uses it in a moment.
            let touched = File::open(&folder).and_then(|opened| opened.set_modified(SystemTime::now()));
            touched.during(Kind::FixSetup, doing())?;
            if folder.is_dir() {
                return Ok(hash);
            }
        }
        let new = self.root.join("new").join(uuid::Uuid::now_v7().simple().to_string());
        let made = fs::create_dir(&new).during(Kind::FixSetup, doing()).and_then(|()| unpack(file, &new));
        let made = made.and_then(|()| match hash_of(file).during(Kind::FixInput, doing())? == hash {
            true => Ok(()),
            false => Err(Error::retry(format!("{}: the file was changed meanwhile", doing()))),
        });
        // Another process may have put the same artifact meanwhile.
        let made = made.and_then(|()| match fs::rename(&new, &folder) {
            Err(error) if !folder.is_dir() => Err(error).during(Kind::FixSetup, doing()),
            _ => File::open(&self.root).and_then(|root| root.sync_all()).during(Kind::FixSetup, doing()),
        });
        let _ = fs::remove_dir_all(&new);
        made.map(|()| hash)
    }

    /// The URL of a stored artifact: `s3://wattlake/artifacts/HASH/model.tar.gz`.
    pub fn url(&self, hash: &str) -> String {
        format!("{}{hash}{}", URL.0, URL.1)
    }

    /// The hash of the stored artifact that a URL names. `None` for other URLs.
    pub fn hash_of_url(&self, url: &str) -> Option<String> {
        let hash = url.strip_prefix(URL.0)?.strip_suffix(URL.1)?;
        let is_hash = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        (is_hash && self.path(hash).is_dir()).then(|| hash.to_owned())
    }

    /// The folder of an artifact's files.
    pub fn path(&self, hash: &str) -> PathBuf {
        self.root.join(hash)
    }

    /// Removes the artifacts that are not in `used`, but for young ones: another process may use them in a moment. Returns
    /// the number of bytes.
    pub fn remove_unused(&self, used: &[String]) -> Result<u64> {
        const REMOVE: &str = "remove unused artifacts";
        let new = self.root.join("new");
        for entry in fs::read_dir(&self.root).during(Kind::FixSetup, REMOVE)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.len() == 64 && !used.contains(&name) && is_old(&entry.path(), UNUSED_FOR) {
                // Moved first: a removal that is interrupted leaves no part under the name.
                let moved = new.join(format!("removed-{}", uuid::Uuid::now_v7().simple()));
                if let Err(error) = fs::rename(entry.path(), &moved) {
                    tracing::warn!(%error, path = %entry.path().display(), "{REMOVE}");
                }
            }
        }
        let mut bytes = 0;
        for entry in fs::read_dir(&new).during(Kind::FixSetup, REMOVE)?.flatten() {
            let is_removed = entry.file_name().to_string_lossy().starts_with("removed-");
            // Left by a process that was killed while it unpacked.
            if is_removed || is_old(&entry.path(), UNPACKED_WITHIN) {
                let size = folder_bytes(&entry.path());
                match fs::remove_dir_all(entry.path()) {
                    Ok(()) => bytes += size,
                    Err(error) => tracing::warn!(%error, path = %entry.path().display(), "{REMOVE}"),
                }
            }
        }
        Ok(bytes)
    }
}

/// The hash of an archive; of another file, with its name, which programs look it up by.
fn hash_of(file: &Path) -> io::Result<String> {
    let hash = Digest::of_file(file)?.to_string();
    Ok(match is_gzip(file) {
        true => hash,
        false => {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            Digest::of(&format!("{hash} {name}")).to_string()
        }
    })
}

fn is_gzip(file: &Path) -> bool {
    let mut begin = [0; 2];
    File::open(file).and_then(|mut file| file.read_exact(&mut begin)).is_ok() && begin == GZIP
}

fn is_old(path: &Path, age: Duration) -> bool {
    let modified = fs::metadata(path).and_then(|found| found.modified()).ok();
    modified.and_then(|at| at.elapsed().ok()).is_some_and(|found| found > age)
}

/// Unpacks an archive, or copies another file, into an empty folder.
///
/// # Errors
/// As [`ArtifactStore::put`].
pub fn unpack_file(file: &Path, into: &Path) -> Result<()> {
    unpack(file, into)
}

fn folder_bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => folder_bytes(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

fn unpack(file: &Path, into: &Path) -> Result<()> {
    let doing = || format!("store {}", file.display());
    fs::set_permissions(into, fs::Permissions::from_mode(0o755)).during(Kind::FixSetup, doing())?;
    if !is_gzip(file) {
        let name = file.file_name().unwrap_or_default();
        let copied = fs::copy(file, into.join(name)).and_then(|_| readable(&into.join(name), 0o644));
        let copied = copied.and_then(|()| File::open(into.join(name))?.sync_all());
        return copied.and_then(|()| File::open(into)?.sync_all()).during(Kind::FixSetup, doing());
    }
    let archive = File::open(file).during(Kind::FixInput, doing())?;
    let mut archive = tar::Archive::new(MultiGzDecoder::new(BufReader::new(archive)));
    let entries = archive.entries().during(Kind::FixInput, doing())?;
    let (mut left, mut count) = (UNPACKED_BYTES_MAX, 0);
    for entry in entries {
        let mut entry = entry.during(Kind::FixInput, format!("{}: the archive is cut off, or no archive", doing()))?;
        let path = entry.path().during(Kind::FixInput, doing())?.into_owned();
        let refused = |what: &str| Error::input(format!("{}: the entry {:?} {what}", doing(), path.display()));
        count += 1;
        if count > ENTRIES_MAX {
            return Err(refused("is one of too many"));
        }
        let is_inside = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !is_inside {
            return Err(refused("lies outside of the archive"));
        }
        let to = into.join(&path);
        match entry.header().entry_type() {
            tar::EntryType::Directory => make_folder(&to).during(Kind::FixInput, doing())?,
            tar::EntryType::Regular | tar::EntryType::GNUSparse => {
                let executable = entry.header().mode().is_ok_and(|mode| mode & 0o100 != 0);
                let written = write(&mut entry, &to, &mut left, if executable { 0o755 } else { 0o644 });
                written.map_err(|error| refused("can't be unpacked").because(error))?;
            }
            tar::EntryType::XGlobalHeader => {}
            _ => return Err(refused("is a link or a device: only files and folders are allowed")),
        }
    }
    Ok(())
}

fn write(from: &mut impl Read, to: &Path, left: &mut u64, mode: u32) -> io::Result<()> {
    if let Some(parent) = to.parent() {
        make_folder(parent)?;
    }
    let mut file = File::create_new(to)?;
    let bytes = io::copy(&mut from.take(*left + 1), &mut file)?;
    if bytes > *left {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the archive is too large"));
    }
    *left -= bytes;
    file.sync_all()?;
    readable(to, mode)
}

/// Makes a folder that programs of other users can read, whatever the umask.
fn make_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_folder(parent)?;
    }
    fs::create_dir(path)?;
    readable(path, 0o755)
}

fn readable(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests;
