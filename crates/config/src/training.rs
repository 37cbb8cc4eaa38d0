//! The checked configuration of training jobs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ingest::layout::Layout;
use schedule::JobRules;

/// A training job: `trainings/NAME.toml`.
#[derive(Debug, Clone)]
pub struct Training {
    pub name: String,
    pub file: PathBuf,
    /// The image of its container.
    pub image: String,
    /// The model that its runs make versions of; `None` for those that SageMaker's API has created.
    pub model: Option<String>,
    /// The image that serves the versions.
    pub serve_image: String,
    pub channels: BTreeMap<String, ChannelSource>,
    /// Texts, in which placeholders are replaced.
    pub hyperparameters: BTreeMap<String, String>,
    /// The URL of the script's folder or archive.
    pub code: Option<String>,
    /// Tables that are filled from files that the program leaves.
    pub tables: Vec<TrainingTable>,
    /// The folder for the pages that it leaves.
    pub reports: Option<PathBuf>,
    /// Regular expressions by the names of metrics; they are valid, and have a group.
    pub metrics: BTreeMap<String, String>,
    pub time_max: Duration,
    pub written_bytes_max: u64,
    /// Whether a new version is approved at once.
    pub approves: bool,
    pub environment: BTreeMap<String, String>,
    pub rules: JobRules,
}

/// A table that a training job fills from a file of `/opt/ml/output/data`.
#[derive(Debug, Clone)]
pub struct TrainingTable {
    /// The file's path below that folder.
    pub file: String,
    pub layout: Layout,
    pub schema: String,
    pub table: String,
}

/// Where the files of a channel come from.
#[derive(Debug, Clone, PartialEq)]
pub enum ChannelSource {
    /// The rows of a query, in which placeholders are replaced, as CSV or else as Parquet.
    Query { sql: String, is_csv: bool },
    /// A URL.
    Data(String),
}
