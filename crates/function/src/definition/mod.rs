//! Reads `function.toml`, which is in the folder of a function's source: the function's settings and its policy.
//!
//! A file with any problem is refused, with the line and a hint for each. Other files that it names are not read here.
//! Each `${VARIABLE}` is filled in only when the function starts, so that no secret is ever stored.

mod aws;
mod section;
mod variables;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use toml::Spanned;
use toml::de::DeTable;

pub use base::Problem;
use base::Problems;
use section::Section;

pub use aws::{Finding, PackageSizes, refused_by_aws};
pub use variables::{fill_in, variables_of};

/// The file's name, in the folder of a function's source.
pub const FILE: &str = "function.toml";
/// Files in that folder that are not part of the code. A change of them alone makes no new version's code.
pub const NOT_CODE: [&str; 2] = [FILE, "job.toml"];

/// The content of a `function.toml`.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// The function's name.
    pub name: String,
    /// The code: a folder or a zip.
    pub code: PathBuf,
    /// Its layers. Where two have the same file, the later layer counts.
    pub layers: Vec<LayerName>,
    /// Settings of the version.
    pub settings: Settings,
    /// Settings of the function, whatever its version.
    pub policy: Policy,
}

/// A layer as a `function.toml` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerName {
    /// The version of that name that is the newest one when the function is deployed.
    Newest(String),
    /// A name and a version.
    Version(String, i64),
    /// A zip or a folder that is not published.
    Path(PathBuf),
}

/// Settings of a version. A change of them makes a new version, as a change of the code or the layers does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// What the runtime calls, in the runtime's own notation.
    pub handler: String,
    /// AWS's name of the runtime. Here every runtime is a program `bootstrap`.
    pub runtime: String,
    /// Memory of an instance, in MiB.
    pub memory_mb: u64,
    /// The size of `/tmp`, in MiB.
    pub tmp_mb: u64,
    /// How long one event may take.
    pub timeout: Duration,
    /// Its own variables, with each `${VARIABLE}` as it is written.
    pub environment: BTreeMap<String, String>,
    /// What it may read of the lake.
    pub lake: LakeRights,
    /// Its `/inputs` and `/results`, if it has them.
    #[serde(default)]
    pub files: Option<FileSettings>,
}

/// Settings of a function's `/inputs`, which it reads, and `/results`, which it writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSettings {
    /// The size of `/results`, in MiB.
    pub results_mb: u64,
}

/// What a function may read of the lake; nothing by default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LakeRights {
    /// Whether it may query the lake in SQL.
    pub sql: bool,
    /// Prefixes of the objects that it may read.
    pub objects: Vec<String>,
}

/// Settings of a function, whatever its version. They change without a new version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// A text for people.
    pub description: String,
    /// How many of its events run at a time; `None`: as many as the host allows.
    pub concurrency: Option<u32>,
    /// Instances that are kept ready for `$LATEST`.
    pub prewarmed: u32,
    /// The wait before each retry of an asynchronous event. There are as many retries as waits.
    pub retry_after: Vec<Duration>,
    /// An asynchronous event older than this is not retried.
    pub event_age_max: Duration,
    /// Where the record of a successful asynchronous event goes.
    pub on_success: Option<Destination>,
    /// Where the record of a failed asynchronous event goes.
    pub on_failure: Option<Destination>,
    /// Whether failed asynchronous events are kept, so that a user can look at them and send them again.
    pub dead_letters: bool,
}

/// Where the record of an asynchronous event goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Destination {
    /// This function is invoked with the record.
    Function(String),
    /// An event of this name in the ledger, which can start other jobs.
    Event(String),
    /// A file in this folder for each record.
    Folder(PathBuf),
}

impl Default for Policy {
    /// AWS Lambda's defaults, except that failed events are kept.
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
/// The longest name of a function, layer or alias, as on AWS Lambda.
pub(crate) const NAME_CHARS_MAX: usize = 64;
/// Variables that the host sets. A function that changed them would not run.
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
    /// Reads the text of a `function.toml` in the folder `folder`.
    ///
    /// # Errors
    /// All problems, in the order of their lines.
    pub fn read(name: &str, folder: &Path, text: &str) -> Result<Definition, Vec<Problem>> {
        let mut report = Problems::new(text);
        if !is_name(name) {
            let what = format!("{name:?} is not a function's name");
            report.add(0..0, what, format!("a name is 1 to {NAME_CHARS_MAX} letters, digits, - and _"));
        }
        let (tree, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            report.add(error.span().unwrap_or(0..0), format!("not TOML: {}", error.message()), None);
        }
        if !report.is_empty() {
            return Err(report.finish());
        }
        let definition = read_definition(name, folder, Section::new("the file", 0..0, tree.into_inner()), &mut report);
        match definition {
            Some(definition) if report.is_empty() => Ok(definition),
            _ => Err(report.finish()),
        }
    }
}

/// Whether a text may be the name of a function, a layer or an alias, as on AWS Lambda.
pub(crate) fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    !name.is_empty() && name.len() <= NAME_CHARS_MAX && name.chars().all(fits)
}

