//! The folder that a training job sees as `/opt/ml`.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use base::{ErrorContext, Kind, Result};
use rustix::fs::OFlags;
use serde_json::{Value, json};
use walkdir::WalkDir;

use super::job::Training;

const MAKE: &str = "make the folders of a training job";
const FOLDERS: [&str; 6] = ["input/config", "input/data", "model", "output/data", "checkpoints", "code"];
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

    /// The size of all files, without the channels, which are mounted over their folders.
    pub fn written_bytes(&self) -> u64 {
        let entries = WalkDir::new(&self.ml).into_iter().flatten();
        entries.filter_map(|entry| entry.metadata().ok()).filter(fs::Metadata::is_file).map(|file| file.len()).sum()
    }

    /// What the job has written to `output/failure`. A link there is not followed.
    pub fn failure(&self) -> Option<String> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::open(self.ml.join("output/failure"), flags, rustix::fs::Mode::empty()).ok()?;
        let file = fs::File::from(file);
        file.metadata().ok().filter(fs::Metadata::is_file)?;
        let mut bytes = Vec::new();
        file.take(FAILURE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes).trim().to_owned();
        (!text.is_empty()).then_some(text)
    }
}

/// One machine.
pub(super) fn resources() -> Value {
    json!({"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "lo"})
}
