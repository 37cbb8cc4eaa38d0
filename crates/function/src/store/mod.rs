//! Stores zips by the hash of their bytes, and what sandboxes mount: each zip unpacked once, and each list of
//! layers merged once.
//!
//! A folder appears under its final name only when it is complete, so a kill leaves no incomplete folder under such a
//! name. Zips are not trusted: names, links, modes and sizes are checked before anything is written to the disk.

mod merge;
mod pack;
mod unpack;

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::{Error, ErrorContext, Kind, Result};

pub use unpack::UNPACKED_BYTES_MAX;

const UNUSED: &str = "remove unused code of functions";
/// How long unused code is kept for instances that still run it: longer than any event may take.
const UNUSED_FOR: Duration = Duration::from_hours(8 * 24);

/// The largest number of layers of a function, as on AWS Lambda.
pub const LAYERS_MAX: usize = 5;

/// A SHA-256 hash, such as that of a zip's bytes. As a text it has 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Digest([u8; 32]);

/// A folder with zips and the folders that were made from them. Several processes may share it.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Opens the store in a folder, which is created where it does not exist.
    pub fn open(root: &Path) -> Result<Store> {
        for folder in ["zips", "trees", "layers", "new"] {
            let path = root.join(folder);
            fs::create_dir_all(&path).during(Kind::FixSetup, format!("create folder {}", path.display()))?;
        }
        Ok(Store { root: root.to_owned() })
    }

    /// Stores a folder as a zip whose bytes depend on the folder's content only: names in order, one time for all
    /// files, no compression. `without` are names at the top of the folder that are left out.
    pub fn put_folder(&self, folder: &Path, without: &[&str]) -> Result<Digest> {
        let new = self.new_path();
        let put = pack::pack(folder, without, &new).and_then(|()| self.put_as(&new, folder));
        let _ = fs::remove_file(&new);
        put
    }

    /// Stores a copy of a zip; the same bytes are stored once. The zip is unpacked at once, so that a bad one is
    /// refused now and not at its first run.
    ///
    /// # Errors
    /// [`Kind::FixInput`] names the zip, or the entry that is not allowed.
    pub fn put(&self, zip: &Path) -> Result<Digest> {
        self.put_as(zip, zip)
    }

    fn put_as(&self, zip: &Path, source: &Path) -> Result<Digest> {
        let context = || format!("store {}", source.display());
        let digest = Digest::of_file(zip).during(Kind::FixInput, context())?;
        self.tree_of(zip, source, digest)?;
        let stored = self.zip(digest);
        if !stored.exists() {
            let new = self.new_path();
            fs::copy(zip, &new).during(Kind::FixSetup, context())?;
            File::open(&new).and_then(|file| file.sync_all()).during(Kind::FixSetup, context())?;
            fs::rename(&new, &stored).during(Kind::FixSetup, context())?;
        }
        Ok(digest)
    }

    /// The path of a stored zip.
    pub fn zip(&self, digest: Digest) -> PathBuf {
        self.root.join("zips").join(format!("{digest}.zip"))
    }

    /// The folder with a zip's unpacked content.
    pub fn tree(&self, digest: Digest) -> Result<PathBuf> {
        let zip = self.zip(digest);
        self.tree_of(&zip, &zip, digest)
    }

    /// The folder with all layers merged; where two have the same file, the later layer counts. `None` without layers.
    pub fn layers(&self, layers: &[Digest]) -> Result<Option<PathBuf>> {
        let trees = layers.iter().map(|layer| self.tree(*layer)).collect::<Result<Vec<_>>>()?;
        match &trees[..] {
            [] => Ok(None),
            [only] => Ok(Some(only.clone())),
            several => self.create_once(&self.root.join("layers").join(combined(layers)), "merge the layers", |into| {
                several.iter().try_for_each(|tree| merge::merge_tree(tree, into))
            }),
        }
    }

    /// The size of a stored zip.
    pub fn zip_bytes(&self, digest: Digest) -> Result<u64> {
        let path = self.zip(digest);
        let found = path.metadata().during(Kind::FixSetup, format!("find {}", path.display()))?;
        Ok(found.len())
    }

    /// The size of a zip's files when unpacked.
    pub fn tree_bytes(&self, digest: Digest) -> Result<u64> {
        let tree = self.tree(digest)?;
        let mut bytes = 0;
        for entry in walkdir::WalkDir::new(&tree) {
            let entry = entry.and_then(|entry| entry.metadata());
            let found = entry.during(Kind::FixSetup, format!("measure {}", tree.display()))?;
            bytes += if found.is_file() { found.len() } else { 0 };
        }
        Ok(bytes)
    }

    /// Moves the zips and folders out of the way that no list of `used` has, each the code of a version and its layers.
    /// What is mounted in a sandbox stays usable there.
    pub fn move_unused(&self, used: &[(Digest, Vec<Digest>)]) -> Result<()> {
        let unused = self.unused()?;
        for (folder, kept) in names_of(used) {
            for entry in fs::read_dir(self.root.join(folder)).during(Kind::FixSetup, UNUSED)?.flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if kept.contains(name.trim_end_matches(".zip")) {
                    continue;
                }
                let to = unused.join(format!("{}-{folder}-{name}", uuid::Uuid::now_v7().simple()));
                if let Err(error) = fs::rename(entry.path(), &to) {
                    tracing::warn!(%error, path = %entry.path().display(), "{UNUSED}");
                } else if let Ok(moved) = File::open(&to) {
                    // From now on it is kept for instances that still run it.
                    let _ = moved.set_modified(SystemTime::now());
                }
            }
        }
        Ok(())
    }

    /// Moves back what is in use again: it was deployed while it was moved.
    pub fn restore_used(&self, used: &[(Digest, Vec<Digest>)]) -> Result<()> {
        let names = names_of(used);
        for entry in fs::read_dir(self.unused()?).during(Kind::FixSetup, UNUSED)?.flatten() {
            let moved = entry.file_name().to_string_lossy().into_owned();
            let mut parts = moved.splitn(3, '-').skip(1);
            let (Some(folder), Some(name)) = (parts.next(), parts.next()) else { continue };
            let to = self.root.join(folder).join(name);
            let is_used = names.iter().any(|(of, kept)| *of == folder && kept.contains(name.trim_end_matches(".zip")));
            if is_used && !to.exists() {
                fs::rename(entry.path(), &to).during(Kind::FixSetup, UNUSED)?;
            }
        }
        Ok(())
    }

    /// Removes what was moved out of the way, and returns the number of bytes. Where a host may still run it
    /// (`is_served`), only what was moved so long ago that no event of it can be running.
    pub fn remove_moved(&self, is_served: bool) -> Result<u64> {
        let mut bytes = 0;
        for folder in [self.unused()?, self.root.join("new")] {
            let is_new = folder.ends_with("new");
            for entry in fs::read_dir(folder).during(Kind::FixSetup, UNUSED)?.flatten() {
                let age = entry.metadata().and_then(|found| found.modified()).ok().and_then(|at| at.elapsed().ok());
                if (is_served || is_new) && age.is_none_or(|age| age < UNUSED_FOR) {
                    continue;
                }
                let files = walkdir::WalkDir::new(entry.path()).into_iter();
                let sizes = files.filter_map(|file| file.ok()?.metadata().ok()).filter(fs::Metadata::is_file);
                let size: u64 = sizes.map(|file| file.len()).sum();
                let path = entry.path();
                match if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) } {
                    Ok(()) => bytes += size,
                    Err(error) => tracing::warn!(%error, path = %path.display(), "{UNUSED}"),
                }
            }
        }
        Ok(bytes)
    }

    fn unused(&self) -> Result<PathBuf> {
        let unused = self.root.join("unused");
        fs::create_dir_all(&unused).during(Kind::FixSetup, UNUSED)?;
        Ok(unused)
    }

    fn tree_of(&self, zip: &Path, source: &Path, digest: Digest) -> Result<PathBuf> {
        let tree = self.root.join("trees").join(digest.to_string());
        let made =
            self.create_once(&tree, &format!("unpack {}", source.display()), |into| unpack::unpack(zip, source, into))?;
        made.ok_or_else(|| Error::new(Kind::Bug, "find a zip's unpacked folder"))
    }

    /// Creates a folder, complete, under its name, unless it exists.
    fn create_once(
        &self,
        path: &Path,
        context: &str,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Option<PathBuf>> {
        if !path.exists() {
            let new = self.new_path();
            fs::create_dir_all(&new).during(Kind::FixSetup, context)?;
            let made = make(&new);
            if made.is_err() {
                let _ = fs::remove_dir_all(&new);
            }
            made?;
            // Another process may have been faster: its folder has the same content.
            if fs::rename(&new, path).is_err() {
                let _ = fs::remove_dir_all(&new);
            }
        }
        if path.exists() {
            Ok(Some(path.to_owned()))
        } else {
            Err(Error::new(Kind::FixSetup, format!("{context}: folder {} can't be created", path.display())))
        }
    }

    fn new_path(&self) -> PathBuf {
        self.root.join("new").join(uuid::Uuid::now_v7().simple().to_string())
    }
}