/// Reads all keys. Problems are added to the report.
fn read_definition(name: &str, folder: &Path, mut file: Section<'_>, report: &mut Problems<'_>) -> Option<Definition> {
    let handler = file.required_text("handler", "name what the runtime calls, such as `bill.handler`", report);
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
        report.add(
            network.span(),
            what,
            "a function has no network: it reaches its runtime and what [lake] allows".to_owned(),
        );
    }
    let policy = policy(&mut file, folder, report);
    file.finish(report);
    let layers = layers.into_iter().filter_map(|layer| layer_name(folder, layer, report)).collect();
    let code = folder.join(code.unwrap_or_default());
    Some(Definition { name: name.to_owned(), code, layers, settings, policy })
}

fn policy(file: &mut Section<'_>, folder: &Path, report: &mut Problems<'_>) -> Policy {
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

/// `retries` is the number of retries and `retry_after` their waits. The defaults are AWS's.
fn retry_after(file: &mut Section<'_>, report: &mut Problems<'_>) -> Vec<Duration> {
    let retries = file.number("retries", 0..=RETRY_AFTER.len() as u64, report);
    let waits = file.durations("retry_after", Duration::ZERO..=DAY, RETRY_AFTER.len(), report);
    let count = retries.and_then(|count| usize::try_from(count).ok());
    let Some(waits) = waits else {
        return RETRY_AFTER.map(Duration::from_secs)[..count.unwrap_or(RETRY_AFTER.len())].to_vec();
    };
    if let Some(count) = count.filter(|count| *count != waits.get_ref().len()) {
        let what = format!("\"retry_after\" has {} waits for {count} retries", waits.get_ref().len());
        report.add(waits.span(), what, "write one wait for each retry".to_owned());
    }
    waits.into_inner()
}

fn environment(file: &mut Section<'_>, report: &mut Problems<'_>) -> BTreeMap<String, String> {
    let Some(section) = file.section("environment", report) else { return BTreeMap::new() };
    let mut environment = BTreeMap::new();
    for (name, value) in section.into_texts(report) {
        let named = name.get_ref();
        let starts = named.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !starts || !named.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            let hint = "a name has letters, digits and _, and begins with a letter or _".to_owned();
            report.add(name.span(), format!("{named:?} is not a variable's name"), hint);
        } else if OWN_VARIABLES.contains(&named.as_str()) {
            report.add(name.span(), format!("{named} is set by the host"), "remove it".to_owned());
        } else if value.get_ref().contains('\0') {
            report.add(value.span(), format!("{named} contains a NUL character, which no variable can"), None);
        } else if let Err(what) = variables_of(value.get_ref()) {
            report.add(value.span(), what, "write ${NAME} for a variable, and $$ for a dollar sign".to_owned());
        } else {
            environment.insert(name.into_inner(), value.into_inner());
        }
    }
    environment
}

fn rights(file: &mut Section<'_>, report: &mut Problems<'_>) -> LakeRights {
    let Some(mut section) = file.section("lake", report) else { return LakeRights::default() };
    let sql = section.flag("sql", report).unwrap_or_default();
    let objects = section.texts("objects", report);
    for prefix in &objects {
        let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
        if !prefix.get_ref().trim_end_matches('/').split('/').all(plain) {
            let what = format!("{:?} is not a prefix of objects", prefix.get_ref());
            report.add(
                prefix.span(),
                what,
                "name a path in the lake's object store, such as \"billing/2026\"".to_owned(),
            );
        }
    }
    let objects = objects.into_iter().map(Spanned::into_inner).collect();
    section.finish(report);
    LakeRights { sql, objects }
}

fn files(file: &mut Section<'_>, report: &mut Problems<'_>) -> Option<FileSettings> {
    let mut section = file.section("files", report)?;
    let results_mb = section.number("results_mb", 1..=4_194_304, report).unwrap_or(512);
    section.finish(report);
    Some(FileSettings { results_mb })
}

fn destination(
    file: &mut Section<'_>,
    key: &'static str,
    folder: &Path,
    report: &mut Problems<'_>,
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
            let hint =
                format!("write {key} = {{ function = \"NAME\" }}, {{ event = \"NAME\" }} or {{ folder = \"PATH\" }}");
            report.add(span, format!("{key:?} needs exactly one destination"), hint);
        }
    }
    None
}

fn layer_name(folder: &Path, layer: Spanned<String>, report: &mut Problems<'_>) -> Option<LayerName> {
    LayerName::parse(folder, layer.get_ref())
        .map_err(|error| report.add(layer.span(), error.context.clone(), error.hint))
        .ok()
}

impl LayerName {
    /// Reads a layer as files name it; a path is relative to `folder`.
    ///
    /// # Errors
    /// [`base::Kind::FixInput`] for a text that is no layer.
    pub fn parse(folder: &Path, text: &str) -> crate::error::Result<LayerName> {
        if text.contains('/') || text.ends_with(".zip") {
            return Ok(LayerName::Path(folder.join(text)));
        }
        let (name, version) = text.split_once(':').map_or((text, None), |(name, version)| (name, Some(version)));
        match version.map(|version| version.parse::<i64>().ok().filter(|v| *v > 0)) {
            None if is_name(name) => Ok(LayerName::Newest(name.to_owned())),
            Some(Some(version)) if is_name(name) => Ok(LayerName::Version(name.to_owned(), version)),
            _ => Err(crate::error::Error::input(format!("{text:?} is not a layer"))
                .hint("write \"NAME\", \"NAME:VERSION\", or a path of a zip or folder: \"layers/r.zip\", \"./layer\"")),
        }
    }
}

#[cfg(test)]
mod tests;
