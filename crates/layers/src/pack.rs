//! Packs a layer into a zip. The same files give the same bytes, wherever and whenever they are packed, since the
//! hashes of its layers identify what a bill was computed with. The zip contains no links: a link's target is
//! packed under the link's name.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use function::store::{LAYERS_MAX, UNPACKED_BYTES_MAX};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use walkdir::WalkDir;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::error::{Error, ErrorContext, Kind, Result};

/// The largest zip that AWS Lambda accepts in a direct upload. A larger one has to be uploaded through S3.
pub const DIRECT_UPLOAD_BYTES_MAX: u64 = 50 << 20;

const MANIFEST: &str = "layer.json";
const MANIFEST_BYTES_MAX: u64 = 16 << 20;
const DEFLATE_LEVEL: i64 = 6;

/// The file `layer.json` at the top of a layer, which describes its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// What the layer contains: `r`, `r-packages`, `python` or `python-packages`.
    pub kind: String,
    /// The processor that it is for: `x86_64` or `aarch64`.
    pub architecture: String,
    /// The language's version, such as `4.2.2`.
    pub version: String,
    /// The language's packages in it.
    pub packages: Vec<Part>,
    /// The shared libraries in it.
    pub libraries: Vec<Part>,
    /// The size of all files but this one.
    pub unpacked_bytes: u64,
}

/// A package or a shared library of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// A package's version.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version: Option<String>,
    /// The hash of a library; of a package's file names and hashes; or, for a Python package, of those in its
    /// `.dist-info`, which contains the other files' hashes.
    pub sha256: String,
}

impl Manifest {
    /// Reads the manifest of a packed layer.
    ///
    /// # Errors
    /// [`Kind::FixInput`] where the file is not a zip with a manifest.
    pub fn of(zip: &Path) -> Result<Manifest> {
        let context = || format!("read {MANIFEST} of layer {}", zip.display());
        let file = File::open(zip).during(Kind::FixInput, context())?;
        let mut archive = ZipArchive::new(file).during(Kind::FixInput, context())?;
        let entry = archive.by_name(MANIFEST).during(Kind::FixInput, context())?;
        let mut text = String::new();
        entry.take(MANIFEST_BYTES_MAX).read_to_string(&mut text).during(Kind::FixInput, context())?;
        serde_json::from_str(&text).during(Kind::FixInput, context())
    }
}

/// A layer's zip that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedLayer {
    /// Its path.
    pub zip: PathBuf,
    /// The hash of its bytes, in hexadecimal digits.
    pub sha256: String,
    /// The zip's size.
    pub zipped_bytes: u64,
    /// The size of all files but the manifest.
    pub unpacked_bytes: u64,
    /// How many files it has, with the manifest.
    pub files: usize,
    /// What it contains.
    pub manifest: Manifest,
}

impl PackedLayer {
    /// Whether AWS Lambda accepts the zip in a direct upload; otherwise it has to be uploaded through S3.
    pub fn fits_direct_upload(&self) -> bool {
        self.zipped_bytes <= DIRECT_UPLOAD_BYTES_MAX
    }
}

/// A package or a library, and where it is in a layer.
pub(crate) struct PackedPart {
    /// Its name.
    pub name: String,
    /// A package's version.
    pub version: Option<String>,
    /// Its folder or file in the layer.
    pub at: String,
}

/// What a layer's manifest is made from, beside its files.
pub(crate) struct LayerDescription {
    /// See [`Manifest::kind`].
    pub kind: &'static str,
    /// The language's version.
    pub version: String,
    /// The packages in it.
    pub packages: Vec<PackedPart>,
    /// The shared libraries in it.
    pub libraries: Vec<PackedPart>,
    /// The layers below it.
    pub below: Vec<Manifest>,
}

/// The files of a layer before it is packed, by their names in it.
#[derive(Default)]
pub(crate) struct Layer {
    files: BTreeMap<String, Entry>,
}

struct Entry {
    content: Content,
    executable: bool,
}

enum Content {
    File(PathBuf),
    Bytes(Vec<u8>),
}

impl Layer {
    /// Adds a file with these bytes.
    pub fn bytes(&mut self, at: impl Into<String>, bytes: impl Into<Vec<u8>>, executable: bool) {
        self.files.insert(at.into(), Entry { content: Content::Bytes(bytes.into()), executable });
    }