/// The names that are in use in each folder of the store.
fn names_of(used: &[(Digest, Vec<Digest>)]) -> [(&'static str, BTreeSet<String>); 3] {
    let digests = used.iter().flat_map(|(code, layers)| std::iter::once(code).chain(layers));
    let names: BTreeSet<String> = digests.map(Digest::to_string).collect();
    let merged = used.iter().map(|(_, layers)| combined(layers)).collect();
    [("zips", names.clone()), ("trees", names), ("layers", merged)]
}

/// The name of the folder of merged layers. It depends on their order.
fn combined(layers: &[Digest]) -> String {
    let mut hasher = Sha256::new();
    layers.iter().for_each(|layer| hasher.update(layer.0));
    hex::encode(hasher.finalize())
}

impl Digest {
    /// The hash of a file's bytes.
    pub fn of_file(path: &Path) -> io::Result<Digest> {
        let mut file = File::open(path)?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(Digest(hasher.finalize().into())),
                read => hasher.update(&buffer[..read]),
            }
        }
    }

    /// The hash of a text, such as the description of a version.
    pub fn of(text: &str) -> Digest {
        Digest(Sha256::digest(text).into())
    }

    /// In base64, as AWS shows it: `CodeSha256`.
    pub fn base64(self) -> String {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(self.0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Digest> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).during(Kind::FixInput, format!("read the hash {text:?}"))?;
        Ok(Digest(bytes))
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;

    fn try_from(text: String) -> Result<Digest> {
        text.parse()
    }
}

#[cfg(test)]
mod tests;
