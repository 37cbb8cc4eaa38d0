//! The files of the billing flow as TOML types: layers, function jobs, ingests, loads, controls, statements.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use toml::Spanned;

use super::{Field, RunSettings, Trigger};

/// A layer built from what is installed on this machine: a language, or packages for one.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "layers/NAME.toml", extend("required" = ["language"]))]
pub struct Layer {
    /// The language of the packages.
    pub language: Field<Language>,
    /// Names of installed packages. Their dependencies are added.
    #[schemars(with = "Vec<String>", inner(length(min = 1)))]
    pub packages: Field<Vec<String>>,
    /// Layers of `layers/` that this one extends; packages that they contain are left out. Without any, the layer
    /// contains the language itself.
    #[schemars(with = "Vec<String>", inner(length(min = 1)))]
    pub below: Field<Vec<Spanned<String>>>,
    /// The folder of a source package to build (R), relative to the warehouse.
    #[schemars(length(min = 1))]
    pub source: Field<String>,
    /// One process for all events, or one for each (R).
    #[schemars(extend("default" = "persistent"))]
    pub shape: Field<Shape>,
    /// A file with the packages and their versions, relative to the warehouse: a `requirements.txt`, which pip installs for the
    /// layer, or an `renv.lock`, whose versions have to be installed.
    #[schemars(length(min = 1))]
    pub requirements: Field<String>,
    /// Folders that packages are installed in, such as a virtual environment's `site-packages` or renv's library. They come
    /// before R's own; for Python the default is those of the `python3` that is found first, which is that of an active
    /// virtual environment.
    #[schemars(with = "Vec<String>", inner(length(min = 1)))]
    pub libraries: Field<Vec<String>>,
}

/// The language of a layer.
#[derive(Clone, Copy, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    R,
    Python,
}

/// How many events one process of R handles.
#[derive(Clone, Copy, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// R starts once and handles all events.
    Persistent,
    /// A shell waits for events and starts Rscript for each.
    Script,
}

/// When this warehouse runs the function, and with which input. The function itself is in `function.toml` beside it.
/// In queries and parameters `{period}`, `{from}`, `{to}` and `{as_of}` are replaced by the run's values.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "functions/NAME/job.toml")]
pub struct FunctionJob {
    /// A version's number or an alias of the function.
    #[schemars(length(min = 1), extend("default" = "$LATEST"))]
    pub qualifier: Field<String>,
    /// Queries by name; their rows are passed with the event, as columns.
    #[schemars(with = "BTreeMap<String, String>")]
    pub inputs: BTreeMap<Spanned<String>, Spanned<String>>,
    /// Texts that are passed with the event.
    pub parameters: BTreeMap<String, String>,
    /// What starts it.
    #[schemars(with = "Vec<Trigger>")]
    pub triggers: Field<Vec<Spanned<Trigger>>>,
    /// Retries and limits of its runs.
    pub run: RunSettings,
}

/// Files that are copied into the lake's objects, each checked against a layout.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "ingests/NAME.toml", extend("required" = ["source", "layout"]))]
pub struct Ingest {
    /// Where the files are read from.
    #[schemars(with = "Source")]
    pub source: Field<Source>,
    /// The file of the layout, relative to the warehouse.
    #[schemars(length(min = 1))]
    pub layout: Field<String>,
    /// What starts it.
    #[schemars(with = "Vec<Trigger>")]
    pub triggers: Field<Vec<Spanned<Trigger>>>,
    /// Retries and limits of its runs.
    pub run: RunSettings,
}

/// One of `folder`, `sftp`, `urls` and `store`.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["folder"] }, { "required": ["sftp"] }, { "required": ["urls"] }, { "required": ["store"] }]))]
pub struct Source {
    /// A folder of this machine, relative to the warehouse.
    #[schemars(length(min = 1))]
    pub folder: Field<String>,
    /// `sftp://user@host:22/folder`, with `password` or `key` to log in.
    #[schemars(length(min = 1))]
    pub sftp: Field<String>,
    /// URLs of files, by HTTP or HTTPS: `https://host/{date:%Y-%m}.csv`.
    #[schemars(with = "Vec<String>", length(min = 1), inner(length(min = 1)))]
    pub urls: Field<Vec<Spanned<String>>>,
    /// An object store: `s3://bucket/prefix`, `gs://`, `az://`, `file://`.
    #[schemars(length(min = 1))]
    pub store: Field<String>,
    /// Patterns of names: `**/*.csv`, `{date:%Y-%m}/*.xlsx`; all files by default. Not for `urls`.
    #[schemars(with = "Vec<String>", length(min = 1), inner(length(min = 1)))]
    pub files: Field<Vec<Spanned<String>>>,
    /// A file that changed within this time is left for the next run.
    #[schemars(extend("default" = "2s", "pattern" = "^[0-9]+ ?(s|min|h|d)$"))]
    pub settle: Field<String>,
    /// The password of SFTP; best as `"${VARIABLE}"`.
    #[schemars(length(min = 1))]
    pub password: Field<String>,
    /// The file of a private key for SFTP, relative to the warehouse.
    #[schemars(length(min = 1))]
    pub key: Field<String>,
    /// The passphrase of the private key; best as `"${VARIABLE}"`.
    #[schemars(length(min = 1))]
    pub passphrase: Field<String>,
    /// The key of the SFTP server as `SHA256:...`, in place of `known_hosts`.
    #[schemars(length(min = 1))]
    pub fingerprint: Field<String>,
    /// A `known_hosts` file for SFTP, relative to the warehouse.
    #[schemars(length(min = 1))]
    pub known_hosts: Field<String>,
    /// Headers of the requests for `urls`; secrets best as `"${VARIABLE}"`.
    pub headers: BTreeMap<String, String>,
    /// Options of the object store, passed on unchanged: `aws_region`, `aws_endpoint_url`, `aws_access_key_id`.
    pub options: BTreeMap<String, String>,
}