    /// Adds a file of this machine, which is read when the layer is written.
    pub fn file(&mut self, at: impl Into<String>, from: &Path, executable: bool) {
        self.files.insert(at.into(), Entry { content: Content::File(from.to_owned()), executable });
    }

    /// Adds a folder's files and follows links. `wanted` decides for each file and folder, by its path in the folder.
    pub fn folder(&mut self, at: &str, from: &Path, wanted: impl Fn(&Path) -> bool) -> Result<()> {
        let inner = |path: &Path| path.strip_prefix(from).unwrap_or(path).to_owned();
        let walk = WalkDir::new(from).min_depth(1).follow_links(true).sort_by_file_name();
        for entry in walk.into_iter().filter_entry(|entry| wanted(&inner(entry.path()))) {
            let entry = entry.during(Kind::FixSetup, format!("read {}", from.display()))?;
            if entry.file_type().is_file() {
                use std::os::unix::fs::PermissionsExt;
                let mode = entry.metadata().during(Kind::FixSetup, format!("read {}", entry.path().display()))?;
                let path = inner(entry.path());
                let name = path.to_str().ok_or_else(|| {
                    Error::new(Kind::FixInput, format!("pack {}: its name is not UTF-8", entry.path().display()))
                })?;
                self.file(format!("{at}/{name}"), entry.path(), mode.permissions().mode() & 0o111 != 0);
            }
        }
        Ok(())
    }

    /// Removes a file, if it is there.
    pub fn remove(&mut self, at: &str) {
        self.files.remove(at);
    }

    /// Replaces files of this machine by the bytes that `replacement` gives for them.
    pub fn rewrite(&mut self, replacement: impl Fn(&Path) -> Result<Option<Vec<u8>>>) -> Result<()> {
        for entry in self.files.values_mut() {
            if let Content::File(path) = &entry.content
                && let Some(bytes) = replacement(path)?
            {
                entry.content = Content::Bytes(bytes);
            }
        }
        Ok(())
    }

