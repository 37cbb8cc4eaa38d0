//! The checked configuration of the billing flow: layers, functions, ingests, loads, controls, statements.
//! Paths are resolved against the warehouse's folder; `name` is the file's name without its extension.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bill::{Company, Labels, Syntax};
use function::definition::Definition;
use ingest::layout::Layout;
use ingest::load::ColumnRoles;

use super::{OrUnset, Secret};
use schedule::JobRules;

/// A layer that can be built: `layers/NAME.toml`.
#[derive(Debug, Clone)]
pub struct Layer {
    pub name: String,
    pub language: Language,
    pub packages: Vec<String>,
    /// Names of the layers that this one extends. Empty: this layer holds the language itself.
    pub base_layers: Vec<String>,
    /// The folder of an R source package to build.
    pub source: Option<PathBuf>,
    /// Starts R for each event; otherwise one process handles all events.
    pub is_script: bool,
    /// A `requirements.txt` or `renv.lock` with further packages.
    pub requirements: Option<PathBuf>,
    /// Folders with installed packages.
    pub libraries: Vec<PathBuf>,
}

/// The language of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    R,
    Python,
}

/// A function: the folder `functions/NAME/`.
#[derive(Debug, Clone)]
pub struct Function {
    pub name: String,
    pub definition: Definition,
    /// Its `job.toml`; a function without one runs only when it is invoked.
    pub job: Option<FunctionJob>,
}

/// How a function runs as a job: `functions/NAME/job.toml`.
#[derive(Debug, Clone)]
pub struct FunctionJob {
    pub file: PathBuf,
    /// A version's number or an alias.
    pub qualifier: String,
    /// SQL by name, with its placeholders.
    pub inputs: BTreeMap<String, String>,
    /// Texts by name, with their placeholders.
    pub parameters: BTreeMap<String, String>,
    pub rules: JobRules,
}

/// An ingest of files: `ingests/NAME.toml`.
#[derive(Debug, Clone)]
pub struct Ingest {
    pub name: String,
    pub file: PathBuf,
    pub source: OrUnset<IngestSource>,
    /// A file that changed within this time is left for the next run.
    pub settle: Duration,
    pub layout_file: PathBuf,
    pub layout: Layout,
    pub rules: JobRules,
}

/// Where an ingest reads files. `files` are patterns of their names.
#[derive(Debug, Clone)]
pub enum IngestSource {
    /// A local folder.
    Folder { folder: PathBuf, files: Vec<String> },
    /// A folder of an SFTP server.
    Sftp { at: Box<Sftp>, files: Vec<String> },
    /// Files by HTTP or HTTPS, with the headers of each request.
    Urls { urls: Vec<String>, headers: BTreeMap<String, Secret> },
    /// An object store.
    Store { url: String, options: BTreeMap<String, Secret>, files: Vec<String> },
}

/// An SFTP server: a password or a key to log in, and a fingerprint or a `known_hosts` file to verify the server.
#[derive(Debug, Clone)]
pub struct Sftp {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub folder: String,
    pub password: Option<Secret>,
    /// The file of a private key.
    pub key: Option<PathBuf>,
    /// The passphrase of the private key.
    pub passphrase: Option<Secret>,
    /// The server's key, as `SHA256:...`.
    pub fingerprint: Option<String>,
    pub known_hosts: Option<PathBuf>,
}

/// A load of rows into a table of the lake: `loads/NAME.toml`.
#[derive(Debug, Clone)]
pub struct Load {
    pub name: String,
    pub file: PathBuf,
    pub from: LoadSource,
    pub schema: String,
    pub table: String,
    /// The columns that identify a document, such as a bill. Empty: rows are only added.
    pub document: Vec<String>,
    /// The roles of columns in a document.
    pub roles: ColumnRoles,
    pub rules: JobRules,
}

/// Where a load's rows come from.
#[derive(Debug, Clone)]
pub enum LoadSource {
    /// The files of an ingest: a name of [`super::Warehouse::ingests`].
    Ingest(String),
    /// The answers of a function that has a job: a name of [`super::Warehouse::functions`].
    Function { name: String, part: AnswerPart, layout: Box<Layout> },
}

