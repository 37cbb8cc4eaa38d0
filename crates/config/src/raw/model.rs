//! Models, their containers and their endpoints as TOML types.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema as schema};
use toml::Spanned;

use super::{Field, RunSettings, Trigger};

/// What models are made of.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Models {
    /// By the beginning of an artifact's URL, such as `"s3://bucket/models/"`: the folder that it stands for, relative to
    /// this file.
    #[schemars(with = "BTreeMap<String, String>")]
    pub data: BTreeMap<Spanned<String>, Spanned<String>>,
}

/// A container: a folder with a program `serve` that keeps SageMaker's container contract, run in a sandbox.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "containers/NAME/container.toml")]
pub struct Container {
    /// Images that it stands for, as patterns: `"*.dkr.ecr.*.amazonaws.com/hydro:*"`. Its name is always one.
    #[schemars(with = "Vec<String>", inner(length(min = 1)))]
    pub images: Field<Vec<Spanned<String>>>,
    /// Layers, as functions name them: `"NAME"`, `"NAME:VERSION"`, or a path of a zip or folder.
    #[schemars(with = "Vec<String>", inner(length(min = 1)))]
    pub layers: Field<Vec<Spanned<String>>>,
    /// Memory of a process with all that it starts, in MiB.
    #[schemars(range(min = 16, max = 4_194_304), extend("default" = 1024))]
    pub memory_mb: Field<u32>,
    /// The size of `/tmp`, in MiB.
    #[schemars(range(min = 1, max = 4_194_304), extend("default" = 512))]
    pub tmp_mb: Field<u32>,
    /// Requests that it gets at a time; further ones wait.
    #[schemars(range(min = 1, max = 10_000), extend("default" = 8))]
    pub concurrency: Field<u32>,
    /// How long it may take until it answers `/ping`.
    #[schemars(extend("default" = "2min", "pattern" = "^[0-9]+ ?(s|min|h|d)$"))]
    pub start_max: Field<String>,
    /// Without a request for so long, its process is ended; the next request starts it again.
    #[schemars(extend("default" = "5min", "pattern" = "^[0-9]+ ?(s|min|h|d)$"))]
    pub idle_max: Field<String>,
    /// Its variables. Those of a model come on top.
    pub environment: BTreeMap<String, String>,
}

/// An endpoint, for `wattlake endpoint apply`.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "endpoints/NAME.toml", extend("required" = ["variants"]))]
pub struct Endpoint {
    /// The models that answer its requests, by the names of their variants.
    #[schemars(with = "BTreeMap<String, Variant>", extend("minProperties" = 1))]
    pub variants: BTreeMap<Spanned<String>, Spanned<Variant>>,
}

/// A training job: a container's program `train`, run in a sandbox over its channels. Each run makes a version of a model.
/// In queries and hyperparameters `{period}`, `{from}`, `{to}` and `{as_of}` are replaced by the run's values.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "trainings/NAME.toml", extend("required" = ["image"]))]
pub struct Training {
    /// An image that a container of `containers/` stands for.
    #[schemars(length(min = 1))]
    pub image: Field<String>,
    /// The model that its runs make versions of; the file's name by default.
    #[schemars(length(min = 1))]
    pub model: Field<String>,
    /// The image that serves its models; the same by default.
    #[schemars(length(min = 1))]
    pub serve_image: Field<String>,
    /// What the program reads, by the names of channels.
    #[schemars(with = "BTreeMap<String, Channel>")]
    pub channels: BTreeMap<Spanned<String>, Spanned<Channel>>,
    /// Texts, numbers and flags that are passed to the program as texts.
    pub hyperparameters: BTreeMap<String, Hyperparameter>,
    /// A folder or an archive with the script, which is read-only at `/opt/ml/code`; relative to the warehouse, or a URL.
    #[schemars(length(min = 1))]
    pub code: Field<String>,
    /// By the names of metrics: a regular expression whose first group is the metric's value in a line of output.
    #[schemars(with = "BTreeMap<String, String>")]
    pub metrics: BTreeMap<Spanned<String>, Spanned<String>>,
    /// Tables that are filled from files of `/opt/ml/output/data`, by names of your choice.
    pub tables: BTreeMap<String, TrainingTable>,
    /// A folder, relative to the warehouse, for the pages (`*.html`) of `/opt/ml/output/data`.
    #[schemars(length(min = 1))]
    pub reports: Field<String>,
    /// How long the program may run.
    #[schemars(extend("default" = "1h", "pattern" = "^[0-9]+ ?(s|min|h|d)$"))]
    pub time_max: Field<String>,
    /// How much it may write: a number and `MB` or `GB`.
    #[schemars(extend("default" = "10GB", "pattern" = "^[0-9]+ ?(MB|GB)$"))]
    pub written_max: Field<String>,
    /// Whether a new version may be served without an approval.
    #[schemars(extend("default" = false))]
    pub approve: Field<bool>,
    /// Variables of the program.
    pub environment: BTreeMap<String, String>,
    /// What starts it.
    #[schemars(with = "Vec<Trigger>")]
    pub triggers: Field<Vec<Spanned<Trigger>>>,
    /// Retries and limits of its runs.
    pub run: RunSettings,
}