/// Loads rows into a table of the lake, from files that an ingest accepted or from a function's answer.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "loads/NAME.toml", extend("required" = ["from", "table"]))]
pub struct Load {
    /// `ingest:NAME` or `function:NAME`.
    #[schemars(length(min = 1))]
    pub from: Field<String>,
    /// The table as `schema.table`.
    #[schemars(length(min = 1))]
    pub table: Field<String>,
    /// For a function's answer: the name of the value that has the rows; the whole answer by default.
    #[schemars(length(min = 1))]
    pub at: Field<String>,
    /// For a function's answer: a file of `/results` that has the rows, such as `lines.csv`, in place of the answer.
    #[schemars(length(min = 1))]
    pub file: Field<String>,
    /// For a function's answer: the file of the layout of its rows, relative to the warehouse.
    #[schemars(length(min = 1))]
    pub layout: Field<String>,
    /// Columns that identify a document, such as a bill; a changed document becomes reversals and new rows.
    #[schemars(with = "Vec<String>", length(min = 1), inner(length(min = 1)))]
    pub document: Field<Vec<Spanned<String>>>,
    /// Columns that identify a row of a document; required with `document`.
    #[schemars(with = "Vec<String>", length(min = 1), inner(length(min = 1)))]
    pub key: Field<Vec<Spanned<String>>>,
    /// Columns that are loaded, but whose change alone is no correction.
    #[schemars(with = "Vec<String>", length(min = 1), inner(length(min = 1)))]
    pub carried: Field<Vec<Spanned<String>>>,
    /// Columns that a reversal negates.
    #[schemars(with = "Vec<String>", length(min = 1), inner(length(min = 1)))]
    pub amounts: Field<Vec<Spanned<String>>>,
    /// What starts it; by default each success of the job that it loads from, and nothing with an empty list.
    #[schemars(with = "Vec<Trigger>")]
    pub triggers: Field<Vec<Spanned<Trigger>>>,
    /// Retries and limits of its runs.
    pub run: RunSettings,
}

/// When the controls in the folder of the same name run.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "controls/NAME.toml")]
pub struct Controls {
    /// One more control, `inputs_changed`: what a function's answer was made from is not what is known now.
    #[schemars(with = "InputsChanged")]
    pub inputs_changed: Field<InputsChanged>,
    /// What starts them.
    #[schemars(with = "Vec<Trigger>")]
    pub triggers: Field<Vec<Spanned<Trigger>>>,
    /// Retries and limits of their runs.
    pub run: RunSettings,
}

/// The control that compares the inputs of the answer that was loaded last with the same queries as of now.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["load", "by", "documents"]))]
pub struct InputsChanged {
    /// The load of the answer.
    #[schemars(length(min = 1))]
    pub load: Field<String>,
    /// The column of inputs that tells to which documents a row belongs. Rows of inputs without it belong to all.
    #[schemars(length(min = 1))]
    pub by: Field<String>,
    /// A query for the documents, with the column `by`; its columns become those of findings.
    #[schemars(length(min = 1))]
    pub documents: Field<String>,
    /// What a finding does to the jobs that come after.
    #[schemars(with = "Severity", extend("default" = "block"))]
    pub severity: Field<Severity>,
    /// What a finding holds back.
    #[schemars(with = "Holds", extend("default" = "all"))]
    pub holds: Field<Holds>,
}

