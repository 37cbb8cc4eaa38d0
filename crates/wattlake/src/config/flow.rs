//! The billing flow's jobs as the configuration has them: layers, functions, ingests, loads, controls, statements.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use function::definition::Definition;
use ingest::layout::Layout;
use ingest::load::Roles;
use statement::Labels;

use super::job::Rules;
use super::{Filled, Secret};

/// `layers/NAME.toml`
#[derive(Debug, Clone)]
pub struct Layer {
    pub name: String,
    pub language: Language,
    pub packages: Vec<String>,
    /// Names of other layers. Empty: this one holds the language.
    pub below: Vec<String>,
    pub source: Option<PathBuf>,
    pub is_script: bool,
    pub libraries: Vec<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    R,
    Python,
}

/// `functions/NAME/`
#[derive(Debug, Clone)]
pub struct Function {
    pub name: String,
    pub definition: Definition,
    /// It runs as a job only where it has a `job.toml`.
    pub call: Option<Call>,
}

/// `functions/NAME/job.toml`
#[derive(Debug, Clone)]
pub struct Call {
    pub file: PathBuf,
    pub qualifier: String,
    /// SQL by name, with `{period}` and its kin still in it.
    pub inputs: BTreeMap<String, String>,
    pub parameters: BTreeMap<String, String>,
    pub rules: Rules,
}

/// `ingests/NAME.toml`
#[derive(Debug, Clone)]
pub struct Ingest {
    pub name: String,
    pub file: PathBuf,
    pub source: Filled<Source>,
    pub settle: Duration,
    pub layout_file: PathBuf,
    pub layout: Layout,
    pub rules: Rules,
}

#[derive(Debug, Clone)]
pub enum Source {
    Folder { folder: PathBuf, files: Vec<String> },
    Sftp { at: Box<Sftp>, files: Vec<String> },
    Urls { urls: Vec<String>, headers: BTreeMap<String, Secret> },
    Store { url: String, options: BTreeMap<String, Secret>, files: Vec<String> },
}

#[derive(Debug, Clone)]
pub struct Sftp {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub folder: String,
    pub password: Option<Secret>,
    pub key: Option<PathBuf>,
    pub passphrase: Option<Secret>,
    pub fingerprint: Option<String>,
    pub known_hosts: Option<PathBuf>,
}

/// `loads/NAME.toml`
#[derive(Debug, Clone)]
pub struct Load {
    pub name: String,
    pub file: PathBuf,
    pub from: From,
    pub schema: String,
    pub table: String,
    /// The columns that name a document; empty: rows are only added.
    pub document: Vec<String>,
    /// Of a document.
    pub roles: Roles,
    pub rules: Rules,
}

#[derive(Debug, Clone)]
pub enum From {
    /// One of [`super::Warehouse::ingests`].
    Ingest(String),
    /// One of [`super::Warehouse::functions`], with a job.
    Function { name: String, part: Part, layout: Box<Layout> },
}

/// Which rows of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    Whole,
    /// Those under a name in a JSON object.
    At(String),
    /// Those of a file that came with it.
    File(String),
}

impl From {
    pub fn job(&self) -> String {
        match self {
            From::Ingest(name) => format!("ingest:{name}"),
            From::Function { name, .. } => format!("function:{name}"),
        }
    }
}

/// `controls/NAME/*.sql`, with `controls/NAME.toml`.
#[derive(Debug, Clone)]
pub struct Controls {
    pub name: String,
    /// The TOML, or the first of its controls.
    pub file: PathBuf,
    /// By name.
    pub controls: BTreeMap<String, Control>,
    pub rules: Rules,
}

/// `statements/NAME.toml`
#[derive(Debug, Clone)]
pub struct Statement {
    pub name: String,
    pub file: PathBuf,
    pub template_file: PathBuf,
    pub labels_file: PathBuf,
    /// It could be read.
    pub template: String,
    pub labels: Labels,
    /// SQL, with `{period}` and its kin still in it.
    pub lines: String,
    pub days: Option<String>,
    /// One of [`super::Warehouse::controls`].
    pub controls: Option<String>,
    pub folder: PathBuf,
    pub schema: String,
    pub table: String,
    pub rules: Rules,
}

#[derive(Debug, Clone)]
pub struct Control {
    pub name: String,
    pub blocks: bool,
    pub text: String,
    pub hint: Option<String>,
    pub tolerance: f64,
    pub rows_max: u64,
    /// The whole file, so that a line of it is the line of an error.
    pub sql: String,
}