/// A channel: the rows of a query, or files.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["query"] }, { "required": ["data"] }]))]
pub struct Channel {
    /// A query on the lake, whose rows are written to a file `data.csv` or `data.parquet`.
    #[schemars(with = "String", length(min = 1))]
    pub query: Field<Spanned<String>>,
    /// The format of the query's rows.
    #[schemars(extend("default" = "csv"))]
    pub format: Field<ChannelFormat>,
    /// A folder or a file, relative to the warehouse, or a URL.
    #[schemars(length(min = 1))]
    pub data: Field<String>,
}

/// The format of a channel's rows.
#[derive(Clone, Copy, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChannelFormat {
    Csv,
    Parquet,
}

/// A hyperparameter: a text, a number or a flag.
#[derive(Clone, serde::Deserialize)]
#[serde(untagged)]
pub enum Hyperparameter {
    Flag(bool),
    Integer(i64),
    Number(f64),
    Text(String),
}

impl JsonSchema for Hyperparameter {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Hyperparameter".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schema!({ "type": ["string", "integer", "number", "boolean"] })
    }
}

impl Hyperparameter {
    /// The text that is passed.
    pub fn text(&self) -> String {
        match self {
            Hyperparameter::Flag(flag) => flag.to_string(),
            Hyperparameter::Integer(number) => number.to_string(),
            Hyperparameter::Number(number) => number.to_string(),
            Hyperparameter::Text(text) => text.clone(),
        }
    }
}

/// A model of an endpoint.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Variant {
    /// `wattlake/lightgbm`, or an image that a container of `containers/` stands for. A version of the registry has its
    /// own.
    #[schemars(length(min = 1))]
    pub image: Field<String>,
    /// The model's artifact: a `model.tar.gz` or a single file, relative to the warehouse; a URL; or a version of the
    /// registry: `model://NAME/ALIAS`, `model://NAME/VERSION`.
    #[schemars(length(min = 1))]
    pub data: Field<String>,
    /// Its part of the requests is its weight, divided by the sum of all weights.
    #[schemars(range(min = 0.0), extend("default" = 1.0))]
    pub weight: Field<f64>,
    /// It gets a copy of each request, and its answers are dropped.
    #[schemars(extend("default" = false))]
    pub shadow: Field<bool>,
    /// Variables of its process.
    pub environment: BTreeMap<String, String>,
}

/// A table that a training job fills from a file of `/opt/ml/output/data`.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["file", "layout", "table"]))]
pub struct TrainingTable {
    /// The file's path below `/opt/ml/output/data`.
    #[schemars(length(min = 1))]
    pub file: Field<String>,
    /// The file of its layout, relative to the warehouse.
    #[schemars(length(min = 1))]
    pub layout: Field<String>,
    /// The table as `schema.table`.
    #[schemars(length(min = 1))]
    pub table: Field<String>,
}

/// An endpoint that is asked at a rhythm, with the rows of a query as of the issue time. Its answer is added to a table,
/// once for an issue time. In the query `{issued_at}`, `{period}`, `{from}`, `{to}` and `{as_of}` are replaced by values.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "predictions/NAME.toml", extend("required" = ["endpoint", "input", "layout", "table"]))]
pub struct Prediction {
    /// The endpoint's name.
    #[schemars(length(min = 1))]
    pub endpoint: Field<String>,
    /// A query whose rows are sent as CSV, with their names. Of tables that collects and predictions write it sees the
    /// rows that were known at the issue time.
    #[schemars(length(min = 1))]
    pub input: Field<String>,
    /// The time between two issues; the issue time of a run is the last one before it.
    #[schemars(extend("default" = "1d", "pattern" = "^[0-9]+ ?(s|min|h|d)$"))]
    pub every: Field<String>,
    /// The local time of a day's first issue, such as `07:00`; midnight by default.
    #[schemars(extend("pattern" = "^([01][0-9]|2[0-3]):[0-5][0-9]$"))]
    pub at: Field<String>,
    /// The file of the layout of the answer's rows, relative to the warehouse.
    #[schemars(length(min = 1))]
    pub layout: Field<String>,
    /// Columns of the query that are not sent, and stand beside the rows of an answer that has a row for each that was
    /// sent.
    #[schemars(with = "Vec<String>", inner(length(min = 1)))]
    pub keep: Field<Vec<Spanned<String>>>,
    /// The table as `schema.table`.
    #[schemars(length(min = 1))]
    pub table: Field<String>,
    /// What starts it.
    #[schemars(with = "Vec<Trigger>")]
    pub triggers: Field<Vec<Spanned<Trigger>>>,
    /// Retries and limits of its runs.
    pub run: RunSettings,
}
