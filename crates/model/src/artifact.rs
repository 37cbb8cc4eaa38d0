//! Artifacts of models by the hash of their bytes: `model.tar.gz`, unpacked once, or a single file.
//!
//! An archive is not trusted: names, kinds and sizes of its entries are checked before anything is written.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use base::{Error, ErrorContext, Kind, Result};
use flate2::read::MultiGzDecoder;
use function::store::Digest;

/// How large the files of an archive may be together.
const UNPACKED_BYTES_MAX: u64 = 50 << 30;
const ENTRIES_MAX: usize = 100_000;
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
        let hash = Digest::of_file(file).during(Kind::FixInput, doing())?.to_string();
        let folder = self.path(&hash);
        if folder.is_dir() {
            return Ok(hash);
        }
        let new = self.root.join("new").join(uuid::Uuid::now_v7().simple().to_string());
        let made = fs::create_dir(&new).during(Kind::FixSetup, doing()).and_then(|()| unpack(file, &new));
        // Another process may have put the same artifact meanwhile.
        let made = made.and_then(|()| match fs::rename(&new, &folder) {
            Err(error) if !folder.is_dir() => Err(error).during(Kind::FixSetup, doing()),
            _ => Ok(()),
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

    /// Removes the artifacts that are not in `used`; returns the number of bytes.
    pub fn remove_unused(&self, used: &[String]) -> Result<u64> {
        const REMOVE: &str = "remove unused artifacts";
        let mut bytes = 0;
        for entry in fs::read_dir(&self.root).during(Kind::FixSetup, REMOVE)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.len() != 64 || used.contains(&name) {
                continue;
            }
            bytes += folder_bytes(&entry.path());
            if let Err(error) = fs::remove_dir_all(entry.path()) {
                tracing::warn!(%error, path = %entry.path().display(), "{REMOVE}");
            }
        }
        Ok(bytes)
    }
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
    let mut begin = [0; 2];
    let is_gzip = File::open(file).and_then(|mut file| file.read_exact(&mut begin)).is_ok() && begin == GZIP;
    if !is_gzip {
        let name = file.file_name().unwrap_or_default();
        let copied = fs::copy(file, into.join(name)).and_then(|_| readable(&into.join(name), 0o644));
        return copied.during(Kind::FixSetup, doing());
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
            tar::EntryType::Directory => fs::create_dir_all(&to).during(Kind::FixInput, doing())?,
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
        fs::create_dir_all(parent)?;
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

fn readable(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests;