/// The part of a function's answer that has the rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnswerPart {
    /// The answer itself.
    Whole,
    /// The value under a name in a JSON object.
    At(String),
    /// A file that the function left in `/results`.
    File(String),
}

impl LoadSource {
    /// The full name of the job that makes the rows: `ingest:NAME` or `function:NAME`.
    pub fn job(&self) -> String {
        match self {
            LoadSource::Ingest(name) => format!("ingest:{name}"),
            LoadSource::Function { name, .. } => format!("function:{name}"),
        }
    }
}

/// A set of controls: `controls/NAME/*.sql`, with `controls/NAME.toml`.
#[derive(Debug, Clone)]
pub struct Controls {
    pub name: String,
    /// The TOML file, or the file of its first control where there is none.
    pub file: PathBuf,
    /// By name.
    pub controls: BTreeMap<String, Control>,
    /// The control of the name [`INPUTS_CHANGED`].
    pub inputs_changed: Option<InputsChanged>,
    pub rules: JobRules,
}

impl Controls {
    /// The names of all controls.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.controls.keys().chain(self.inputs_changed.iter().map(|control| &control.name))
    }
}

/// The name of the control that compares the inputs of an answer with what is known now.
pub const INPUTS_CHANGED: &str = "inputs_changed";

/// The control that compares the inputs of the answer that a load took with the same queries as of now.
#[derive(Debug, Clone)]
pub struct InputsChanged {
    /// [`INPUTS_CHANGED`].
    pub name: String,
    /// The load, one of [`super::Warehouse::loads`].
    pub load: String,
    /// The column of inputs that tells to which documents a row belongs.
    pub by: String,
    /// The query for the documents, with its placeholders.
    pub documents: String,
    pub blocks: bool,
    pub holds: Holds,
}

/// What a finding of a control holds back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// The statements of all producers.
    All,
    /// The statement of the producer in its column `producer_id`, or of all where it is NULL.
    Producer,
}

/// A statement, the document of a producer's bill: `statements/NAME.toml`.
#[derive(Debug, Clone)]
pub struct Statement {
    pub name: String,
    pub file: PathBuf,
    pub template_file: PathBuf,
    pub labels_file: PathBuf,
    /// The template's text, which has been parsed without error.
    pub template: String,
    pub labels: Labels,
    /// The template of PDFs, if any.
    pub pdf: Option<PdfTemplate>,
    /// The query of the lines of all producers, with its placeholders.
    pub lines: String,
    /// The query of the energy of each day, with its placeholders.
    pub days: Option<String>,
    /// The e-invoices beside it.
    pub invoice: Option<InvoiceSettings>,
    /// The set whose controls can block it: a name of [`super::Warehouse::controls`].
    pub controls: Option<String>,
    /// Where pages and workbooks are written.
    pub folder: PathBuf,
    pub schema: String,
    pub table: String,
    pub rules: JobRules,
}

/// A template in Typst's language.
#[derive(Debug, Clone)]
pub struct PdfTemplate {
    pub file: PathBuf,
    pub text: String,
}

/// After how many days a statement is due, where its file does not say.
pub const DUE_DAYS: u32 = 30;

/// The e-invoices of a statement.
#[derive(Debug, Clone)]
pub struct InvoiceSettings {
    pub syntaxes: Vec<Syntax>,
    pub due_days: u32,
    /// The company that issues them; `None` where its name or its SIREN is not filled in yet.
    pub company: Option<Company>,
}

/// One control: `controls/SET/NAME.sql`.
#[derive(Debug, Clone)]
pub struct Control {
    pub name: String,
    /// Its findings stop the jobs that come after it; otherwise they are reported only.
    pub blocks: bool,
    pub holds: Holds,
    /// What is wrong where there are rows, for people.
    pub text: String,
    pub hint: Option<String>,
    /// The value of `{tolerance}` in the query.
    pub tolerance: f64,
    /// The most rows with which it still passes.
    pub rows_max: u64,
    /// The text of the whole file, so that lines in errors of SQL are lines of the file.
    pub sql: String,
}
