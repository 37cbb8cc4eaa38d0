//! `function.toml`, which lies beside a function's source: what it is, and how it is treated.
//!
//! Read whole or refused whole, with every problem's line and hint. It reads no file but says which
//! ones are meant, and fills in no `${VARIABLE}`: that happens when a function starts, so that no
//! secret is ever stored.

mod aws;
mod section;
mod variables;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use toml::Spanned;
use toml::de::DeTable;

use section::{Report, Section};

pub use aws::{Finding, Measured, refused_by_aws};
pub use variables::{fill_in, variables_of};

/// The file's name beside a function's source.
pub const FILE: &str = "function.toml";
/// What lies beside the source and is no part of it: when it runs makes no other function of it.
pub const BESIDE: [&str; 2] = [FILE, "job.toml"];

#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    pub name: String,
    /// A folder or a zip.
    pub code: PathBuf,
    /// In the order in which they are laid over one another.
    pub layers: Vec<LayerName>,
    pub settings: Settings,
    pub policy: Policy,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerName {
    /// The newest of that name when the function is deployed.
    Newest(String),
    Version(String, i64),
    /// A zip or a folder of its own.
    Path(PathBuf),
}

/// With code and layers, what makes a version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    pub handler: String,
    /// What AWS would call it; here any runtime is a `bootstrap`.
    pub runtime: String,
    pub memory_mb: u64,
    pub tmp_mb: u64,
    pub timeout: Duration,
    /// `${VARIABLES}` as they are written.
    pub environment: BTreeMap<String, String>,
    pub lake: Rights,
    /// Files that come with an event, and files that it leaves.
    #[serde(default)]
    pub files: Option<Files>,
}

/// `/inputs`, read-only, and `/results`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    pub results_mb: u64,
}

/// What of the lake a function may reach; nothing by default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rights {
    pub sql: bool,
    /// Prefixes.
    pub objects: Vec<String>,
}

/// How a function is treated, whatever its version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    pub description: String,
    /// How many of its events run at a time; those of the host without it.
    pub concurrency: Option<u32>,
    /// Instances that are kept ready for `$LATEST`.
    pub prewarmed: u32,
    /// After each failed attempt of an asynchronous event but the last: so many waits, so many retries.
    pub retry_after: Vec<Duration>,
    /// An asynchronous event older than this is not tried again.
    pub event_age_max: Duration,
    pub on_success: Option<Destination>,
    pub on_failure: Option<Destination>,
    /// Keep an asynchronous event that failed, to be looked at and sent again.
    pub dead_letters: bool,
}

/// Where the record of an asynchronous event goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Destination {
    /// It is invoked with the record.
    Function(String),
    /// An event of the ledger, which other jobs can follow.
    Event(String),
    /// A file for each record.
    Folder(PathBuf),
}

/// From 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub line: usize,
    pub column: usize,
    pub what: String,
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.what)?;
        self.hint.iter().try_for_each(|hint| write!(f, "; {hint}"))
    }
}

impl Default for Policy {
    /// AWS Lambda's own, but that no event is lost.
    fn default() -> Self {
        Policy {
            description: String::new(),
            concurrency: None,
            prewarmed: 0,
            retry_after: RETRY_AFTER.map(Duration::from_secs).to_vec(),
            event_age_max: EVENT_AGE_MAX,
            on_success: None,
            on_failure: None,
            dead_letters: true,
        }
    }
}

const RETRY_AFTER: [u64; 2] = [60, 120];
const EVENT_AGE_MAX: Duration = Duration::from_secs(6 * 3600);
const DAY: Duration = Duration::from_secs(86_400);
/// A name is part of URLs, of paths and of ARNs.
pub(crate) const NAME_CHARS_MAX: usize = 64;
/// Set by the host: a function that changed them would not run.
const OWN_VARIABLES: [&str; 8] = [
    "AWS_LAMBDA_RUNTIME_API",
    "_HANDLER",
    "LAMBDA_TASK_ROOT",
    "LAMBDA_RUNTIME_DIR",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
];

