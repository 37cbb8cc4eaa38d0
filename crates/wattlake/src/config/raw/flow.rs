//! What the billing flow's jobs are written as: layers, functions' runs, ingests, loads, controls.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use toml::Spanned;

use super::{Given, Rules, Trigger};

/// A layer made of what this machine has: a language, or packages on top of one.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "layers/NAME.toml", extend("required" = ["language"]))]
pub struct Layer {
    /// Whose packages they are.
    pub language: Given<Language>,
    /// With what they need themselves, by the names that they are installed under.
    #[schemars(with = "Vec<String>", inner(length(min = 1)))]
    pub packages: Given<Vec<String>>,
    /// Layers of `layers/` that this one lies over; what they have is left out. Without any, the layer holds the
    /// language itself.
    #[schemars(with = "Vec<String>", inner(length(min = 1)))]
    pub below: Given<Vec<Spanned<String>>>,
    /// A source package of one's own to build (R), relative to the warehouse.
    #[schemars(length(min = 1))]
    pub source: Given<String>,
    /// One process for all events, or one for each (R).
    #[schemars(extend("default" = "persistent"))]
    pub shape: Given<Shape>,
    /// Folders that Python packages are installed in, such as a virtual environment's `site-packages`.
    #[schemars(with = "Vec<String>", inner(length(min = 1)))]
    pub libraries: Given<Vec<String>>,
}

#[derive(Clone, Copy, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    R,
    Python,
}

#[derive(Clone, Copy, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// R starts once and answers event after event.
    Persistent,
    /// A shell asks for events and starts Rscript for each.
    Script,
}

/// When this warehouse runs the function, and on what. The function itself is in `function.toml` beside it.
/// In queries and parameters `{period}`, `{from}`, `{to}` and `{as_of}` stand for the run's own.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "functions/NAME/job.toml")]
pub struct Call {
    /// A version's number or an alias of the function.
    #[schemars(length(min = 1), extend("default" = "$LATEST"))]
    pub qualifier: Given<String>,
    /// Queries by name; their answers come with the event, as columns.
    #[schemars(with = "BTreeMap<String, String>")]
    pub inputs: BTreeMap<Spanned<String>, Spanned<String>>,
    /// Texts that come with the event as they are.
    pub parameters: BTreeMap<String, String>,
    /// What makes it run.
    #[schemars(with = "Vec<Trigger>")]
    pub triggers: Given<Vec<Spanned<Trigger>>>,
    /// How its runs are treated.
    pub run: Rules,
}

/// Files from elsewhere into the lake's objects, each held against a layout.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "ingests/NAME.toml", extend("required" = ["source", "layout"]))]
pub struct Ingest {
    /// Where they come from.
    #[schemars(with = "Source")]
    pub source: Given<Source>,
    /// The file that says what they look like, relative to the warehouse.
    #[schemars(length(min = 1))]
    pub layout: Given<String>,
    /// What makes it run.
    #[schemars(with = "Vec<Trigger>")]
    pub triggers: Given<Vec<Spanned<Trigger>>>,
    /// How its runs are treated.
    pub run: Rules,
}

/// One of `folder`, `sftp`, `urls` and `store`.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["folder"] }, { "required": ["sftp"] }, { "required": ["urls"] }, { "required": ["store"] }]))]
pub struct Source {
    /// A folder of this machine, relative to the warehouse.
    #[schemars(length(min = 1))]
    pub folder: Given<String>,
    /// `sftp://user@host:22/folder`; the password is `password`, or the key's file `key`.
    #[schemars(length(min = 1))]
    pub sftp: Given<String>,
    /// Files by HTTP(S): `https://host/{date:%Y-%m}.csv`.
    #[schemars(with = "Vec<String>", length(min = 1), inner(length(min = 1)))]
    pub urls: Given<Vec<Spanned<String>>>,
    /// An object store: `s3://bucket/prefix`, `gs://`, `az://`, `file://`.
    #[schemars(length(min = 1))]
    pub store: Given<String>,
    /// Patterns of names: `**/*.csv`, `{date:%Y-%m}/*.xlsx`; all files by default. Not for `urls`.
    #[schemars(with = "Vec<String>", length(min = 1), inner(length(min = 1)))]
    pub files: Given<Vec<Spanned<String>>>,
    /// A file that changed within this time is left for the next run.
    #[schemars(extend("default" = "2s", "pattern" = "^[0-9]+ ?(s|min|h|d)$"))]
    pub settle: Given<String>,
    /// Of SFTP; best as `"${VARIABLE}"`.
    #[schemars(length(min = 1))]
    pub password: Given<String>,
    /// Of SFTP: a private key's file, relative to the warehouse.
    #[schemars(length(min = 1))]
    pub key: Given<String>,
    /// Of the key, where it has one; best as `"${VARIABLE}"`.
    #[schemars(length(min = 1))]
    pub passphrase: Given<String>,
    /// Of SFTP: the server's key as `SHA256:...`; without it, `known_hosts` decides.
    #[schemars(length(min = 1))]
    pub fingerprint: Given<String>,
    /// Of SFTP: relative to the warehouse.
    #[schemars(length(min = 1))]
    pub known_hosts: Given<String>,
    /// Of `urls`: sent along, best as `"${VARIABLE}"`.
    pub headers: BTreeMap<String, String>,
    /// Handed to the object store as they are: `aws_region`, `aws_endpoint_url`, `aws_access_key_id`.
    pub options: BTreeMap<String, String>,
}

