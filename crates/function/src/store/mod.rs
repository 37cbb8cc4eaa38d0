//! Zips by the hash of their bytes, unpacked once, and layers merged once: what a sandbox mounts.
//!
//! A folder appears under its final name only when it is whole, so a kill leaves nothing that
//! looks whole. Nothing in a zip is trusted: its names, links, modes and sizes are checked before
//! they reach the disk.

mod merge;
mod pack;
mod unpack;

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::{During, Error, Kind, Result};

pub use unpack::UNPACKED_BYTES_MAX;

/// AWS Lambda's own number.
pub const LAYERS_MAX: usize = 5;

/// SHA-256 of a zip's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Digest([u8; 32]);

/// A folder that holds zips and what is made of them. Several processes may share it.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    pub fn open(root: &Path) -> Result<Store> {
        for folder in ["zips", "trees", "layers", "new"] {
            let path = root.join(folder);
            fs::create_dir_all(&path).during(Kind::FixSetup, format!("make folder {}", path.display()))?;
        }
        Ok(Store { root: root.to_owned() })
    }

    /// Takes what a folder holds, as a zip that depends on nothing else: names in order, one time
    /// for all, no compression. `without` names files at its top that are left out.
    pub fn put_folder(&self, folder: &Path, without: &[&str]) -> Result<Digest> {
        let new = self.new_path();
        let put = pack::pack(folder, without, &new).and_then(|()| self.put_as(&new, folder));
        let _ = fs::remove_file(&new);
        put
    }

    /// Takes a copy of the zip; the same bytes twice are one. It is unpacked too, so that a bad
    /// one is refused now and not when it is first run.
    pub fn put(&self, zip: &Path) -> Result<Digest> {
        self.put_as(zip, zip)
    }

    fn put_as(&self, zip: &Path, source: &Path) -> Result<Digest> {
        let context = || format!("store {}", source.display());
        let digest = hash(zip).during(Kind::FixInput, context())?;
        self.tree_of(zip, source, digest)?;
        let kept = self.zip(digest);
        if !kept.exists() {
            let new = self.new_path();
            fs::copy(zip, &new).during(Kind::FixSetup, context())?;
            File::open(&new).and_then(|file| file.sync_all()).during(Kind::FixSetup, context())?;
            fs::rename(&new, &kept).during(Kind::FixSetup, context())?;
        }
        Ok(digest)
    }

    pub fn zip(&self, digest: Digest) -> PathBuf {
        self.root.join("zips").join(format!("{digest}.zip"))
    }

    /// The folder of what the zip holds.
    pub fn tree(&self, digest: Digest) -> Result<PathBuf> {
        let zip = self.zip(digest);
        self.tree_of(&zip, &zip, digest)
    }

    /// The folder of all layers in one, later ones over earlier ones; `None` without any.
    pub fn layers(&self, layers: &[Digest]) -> Result<Option<PathBuf>> {
        let trees = layers.iter().map(|layer| self.tree(*layer)).collect::<Result<Vec<_>>>()?;
        match &trees[..] {
            [] => Ok(None),
            [only] => Ok(Some(only.clone())),
            several => self.made(&self.root.join("layers").join(combined(layers)), "merge the layers", |into| {
                several.iter().try_for_each(|tree| merge::over(tree, into))
            }),
        }
    }

    pub fn zip_bytes(&self, digest: Digest) -> Result<u64> {
        let path = self.zip(digest);
        let found = path.metadata().during(Kind::FixSetup, format!("look for {}", path.display()))?;
        Ok(found.len())
    }

    /// What the zip's files take up, once unpacked.
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

    fn tree_of(&self, zip: &Path, source: &Path, digest: Digest) -> Result<PathBuf> {
        let tree = self.root.join("trees").join(digest.to_string());
        let made =
            self.made(&tree, &format!("unpack {}", source.display()), |into| unpack::unpack(zip, source, into))?;
        made.ok_or_else(|| Error::new(Kind::Bug, "unpack a zip into nothing"))
    }

    /// Makes a folder whole, under its name, unless it is there.
    fn made(&self, path: &Path, context: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<Option<PathBuf>> {
        if !path.exists() {
            let new = self.new_path();
            fs::create_dir_all(&new).during(Kind::FixSetup, context)?;
            let made = make(&new);
            if made.is_err() {
                let _ = fs::remove_dir_all(&new);
            }
            made?;
            // Another process may have been quicker: its folder holds the same.
            if fs::rename(&new, path).is_err() {
                let _ = fs::remove_dir_all(&new);
            }
        }
        if path.exists() {
            Ok(Some(path.to_owned()))
        } else {
            Err(Error::new(Kind::FixSetup, format!("{context}: {} can't be made", path.display())))
        }
    }

    fn new_path(&self) -> PathBuf {
        self.root.join("new").join(uuid::Uuid::now_v7().simple().to_string())
    }
}

fn hash(path: &Path) -> io::Result<Digest> {
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

/// The order counts, so it is part of the name.
fn combined(layers: &[Digest]) -> String {
    let mut hasher = Sha256::new();
    layers.iter().for_each(|layer| hasher.update(layer.0));
    hex::encode(hasher.finalize())
}

impl Digest {
    /// Of a text, such as the description of a version.
    pub fn of(text: &str) -> Digest {
        Digest(Sha256::digest(text).into())
    }

    /// As AWS shows it: `CodeSha256`.
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
