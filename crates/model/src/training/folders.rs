//! The folder that a training job sees as `/opt/ml`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use base::{ErrorContext, Kind, Result};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use serde_json::{Value, json};
use walkdir::WalkDir;

use super::job::Training;

const MAKE: &str = "make the folders of a training job";
const FOLDERS: [&str; 6] = ["input/config", "input/data", "model", "output/data", "checkpoints", "code"];
/// Bounds of what a job writes, beside its bytes.
const DEPTH_MAX: usize = 64;
const ENTRIES_MAX: usize = 200_000;
/// The unit of a file's blocks.
const BLOCK_BYTES: u64 = 512;
/// A job is ended before the disk is full.
const FREE_BYTES_MIN: u64 = 1 << 30;
/// A failure's text is read up to here.
const FAILURE_BYTES_MAX: u64 = 64 << 10;

pub(super) struct Folders {
    ml: PathBuf,
}

impl Folders {
    /// Makes the folders and the files of `input/config`, for the user of the job.
    pub fn make(work: &Path, training: &Training, user: Option<u32>) -> Result<Folders> {
        let ml = work.join("ml");
        let channels = training.channels.iter().map(|channel| format!("input/data/{}", channel.name));
        for folder in FOLDERS.into_iter().map(str::to_owned).chain(channels) {
            fs::create_dir_all(ml.join(folder)).during(Kind::FixSetup, MAKE)?;
        }
        let hyperparameters: BTreeMap<&String, &String> = training.hyperparameters.iter().collect();
        let mut inputs = json!({});
        for channel in &training.channels {
            inputs[&channel.name] = json!({
                "TrainingInputMode": "File", "S3DistributionType": "FullyReplicated", "RecordWrapperType": "None",
            });
            if let Some(kind) = &channel.content_type {
                inputs[&channel.name]["ContentType"] = json!(kind);
            }
        }
        let files: [(&str, Value); 3] = [
            ("hyperparameters.json", json!(hyperparameters)),
            ("inputdataconfig.json", inputs),
            ("resourceconfig.json", resources()),
        ];
        for (name, content) in files {
            fs::write(ml.join("input/config").join(name), content.to_string()).during(Kind::FixSetup, MAKE)?;
        }
        for entry in WalkDir::new(&ml) {
            let entry = entry.during(Kind::FixSetup, MAKE)?;
            let mode = if entry.file_type().is_dir() { 0o755 } else { 0o644 };
            fs::set_permissions(entry.path(), fs::Permissions::from_mode(mode)).during(Kind::FixSetup, MAKE)?;
            if user.is_some() {
                chown(entry.path(), user, user).during(Kind::FixSetup, MAKE)?;
            }
        }
        Ok(Folders { ml })
    }

    /// The folder itself.
    pub fn ml(&self) -> PathBuf {
        self.ml.clone()
    }

    /// Where a job in a folder leaves its model.
    pub fn model(work: &Path) -> PathBuf {
        work.join("ml/model")
    }

    /// Whether there is a file in `model`.
    pub fn has_model(&self) -> bool {
        let entries = WalkDir::new(self.ml.join("model")).into_iter().flatten();
        entries.into_iter().any(|entry| !entry.file_type().is_dir())
    }

    /// Checks what the job has written. The channels are mounted over their folders, and are not part of it.
    ///
    /// Files that were deleted while they are open are seen by the space that is left on the disk.
    pub fn check_written(&self, most: u64) -> Result<(), String> {
        let (mut bytes, mut entries) = (0_u64, 0);
        for entry in WalkDir::new(&self.ml) {
            // A path that is too long, or a folder that can't be entered.
            let found =
                entry.and_then(|entry| if entry.depth() > DEPTH_MAX { Ok(None) } else { entry.metadata().map(Some) });
            let found = found.map_err(|error| format!("what it wrote to /opt/ml can't be measured: {error}"))?;
            let found = found.ok_or_else(|| format!("it nested folders deeper than {DEPTH_MAX} in /opt/ml"))?;
            entries += 1;
            // A sparse file may be large without its blocks, and is packed whole.
            bytes += found.len().max(found.blocks() * BLOCK_BYTES);
            if entries > ENTRIES_MAX {
                return Err(format!("it wrote more than {ENTRIES_MAX} files to /opt/ml"));
            }
        }
        if bytes > most {
            return Err(format!("it wrote more than {} MB to /opt/ml", most >> 20));
        }
        let free = rustix::fs::statvfs(&self.ml).map_or(u64::MAX, |disk| disk.f_bavail * disk.f_frsize);
        match free < FREE_BYTES_MIN {
            true => Err(format!("less than {} MB are free on the disk", FREE_BYTES_MIN >> 20)),
            false => Ok(()),
        }
    }

    /// What the job has written to `output/failure`. No link on the way there is followed.
    pub fn failure(&self) -> Option<String> {
        let ml = fs::File::open(&self.ml).ok()?;
        let file = open_beneath(&ml, Path::new("output/failure")).ok()?;
        let mut bytes = Vec::new();
        file.take(FAILURE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes).trim().to_owned();
        (!text.is_empty()).then_some(text)
    }
}

/// Opens a file that a job in a folder has left in `output/data`. No link on the way there is followed.
///
/// # Errors
/// There is no such file, or it is not a file.
pub fn output_file(work: &Path, path: &Path) -> io::Result<fs::File> {
    let ml = fs::File::open(work.join("ml"))?;
    open_beneath(&ml, &Path::new("output/data").join(path))
}

/// The names of the pages (`*.html`) that a job in a folder has left in `output/data`, sorted.
pub fn output_pages(work: &Path) -> Vec<String> {
    let folder = work.join("ml/output/data");
    // A folder that was replaced by a link is not read.
    if !fs::symlink_metadata(work.join("ml/output")).is_ok_and(|found| found.is_dir()) {
        return Vec::new();
    }
    let entries = match fs::symlink_metadata(&folder) {
        Ok(found) if found.is_dir() => fs::read_dir(&folder).into_iter().flatten().flatten(),
        _ => return Vec::new(),
    };
    let files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    let names = files.filter_map(|entry| entry.file_name().into_string().ok());
    let mut pages: Vec<String> = names.filter(|name| name.ends_with(".html") && !name.starts_with('.')).collect();
    pages.sort_unstable();
    pages
}

/// Opens a file below a folder that a program has written: no link is followed, and nothing but a file is opened.
pub(super) fn open_beneath(folder: &fs::File, path: &Path) -> io::Result<fs::File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let file = fs::File::from(openat2(folder, path, flags, Mode::empty(), resolve)?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file")),
    }
}

/// One machine.
pub(super) fn resources() -> Value {
    json!({"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "lo"})
}