/// Rows into a table of the lake: of the files that an ingest accepted, or of what a function answered.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "loads/NAME.toml", extend("required" = ["from", "table"]))]
pub struct Load {
    /// `ingest:NAME` or `function:NAME`.
    #[schemars(length(min = 1))]
    pub from: Given<String>,
    /// The table as `schema.table`.
    #[schemars(length(min = 1))]
    pub table: Given<String>,
    /// Of a function's answer: the name under which its rows are; the answer itself is the rows without it.
    #[schemars(length(min = 1))]
    pub at: Given<String>,
    /// Of a function's answer: a file that it left in `/results`, such as `lines.csv`, in place of the answer itself.
    #[schemars(length(min = 1))]
    pub file: Given<String>,
    /// Of a function's answer: the file that says what its rows look like, relative to the warehouse.
    #[schemars(length(min = 1))]
    pub layout: Given<String>,
    /// Columns that name a document, such as a bill: another state of it becomes a reversal and new rows.
    #[schemars(with = "Vec<String>", length(min = 1), inner(length(min = 1)))]
    pub document: Given<Vec<Spanned<String>>>,
    /// Columns by which a row of a document is known again; with `document`.
    #[schemars(with = "Vec<String>", length(min = 1), inner(length(min = 1)))]
    pub key: Given<Vec<Spanned<String>>>,
    /// Columns that are kept, but whose change alone is no correction.
    #[schemars(with = "Vec<String>", length(min = 1), inner(length(min = 1)))]
    pub carried: Given<Vec<Spanned<String>>>,
    /// Columns that a reversal negates.
    #[schemars(with = "Vec<String>", length(min = 1), inner(length(min = 1)))]
    pub amounts: Given<Vec<Spanned<String>>>,
    /// What makes it run; after what it loads from by default, never with an empty list.
    #[schemars(with = "Vec<Trigger>")]
    pub triggers: Given<Vec<Spanned<Trigger>>>,
    /// How its runs are treated.
    pub run: Rules,
}

/// When the controls in the folder of the same name run.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "controls/NAME.toml")]
pub struct Controls {
    /// What makes them run.
    #[schemars(with = "Vec<Trigger>")]
    pub triggers: Given<Vec<Spanned<Trigger>>>,
    /// How their runs are treated.
    pub run: Rules,
}

/// A query that returns the rows that offend. `{period}`, `{from}`, `{to}` and `{tolerance}` are filled in.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "controls/NAME/CONTROL.sql", extend("required" = ["severity", "text"]))]
pub struct Control {
    /// What a row means for what follows.
    pub severity: Given<Severity>,
    /// What is wrong where there are rows, for people.
    #[schemars(length(min = 1))]
    pub text: Given<String>,
    /// `{tolerance}` in the query: a share, an amount.
    #[schemars(with = "f64", extend("default" = 0.0))]
    pub tolerance: Given<Number>,
    /// So many rows are let pass.
    #[schemars(range(min = 0), extend("default" = 0))]
    pub rows_max: Given<u32>,
    /// What the hint is.
    #[schemars(length(min = 1))]
    pub hint: Given<String>,
}

#[derive(Clone, Copy, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The run fails, and nothing that comes after it begins.
    Block,
    /// It is told.
    Warn,
}

/// Bills that people read: a page and a workbook of each producer's month, from what queries return.
/// In queries `{period}`, `{from}`, `{to}` and `{as_of}` stand for the run's own.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "statements/NAME.toml", extend("required" = ["template", "labels", "lines"]))]
pub struct Statement {
    /// The page's template, relative to the warehouse.
    #[schemars(length(min = 1))]
    pub template: Given<String>,
    /// Its words, and how numbers are written; relative to the warehouse.
    #[schemars(length(min = 1))]
    pub labels: Given<String>,
    /// A query for the lines of all producers.
    #[schemars(length(min = 1))]
    pub lines: Given<String>,
    /// A query for the energy of each day of each producer; without it there is no chart.
    #[schemars(length(min = 1))]
    pub days: Given<String>,
    /// A set of controls that is looked at anew before statements go out; one that blocks keeps them all back.
    #[schemars(length(min = 1))]
    pub controls: Given<String>,
    /// Where people find them, relative to the warehouse.
    #[schemars(length(min = 1), extend("default" = "outbox/statements"))]
    pub folder: Given<String>,
    /// The register of what went out, as `schema.table`.
    #[schemars(length(min = 1), extend("default" = "billing.statements"))]
    pub table: Given<String>,
    /// What makes them go out.
    #[schemars(with = "Vec<Trigger>")]
    pub triggers: Given<Vec<Spanned<Trigger>>>,
    /// How its runs are treated.
    pub run: Rules,
}

/// `1` and `1.0` alike.
#[derive(Clone, Copy, serde::Deserialize)]
#[serde(untagged)]
pub enum Number {
    Whole(i64),
    Broken(f64),
}

impl Number {
    pub fn value(self) -> f64 {
        match self {
            Number::Whole(value) => value as f64,
            Number::Broken(value) => value,
        }
    }
}
