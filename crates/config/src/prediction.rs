//! The checked configuration of predictions.

use std::path::PathBuf;
use std::time::Duration;

use chrono::NaiveTime;
use ingest::layout::Layout;
use schedule::JobRules;

/// A prediction, an endpoint that is asked at a rhythm: `predictions/NAME.toml`.
#[derive(Debug, Clone)]
pub struct Prediction {
    pub name: String,
    pub file: PathBuf,
    pub endpoint: String,
    /// The query whose rows are sent, with its placeholders.
    pub input: String,
    /// The time between two issues.
    pub every: Duration,
    /// The local time of a day's first issue.
    pub at: NaiveTime,
    pub layout_file: PathBuf,
    /// The layout of the answer's rows.
    pub layout: Layout,
    /// Columns of the input that are not sent, and stand beside the answer's rows.
    pub keep: Vec<String>,
    pub schema: String,
    pub table: String,
    pub rules: JobRules,
}