impl Definition {
    /// Reads the text of a `function.toml` that lies in `folder`.
    ///
    /// # Errors
    /// All that is wrong, in the order of its lines.
    pub fn read(name: &str, folder: &Path, text: &str) -> Result<Definition, Vec<Problem>> {
        let mut report = Report::new(text);
        if !is_name(name) {
            let what = format!("{name:?} is no name for a function");
            report.add(0..0, what, format!("a name is 1 to {NAME_CHARS_MAX} letters, digits, - and _"));
        }
        let (tree, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            report.add(error.span().unwrap_or(0..0), format!("not TOML: {}", error.message()), None);
        }
        if !report.is_empty() {
            return Err(report.finish());
        }
        let definition = checked(name, folder, Section::new("the file", 0..0, tree.into_inner()), &mut report);
        match definition {
            Some(definition) if report.is_empty() => Ok(definition),
            _ => Err(report.finish()),
        }
    }
}

/// As AWS has it for functions, layers and aliases.
pub(crate) fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    !name.is_empty() && name.len() <= NAME_CHARS_MAX && name.chars().all(fits)
}

fn checked(name: &str, folder: &Path, mut file: Section<'_>, report: &mut Report<'_>) -> Option<Definition> {
    let handler = file.required_text("handler", "what the runtime is to call: `bill.handler`", report);
    let runtime = file.text("runtime", report).map(Spanned::into_inner);
    let code = file.text("code", report).map(Spanned::into_inner);
    let layers = file.texts("layers", report);
    let settings = Settings {
        handler: handler.map(Spanned::into_inner).unwrap_or_default(),
        runtime: runtime.unwrap_or_else(|| "provided.al2023".to_owned()),
        memory_mb: file.number("memory_mb", 16..=4_194_304, report).unwrap_or(128),
        tmp_mb: file.number("tmp_mb", 1..=4_194_304, report).unwrap_or(512),
        timeout: file.duration("timeout", Duration::from_secs(1)..=DAY * 7, report).unwrap_or(Duration::from_secs(3)),
        environment: environment(&mut file, report),
        lake: rights(&mut file, report),
        files: files(&mut file, report),
    };
    let network = file.text("network", report);
    if let Some(network) = network.filter(|network| network.get_ref() != "none") {
        let what = format!("\"network\": expected \"none\", found {:?}", network.get_ref());
        report.add(network.span(), what, "a function reaches its runtime and what [lake] allows".to_owned());
    }
    let policy = policy(&mut file, folder, report);
    file.finish(report);
    let layers = layers.into_iter().filter_map(|layer| layer_name(folder, layer, report)).collect();
    let code = folder.join(code.unwrap_or_default());
    Some(Definition { name: name.to_owned(), code, layers, settings, policy })
}

fn policy(file: &mut Section<'_>, folder: &Path, report: &mut Report<'_>) -> Policy {
    let default = Policy::default();
    let concurrency = file.number("concurrency", 0..=100_000, report);
    let prewarmed = file.spanned_number("prewarmed", 0..=10_000, report);
    if let (Some(most), Some(prewarmed)) = (concurrency, &prewarmed)
        && *prewarmed.get_ref() > most
    {
        let what = format!("\"prewarmed\" is {}, more than \"concurrency\" ({most})", prewarmed.get_ref());
        report.add(prewarmed.span(), what, None);
    }
    let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    Policy {
        description: file.text("description", report).map(Spanned::into_inner).unwrap_or_default(),
        concurrency: concurrency.map(small),
        prewarmed: prewarmed.map_or(0, |number| small(number.into_inner())),
        retry_after: retry_after(file, report),
        event_age_max: file
            .duration("event_age_max", Duration::from_secs(1)..=DAY * 14, report)
            .unwrap_or(default.event_age_max),
        on_success: destination(file, "on_success", folder, report),
        on_failure: destination(file, "on_failure", folder, report),
        dead_letters: file.flag("dead_letters", report).unwrap_or(default.dead_letters),
    }
}

/// `retries` says how many, `retry_after` how long each waits; each has AWS's own as its default.
fn retry_after(file: &mut Section<'_>, report: &mut Report<'_>) -> Vec<Duration> {
    let retries = file.number("retries", 0..=RETRY_AFTER.len() as u64, report);
    let waits = file.durations("retry_after", Duration::ZERO..=DAY, RETRY_AFTER.len(), report);
    let count = retries.and_then(|count| usize::try_from(count).ok());
    let Some(waits) = waits else {
        return RETRY_AFTER.map(Duration::from_secs)[..count.unwrap_or(RETRY_AFTER.len())].to_vec();
    };
    if let Some(count) = count.filter(|count| *count != waits.get_ref().len()) {
        let what = format!("\"retry_after\" has {} waits for {count} retries", waits.get_ref().len());
        report.add(waits.span(), what, "one wait before each retry".to_owned());
    }
    waits.into_inner()
}