    /// Writes the files to a folder, to be changed there before they are packed.
    pub fn write_files(&self, into: &Path) -> Result<()> {
        for (name, entry) in &self.files {
            let path = into.join(name);
            let context = || format!("copy {name} to {}", into.display());
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder).during(Kind::FixSetup, context())?;
            }
            match &entry.content {
                Content::File(from) => fs::copy(from, &path).map(|_| ()).during(Kind::FixSetup, context())?,
                Content::Bytes(bytes) => fs::write(&path, bytes).during(Kind::FixSetup, context())?,
            }
        }
        Ok(())
    }

    /// The paths of those of its files that are files of this machine.
    pub fn sources(&self) -> Vec<PathBuf> {
        let files = self.files.values().filter_map(|entry| match &entry.content {
            Content::File(path) => Some(path.clone()),
            Content::Bytes(_) => None,
        });
        files.collect()
    }

    /// Writes the zip, which appears under its name only when it is complete.
    ///
    /// # Errors
    /// [`Kind::FixInput`] where the layer and those below it exceed a limit of AWS Lambda.
    pub fn write(mut self, zip: &Path, about: LayerDescription) -> Result<PackedLayer> {
        let context = || format!("pack layer {}", zip.display());
        let below_bytes = check_below(&about)?;
        let hashes = self.hashes()?;
        let unpacked_bytes = hashes.values().map(|(_, bytes)| bytes).sum::<u64>();
        if below_bytes + unpacked_bytes > UNPACKED_BYTES_MAX {
            return Err(self.too_large(zip, &hashes, below_bytes));
        }
        let manifest = Manifest {
            kind: about.kind.to_owned(),
            architecture: std::env::consts::ARCH.to_owned(),
            version: about.version,
            packages: parts(about.packages, &hashes),
            libraries: parts(about.libraries, &hashes),
            unpacked_bytes,
        };
        let text = serde_json::to_string_pretty(&manifest).during(Kind::Bug, context())?;
        self.bytes(MANIFEST, text + "\n", false);
        let folder = zip.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let new = tempfile::Builder::new()
            .prefix(".layer-")
            .suffix(".part")
            .tempfile_in(folder)
            .during(Kind::FixSetup, context())?;
        self.zip_into(new.as_file()).during(Kind::FixSetup, context())?;
        new.as_file().sync_all().during(Kind::FixSetup, context())?;
        let zipped_bytes = new.as_file().metadata().during(Kind::FixSetup, context())?.len();
        let (sha256, _) = hash_file(new.path()).during(Kind::FixSetup, context())?;
        readable(new.path()).during(Kind::FixSetup, context())?;
        new.persist(zip).during(Kind::FixSetup, context())?;
        let files = self.files.len();
        Ok(PackedLayer { zip: zip.to_owned(), sha256, zipped_bytes, unpacked_bytes, files, manifest })
    }

    fn zip_into(&self, file: &File) -> io::Result<()> {
        let mut writer = ZipWriter::new(io::BufWriter::with_capacity(1 << 20, file));
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .compression_level(Some(DEFLATE_LEVEL));
        for (name, entry) in &self.files {
            writer.start_file(name, options.unix_permissions(if entry.executable { 0o755 } else { 0o644 }))?;
            match &entry.content {
                Content::Bytes(bytes) => writer.write_all(bytes)?,
                Content::File(path) => io::copy(&mut File::open(path)?, &mut writer).map(|_| ())?,
            }
        }
        writer.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(())
    }

    /// The SHA-256 and size of each file, by its name in the layer.
    fn hashes(&self) -> Result<BTreeMap<String, (String, u64)>> {
        let hashes = self.files.iter().map(|(name, entry)| {
            let hash = match &entry.content {
                Content::Bytes(bytes) => (hex::encode(Sha256::digest(bytes)), bytes.len() as u64),
                Content::File(path) => hash_file(path).during(Kind::FixSetup, format!("read {}", path.display()))?,
            };
            Ok((name.clone(), hash))
        });
        hashes.collect()
    }

    fn too_large(&self, zip: &Path, hashes: &BTreeMap<String, (String, u64)>, below_bytes: u64) -> Error {
        const NAMED: usize = 5;
        let mut folders: BTreeMap<String, u64> = BTreeMap::new();
        for (name, (_, bytes)) in hashes {
            let folder: Vec<&str> = name.split('/').take(3).collect();
            *folders.entry(folder.join("/")).or_default() += bytes;
        }
        let mut folders: Vec<(String, u64)> = folders.into_iter().collect();
        folders.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        let largest = folders.iter().take(NAMED).map(|(name, bytes)| format!("{name} {:.1} MB", megabytes(*bytes)));
        let what = format!(
            "pack layer {}: its {:.1} MB unpacked and the {:.1} MB of the layers below are more than the \
             {} GB that a function may have; leave packages out; its largest folders: {}",
            zip.display(),
            megabytes(folders.iter().map(|(_, bytes)| bytes).sum()),
            megabytes(below_bytes),
            UNPACKED_BYTES_MAX >> 30,
            largest.collect::<Vec<_>>().join(", ")
        );
        Error::new(Kind::FixInput, what)
    }
}

#[expect(clippy::cast_precision_loss)]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Checks the number of layers, and gives the size of those below.
fn check_below(about: &LayerDescription) -> Result<u64> {
    if about.below.len() >= LAYERS_MAX {
        let what = format!("pack a layer on {} others: AWS Lambda accepts {LAYERS_MAX} in all", about.below.len());
        return Err(Error::new(Kind::FixInput, what));
    }
    Ok(about.below.iter().map(|layer| layer.unpacked_bytes).sum())
}

fn parts(named: Vec<PackedPart>, hashes: &BTreeMap<String, (String, u64)>) -> Vec<Part> {
    let part = |named: PackedPart| {
        let folder = format!("{}/", named.at);
        let sha256 = match hashes.get(&named.at) {
            Some((hash, _)) => hash.clone(),
            None => {
                let mut hasher = Sha256::new();
                for (name, (hash, _)) in hashes.iter().filter(|(name, _)| name.starts_with(&folder)) {
                    hasher.update(format!("{hash}  {}\n", &name[folder.len()..]));
                }
                hex::encode(hasher.finalize())
            }
        };
        Part { name: named.name, version: named.version, sha256 }
    };
    named.into_iter().map(part).collect()
}

fn hash_file(path: &Path) -> io::Result<(String, u64)> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((hex::encode(hasher.finalize()), bytes)),
            read => {
                hasher.update(&buffer[..read]);
                bytes += read as u64;
            }
        }
    }
}

/// Makes the zip readable by all users: a temporary file is readable by its owner only.
fn readable(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}

#[cfg(test)]
mod tests;