/// A query whose rows are findings. `{period}`, `{from}`, `{to}` and `{tolerance}` are replaced by values.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "controls/NAME/CONTROL.sql", extend("required" = ["severity", "text"]))]
pub struct Control {
    /// What a finding does to the jobs that come after.
    pub severity: Field<Severity>,
    /// What a finding holds back.
    #[schemars(with = "Holds", extend("default" = "all"))]
    pub holds: Field<Holds>,
    /// What is wrong where there are rows, for people.
    #[schemars(length(min = 1))]
    pub text: Field<String>,
    /// The value of `{tolerance}` in the query, such as a share or an amount.
    #[schemars(with = "f64", extend("default" = 0.0))]
    pub tolerance: Field<Number>,
    /// The most rows with which the control still passes.
    #[schemars(range(min = 0), extend("default" = 0))]
    pub rows_max: Field<u32>,
    /// What a user can do about it.
    #[schemars(length(min = 1))]
    pub hint: Field<String>,
}

/// What a finding does to the jobs that come after.
#[derive(Clone, Copy, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The run fails, and no job after it starts.
    Block,
    /// The finding is reported only.
    Warn,
}

/// What a finding of a control holds back.
#[derive(Clone, Copy, Default, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Holds {
    /// The statements of all producers.
    #[default]
    All,
    /// The statement of the producer in the finding's column `producer_id`, or of all where it is NULL.
    Producer,
}

/// Bills as documents: a page and a workbook for each producer and month, from the rows of queries.
/// In queries `{period}`, `{from}`, `{to}` and `{as_of}` are replaced by the run's values.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "statements/NAME.toml", extend("required" = ["template", "labels", "lines"]))]
pub struct Statement {
    /// The page's template, relative to the warehouse.
    #[schemars(length(min = 1))]
    pub template: Field<String>,
    /// The file of its labels and number formats, relative to the warehouse.
    #[schemars(length(min = 1))]
    pub labels: Field<String>,
    /// The template of PDFs in Typst's language, relative to the warehouse; without it there are none.
    #[schemars(length(min = 1))]
    pub pdf: Field<String>,
    /// A query for the lines of all producers.
    #[schemars(length(min = 1))]
    pub lines: Field<String>,
    /// E-invoices beside each statement; without it there are none.
    #[schemars(with = "Invoice")]
    pub invoice: Field<Invoice>,
    /// A query for the energy of each day of each producer; without it there is no chart.
    #[schemars(length(min = 1))]
    pub days: Field<String>,
    /// A set of controls to run before statements are issued; one that blocks stops all of them.
    #[schemars(length(min = 1))]
    pub controls: Field<String>,
    /// The folder for pages and workbooks, relative to the warehouse.
    #[schemars(length(min = 1), extend("default" = "outbox/statements"))]
    pub folder: Field<String>,
    /// The table that records issued statements, as `schema.table`.
    #[schemars(length(min = 1), extend("default" = "billing.statements"))]
    pub table: Field<String>,
    /// What starts the issue of statements.
    #[schemars(with = "Vec<Trigger>")]
    pub triggers: Field<Vec<Spanned<Trigger>>>,
    /// Retries and limits of its runs.
    pub run: RunSettings,
}

/// A number, as a TOML integer or float.
#[derive(Clone, Copy, serde::Deserialize)]
#[serde(untagged)]
pub enum Number {
    Integer(i64),
    Float(f64),
}

impl Number {
    /// The number as a float.
    pub fn value(self) -> f64 {
        match self {
            Number::Integer(value) => value as f64,
            Number::Float(value) => value,
        }
    }
}

/// E-invoices by EN 16931.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Invoice {
    /// How they are written.
    #[schemars(with = "Vec<InvoiceSyntax>", length(min = 1), extend("default" = ["cii", "ubl"]))]
    pub syntaxes: Field<Vec<InvoiceSyntax>>,
    /// After how many days they are due.
    #[schemars(range(min = 0, max = 365), extend("default" = 30))]
    pub due_days: Field<u32>,
    /// The company that buys the energy and issues the invoices.
    #[schemars(with = "Company")]
    pub company: Field<Company>,
}

/// A syntax of EN 16931.
#[derive(Clone, Copy, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InvoiceSyntax {
    /// UN/CEFACT Cross Industry Invoice.
    Cii,
    /// Universal Business Language 2.1.
    Ubl,
}

/// A company. Until its name and SIREN are there, no e-invoice is written, and nothing is issued that charges VAT.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Company {
    /// Its name.
    pub name: Field<String>,
    /// Its SIREN number.
    pub siren: Field<String>,
    /// Its VAT number; computed from the SIREN without it.
    pub vat_number: Field<String>,
    /// Street and number.
    pub address: Field<String>,
    /// The postcode.
    pub postcode: Field<String>,
    /// The city.
    pub city: Field<String>,
    /// Legal form, capital and register.
    pub legal: Field<String>,
    /// The account to which producers pay its fees.
    pub iban: Field<String>,
}