fn environment(file: &mut Section<'_>, report: &mut Report<'_>) -> BTreeMap<String, String> {
    let Some(section) = file.section("environment", report) else { return BTreeMap::new() };
    let mut environment = BTreeMap::new();
    for (name, value) in section.into_texts(report) {
        let named = name.get_ref();
        let starts = named.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !starts || !named.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            let hint = "letters, digits and _, a letter first".to_owned();
            report.add(name.span(), format!("{named:?} is no name for a variable"), hint);
        } else if OWN_VARIABLES.contains(&named.as_str()) {
            report.add(name.span(), format!("{named} is set by the host"), "leave it out".to_owned());
        } else if value.get_ref().contains('\0') {
            report.add(value.span(), format!("{named} holds a character that no variable can"), None);
        } else if let Err(what) = variables_of(value.get_ref()) {
            report.add(value.span(), what, "write ${NAME}, and $$ for a dollar sign".to_owned());
        } else {
            environment.insert(name.into_inner(), value.into_inner());
        }
    }
    environment
}

fn rights(file: &mut Section<'_>, report: &mut Report<'_>) -> Rights {
    let Some(mut section) = file.section("lake", report) else { return Rights::default() };
    let sql = section.flag("sql", report).unwrap_or_default();
    let objects = section.texts("objects", report);
    for prefix in &objects {
        let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
        if !prefix.get_ref().trim_end_matches('/').split('/').all(plain) {
            let what = format!("{:?} is no prefix of objects", prefix.get_ref());
            report.add(prefix.span(), what, "a path in the lake's object store: \"billing/2026\"".to_owned());
        }
    }
    let objects = objects.into_iter().map(Spanned::into_inner).collect();
    section.finish(report);
    Rights { sql, objects }
}

fn files(file: &mut Section<'_>, report: &mut Report<'_>) -> Option<Files> {
    let mut section = file.section("files", report)?;
    let results_mb = section.number("results_mb", 1..=4_194_304, report).unwrap_or(512);
    section.finish(report);
    Some(Files { results_mb })
}

fn destination(
    file: &mut Section<'_>,
    key: &'static str,
    folder: &Path,
    report: &mut Report<'_>,
) -> Option<Destination> {
    let mut section = file.section(key, report)?;
    let span = section.span();
    let function = section.text("function", report).map(|name| Destination::Function(name.into_inner()));
    let event = section.text("event", report).map(|name| Destination::Event(name.into_inner()));
    let into = section.text("folder", report).map(|path| Destination::Folder(folder.join(path.get_ref())));
    let empty = section.finish(report);
    let mut all = [function, event, into].into_iter().flatten();
    match (all.next(), all.next()) {
        (Some(only), None) => return Some(only),
        (None, _) if !empty => {}
        _ => {
            let hint = format!("{key} = {{ function = \"NAME\" }}, {{ event = \"NAME\" }} or {{ folder = \"PATH\" }}");
            report.add(span, format!("{key:?} needs one destination"), hint);
        }
    }
    None
}

fn layer_name(folder: &Path, layer: Spanned<String>, report: &mut Report<'_>) -> Option<LayerName> {
    let text = layer.get_ref().as_str();
    if text.contains('/') || text.ends_with(".zip") {
        return Some(LayerName::Path(folder.join(text)));
    }
    let (name, version) = text.split_once(':').map_or((text, None), |(name, version)| (name, Some(version)));
    match version.map(|version| version.parse::<i64>().ok().filter(|v| *v > 0)) {
        None if is_name(name) => Some(LayerName::Newest(name.to_owned())),
        Some(Some(version)) if is_name(name) => Some(LayerName::Version(name.to_owned(), version)),
        _ => {
            let hint = "\"NAME\", \"NAME:VERSION\", or the path of a zip or a folder: \"layers/r.zip\", \"./layer\"";
            report.add(layer.span(), format!("{text:?} is no layer"), hint.to_owned());
            None
        }
    }
}

#[cfg(test)]
mod tests;
