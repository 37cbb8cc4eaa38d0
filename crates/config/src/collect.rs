//! The checked configuration of collects.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use ingest::api::ApiSettings;
use ingest::layout::Layout;
use regex::Regex;
use schedule::JobRules;

use super::OrUnset;

/// A collect, a partner's API that is asked for new and revised values: `collects/NAME.toml`.
#[derive(Debug, Clone)]
pub struct Collect {
    pub name: String,
    pub file: PathBuf,
    pub api: OrUnset<ApiSettings>,
    /// Whether requests differ by their window.
    pub has_window: bool,
    pub layout_file: PathBuf,
    pub layout: Layout,
    pub schema: String,
    pub table: String,
    /// What is asked for, each with its parts by name; one without parts where there is no `[each]`.
    pub items: Vec<BTreeMap<String, String>>,
    /// The column with the time of a value, which is part of the layout's key.
    pub time: String,
    pub since: Since,
    /// How far before the newest known value a run asks again.
    pub overlap: Duration,
    /// The longest time that one request asks for.
    pub window: Duration,
    /// How far after the run values may be.
    pub ahead: Duration,
    pub step: Option<Duration>,
    /// How far back gaps are asked for again.
    pub gaps: Duration,
    /// The column with the instant from which a value was known.
    pub known_at: Option<String>,
    pub history_known_after: Option<Duration>,
    /// Answers that match have no rows.
    pub empty: Option<Regex>,
    pub jump_max: Option<f64>,
    pub clock_check: bool,
    pub rules: JobRules,
}

/// Where the first run begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    Instant(DateTime<Utc>),
    /// This long before the run.
    Before(Duration),
}

impl Collect {
    /// The name of an item: `station=Y862000101`; empty where there is no `[each]`.
    pub fn item_name(item: &BTreeMap<String, String>) -> String {
        item.iter().map(|(part, value)| format!("{part}={value}")).collect::<Vec<_>>().join(",")
    }

    /// The first instant that a run at `now` may ask for.
    pub fn begins_at(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        match self.since {
            Since::Instant(at) => at,
            Since::Before(time) => now - time,
        }
    }
}
