//! What a training job runs, and from what.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use base::{Error, Result};

use crate::container::ProcessContainer;

/// A training job.
pub struct Training {
    /// Its name.
    pub name: String,
    /// The program, and how it runs.
    pub container: ProcessContainer,
    /// Texts by their names.
    pub hyperparameters: BTreeMap<String, String>,
    /// What it is trained from.
    pub channels: Vec<Channel>,
    /// A folder with the script, read-only at `/opt/ml/code`.
    pub code: Option<PathBuf>,
    /// How long it may run.
    pub time_max: Duration,
    /// How much it may write to `/opt/ml`.
    pub written_bytes_max: u64,
}

/// A folder that a training job reads, at `/opt/ml/input/data/NAME`.
#[derive(Debug, Clone, PartialEq)]
pub struct Channel {
    /// Its name.
    pub name: String,
    /// Where its files are on this machine.
    pub folder: PathBuf,
    /// The content type of its files.
    pub content_type: Option<String>,
}

/// Checks the name of a channel.
///
/// # Errors
/// [`base::Kind::FixInput`] for a name that is not SageMaker's `[A-Za-z0-9.\-_]+`, or could leave its folder.
pub fn check_channel_name(name: &str) -> Result<()> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    match !name.is_empty() && name.len() <= 64 && name.bytes().all(is_plain) && !name.starts_with('.') {
        true => Ok(()),
        false => Err(Error::input(format!("{name:?} is not a channel's name"))
            .hint("a name has up to 64 letters, digits, -, _ and ., and does not begin with .")),
    }
}
