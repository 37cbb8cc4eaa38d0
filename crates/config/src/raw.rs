//! The configuration files as TOML types. Editors show the fields' doc comments by way of the JSON schema, and
//! [`super::schema_check`] compares a file with the same schema.
//! The values are not checked for meaning. No type has `Debug`, since variables, which may be secrets, are filled in.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

mod choices;

pub use choices::{Deletes, Mode, OnNoCursor, Via};

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema as schema};
use serde::de::{self, Deserialize, Deserializer};
use toml::Spanned;

mod collect;
mod flow;
mod job;
mod model;
mod serve;
mod stream;

pub use collect::{ApiLogin, Collect, Paging, Request};
pub use flow::{
    Company, Control, Controls, FunctionJob, Holds, Ingest, InputsChanged, Invoice, InvoiceSyntax, Language, Layer,
    Load, Severity, Shape, Source, Statement,
};
pub use job::{Hook, HookEvent, RunSettings, Trigger, Upkeep};
pub use model::{Channel, ChannelFormat, Container, Endpoint, Models, Prediction, Training, TrainingTable};
pub use serve::{Key, Role, Serve};
pub use stream::{BeforeImage, LeftOut, Messages, PartitionBy};

/// A kind of configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    Warehouse,
    Transfer,
    Mart,
    Layer,
    FunctionJob,
    Ingest,
    Collect,
    Load,
    Controls,
    Control,
    Statement,
    Container,
    Endpoint,
    Training,
    Prediction,
}

/// The JSON schema of a kind of file, for editors and for the check.
pub fn json_schema(kind: FileKind) -> serde_json::Value {
    // TOML editors understand draft 7. Without references, the check needs to resolve none.
    let generator = SchemaSettings::draft07().with(|s| s.inline_subschemas = true).into_generator();
    let schema = match kind {
        FileKind::Warehouse => generator.into_root_schema_for::<Warehouse>(),
        FileKind::Transfer => generator.into_root_schema_for::<Transfer>(),
        FileKind::Mart => generator.into_root_schema_for::<Mart>(),
        FileKind::Layer => generator.into_root_schema_for::<Layer>(),
        FileKind::FunctionJob => generator.into_root_schema_for::<FunctionJob>(),
        FileKind::Ingest => generator.into_root_schema_for::<Ingest>(),
        FileKind::Collect => generator.into_root_schema_for::<Collect>(),
        FileKind::Load => generator.into_root_schema_for::<Load>(),
        FileKind::Controls => generator.into_root_schema_for::<Controls>(),
        FileKind::Control => generator.into_root_schema_for::<Control>(),
        FileKind::Statement => generator.into_root_schema_for::<Statement>(),
        FileKind::Container => generator.into_root_schema_for::<Container>(),
        FileKind::Endpoint => generator.into_root_schema_for::<Endpoint>(),
        FileKind::Training => generator.into_root_schema_for::<Training>(),
        FileKind::Prediction => generator.into_root_schema_for::<Prediction>(),
    };
    schema.to_value()
}

/// A warehouse: where its tables are, and the servers it reads and writes.
/// Every string may contain `${VARIABLE}`, which is replaced from the environment; `$$` is a dollar sign.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "wattlake.toml", extend("required" = ["lake"]))]
pub struct Warehouse {
    /// Where the tables are.
    pub lake: Lake,
    /// PostgreSQL servers by name, for transfers to refer to.
    #[schemars(with = "BTreeMap<String, Connection>")]
    pub connections: BTreeMap<Spanned<String>, Spanned<Connection>>,
    /// PostgreSQL's own programs on this machine.
    pub postgres: Postgres,
    /// What `wattlake serve` listens on, and what it allows.
    pub serve: Serve,
    /// Who may connect to the SQL server, by name.
    #[schemars(with = "BTreeMap<String, Role>")]
    pub roles: BTreeMap<Spanned<String>, Spanned<Role>>,
    /// Actions on failures and recoveries of jobs, by name.
    #[schemars(with = "BTreeMap<String, Hook>")]
    pub hooks: BTreeMap<Spanned<String>, Spanned<Hook>>,
    /// What models are made of.
    pub models: Models,
    /// Maintenance of the lake and the ledger.
    pub upkeep: Upkeep,
}

/// Where the lake's tables are.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["url"]))]
pub struct Lake {
    /// A folder, relative to this file, or an object store's URL: `s3://bucket/prefix`, `gs://`, `az://`.
    #[schemars(length(min = 1))]
    pub url: Field<String>,
    /// Options of the object store, passed on unchanged: `aws_region`, `aws_endpoint_url`, `aws_access_key_id`.
    pub options: BTreeMap<String, String>,
}

/// A PostgreSQL server: its `url`, or the fields that make one.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["url"] }, { "required": ["host"] }]))]
pub struct Connection {
    /// `postgresql://user:${PASSWORD}@host:5432/database?sslmode=require`.
    /// A variable is one part of the URL and may have any characters; one at the start may be a whole URL.
    #[schemars(length(min = 1))]
    pub url: Field<String>,
    /// A name, an address, or the folder of a Unix socket.
    #[schemars(length(min = 1))]
    pub host: Field<String>,
    /// 5432 by default.
    pub port: Field<NumberOrText>,
    #[schemars(length(min = 1))]
    pub user: Field<String>,
    /// Best as a variable: `"${PLATFORM_PASSWORD}"`.
    pub password: Field<String>,
    #[schemars(length(min = 1))]
    pub database: Field<String>,
    /// As libpq understands it; `prefer` by default.
    pub sslmode: Field<SslMode>,
    /// The authority's certificate (PEM), relative to this file; the system's own by default.
    #[schemars(length(min = 1))]
    pub sslrootcert: Field<String>,
}

/// PostgreSQL's own programs on this machine.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Postgres {
    /// The folder of `pg_basebackup` and `postgres`, for `via = "basebackup"`; relative to this file.
    #[schemars(length(min = 1))]
    pub bin_dir: Field<String>,
}

/// Whether a connection uses TLS, as libpq's `sslmode`.
#[derive(Clone, Copy, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    /// Without TLS.
    Disable,
    /// Encrypted where the server can.
    Prefer,
    /// Encrypted; the certificate is verified only with `sslrootcert`.
    Require,
    /// Encrypted, the certificate and the host's name verified.
    VerifyFull,
}

/// A transfer: tables of a PostgreSQL server, or of a stream of their changes, into the lake, another server or a stream.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "transfers/NAME.toml", extend("required" = ["mode"]))]
pub struct Transfer {
    /// The connection to read from: a name of `[connections]` in `wattlake.toml`. A transfer that reads a stream has none.
    #[schemars(length(min = 1))]
    pub source: Field<String>,
    /// A stream of changes in the format of AWS DMS: `nats://HOST:4222/NAME`, `tls://HOST:4222/NAME`, or
    /// `kinesis://NAME?region=REGION`, with `&endpoint=URL` for another server than AWS's. With a source, its changes are
    /// published into the stream; without one, the stream is the source.
    #[schemars(length(min = 1))]
    pub stream: Field<String>,
    /// Publishing: the number of shards of a stream that is created.
    #[schemars(range(min = 1, max = 256), extend("default" = 4))]
    pub shards: Field<u32>,
    /// Publishing: how long a stream that is created keeps messages: a whole number and `s`, `min`, `h` or `d`.
    #[schemars(extend("default" = "7d", "pattern" = "^[0-9]+ ?(s|min|h|d)$"))]
    pub retention: Field<String>,
    /// Publishing: on how many servers of NATS a stream that is created keeps messages.
    #[schemars(range(min = 1, max = 5), extend("default" = 1))]
    pub replicas: Field<u32>,
    /// Publishing: what messages contain.
    pub messages: Messages,
    /// Reading a stream: where the first run begins: `beginning`, `new`, or an instant.
    #[schemars(length(min = 1), extend("default" = "beginning"))]
    pub start: Field<String>,
    /// Reading a stream: a function that is called with the messages, as Kinesis calls one of AWS Lambda, in place of
    /// tables that they change: `NAME` or `NAME:QUALIFIER`.
    #[schemars(length(min = 1))]
    pub function: Field<String>,
    /// Calling a function: the most messages of a call.
    #[schemars(range(min = 1, max = 10000), extend("default" = 100))]
    pub batch_size: Field<u32>,
    /// Calling a function: how long a batch waits to become full.
    #[schemars(extend("default" = "0s", "pattern" = "^[0-9]+ ?(s|min)$"))]
    pub batch_window: Field<String>,
    /// Calling a function: divide a batch that fails, so that one message does not hold up the others.
    #[schemars(extend("default" = true))]
    pub bisect: Field<bool>,
    /// Calling a function: how often a batch is tried again before its messages are quarantined. Without an end by
    /// default: the shard waits.
    #[schemars(range(min = 0, max = 10000))]
    pub retries: Field<u32>,
    /// Reading a stream: what a column means that an update leaves out.
    #[schemars(extend("default" = "null"))]
    pub left_out: Field<LeftOut>,
    /// `lake`, or the name of a connection.
    #[schemars(length(min = 1), extend("default" = "lake"))]
    pub target: Field<String>,
    /// What a run reads.
    pub mode: Field<Mode>,
    /// How the source is reached.
    #[schemars(extend("default" = "direct"))]
    pub via: Field<Via>,
    /// The schema in the target; the source schema's own name by default.
    #[schemars(length(min = 1))]
    pub into: Field<String>,
    /// Tables to transfer, as patterns over `schema.table`: `*` any run of characters, `?` one. All by default.
    #[schemars(with = "Vec<String>", inner(length(min = 1)))]
    pub include: Field<Vec<Spanned<String>>>,
    /// Tables to leave out of those, as patterns.
    #[schemars(with = "Vec<String>", inner(length(min = 1)))]
    pub exclude: Field<Vec<Spanned<String>>>,
    /// An AWS DMS table mapping (JSON), relative to this file, in place of `include` and `exclude`.
    #[schemars(length(min = 1))]
    pub mapping: Field<String>,
    /// Parallel COPY streams of one table.
    #[schemars(range(min = 1, max = 32), extend("default" = 2))]
    pub streams: Field<u32>,
    /// Tables at a time, each with its own streams.
    #[schemars(range(min = 1, max = 16), extend("default" = 1))]
    pub parallel_tables: Field<u32>,
    /// How long to wait for a lock on a table; then the table fails, and the others continue: a whole number and `s`,
    /// `min` or `h`.
    #[schemars(extend("default" = "10s", "pattern" = "^[0-9]+ ?(s|min|h|d)$"))]
    pub lock_timeout: Field<String>,
    /// Transfer views and materialized views too.
    #[schemars(extend("default" = false))]
    pub views: Field<bool>,
    /// What to do with a table without a usable cursor in incremental mode.
    #[schemars(extend("default" = "error"))]
    pub on_no_cursor: Field<OnNoCursor>,
    /// How far before the last timestamp each incremental run starts, to read late rows again:
    /// a whole number and `s`, `min`, `h` or `d`.
    #[schemars(extend("default" = "10min", "pattern" = "^[0-9]+ ?(s|min|h|d)$"))]
    pub overlap: Field<String>,
    /// Mode `changes`: what happens to rows that the source deletes.
    #[schemars(extend("default" = "apply"))]
    pub deletes: Field<Deletes>,
    /// Mode `changes`: whether every version of every row is recorded, in a second table NAME__history. `AS OF` reads a
    /// table from it as the source had it at an instant.
    #[schemars(extend("default" = false))]
    pub history: Field<bool>,
    /// Mode `changes`: the name of the replication slot; `wattlake_NAME` by default.
    #[schemars(extend("pattern" = "^[a-z0-9_]{1,63}$"))]
    pub slot: Field<String>,
    /// Mode `changes`: a publication of your own. By default `wattlake_NAME`, which is created, changed and dropped as
    /// it is needed.
    #[schemars(length(min = 1, max = 63))]
    pub publication: Field<String>,
    /// Mode `changes`: how long changes of a table may wait for a commit, where it was committed a moment ago. Half a
    /// second by default.
    #[schemars(extend("pattern" = "^[0-9]+ ?(s|min)$"))]
    pub commit_interval: Field<String>,
    /// Settings of single tables, by `"schema.table"` at the source, in quotes.
    #[schemars(with = "BTreeMap<String, TableSettings>")]
    pub tables: BTreeMap<Spanned<String>, TableSettings>,
    /// What starts it while `wattlake serve` runs.
    #[schemars(with = "Vec<Trigger>")]
    pub triggers: Vec<Spanned<Trigger>>,
    /// Retries and limits of its runs.
    pub run: RunSettings,
}

/// Settings of one table of a transfer.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TableSettings {
    /// The column whose rising values show what is new: an integer, a numeric, a date, a timestamp, a uuid of version 7
    /// or a text that sorts; of several columns, the most significant first; or `xmin`, which reads the whole table
    /// each time.
    pub cursor: Field<TextOrTexts>,
    /// A duration (`"1h"`) for a timestamp cursor, a number of ids (`1000`) for an integer one.
    #[schemars(extend("pattern" = "^[0-9]+ ?(s|min|h|d)$"))]
    pub overlap: Field<NumberOrText>,
    /// The columns that identify a row, where the table declares no key.
    #[schemars(with = "Vec<String>", length(min = 1), inner(length(min = 1)))]
    pub key: Field<Vec<Spanned<String>>>,
    /// What to do with this table where it has no usable cursor.
    pub on_no_cursor: Field<OnNoCursor>,
    /// Columns to transfer in another type than their own.
    #[schemars(with = "BTreeMap<String, Column>")]
    pub columns: BTreeMap<Spanned<String>, Column>,
}

/// The settings of one column.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["as"]))]
pub struct Column {
    /// `text`, `double`, `decimal(PRECISION,SCALE)`, or `bytes` for a text whose bytes are in no known encoding.
    #[serde(rename = "as")]
    #[schemars(extend("pattern" = "^(text|double|bytes|decimal\\( *[0-9]{1,2} *, *[0-9]{1,2} *\\))$"))]
    pub carried_as: Field<String>,
}

/// The lines at the top of a mart's file that begin with `--|`.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "marts/NAME.sql")]
pub struct Mart {
    /// How the query's rows are kept.
    #[schemars(extend("default" = "view"))]
    pub kind: Field<MartKind>,
    /// What a row means, for lists of marts.
    #[schemars(length(min = 1))]
    pub description: Field<String>,
    /// The column by whose values a table is refreshed in part: an integer, a date or a timestamp.
    /// Only rows from the least changed value on are computed again.
    #[schemars(length(min = 1))]
    pub since: Field<String>,
    /// The columns that a table's packed files are sorted by: those that queries select rows by.
    #[schemars(with = "Vec<String>", length(min = 1), inner(length(min = 1)))]
    pub order: Field<Vec<Spanned<String>>>,
    /// What starts a refresh; by default each success of a job that writes what the mart reads.
    #[schemars(with = "Vec<Trigger>")]
    pub triggers: Field<Vec<Spanned<Trigger>>>,
    /// Retries and limits of its runs.
    pub run: RunSettings,
}

/// How a mart's rows are kept.
#[derive(Clone, Copy, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MartKind {
    /// Computed by each query that reads it.
    View,
    /// Computed by a run of its job and kept in the lake.
    Table,
}

/// The value of an optional key with its place in the file. TOML has no null, so its schema is that of the value.
pub struct Field<T>(pub Option<Spanned<T>>);

impl<T> Field<T> {
    /// The value, where the key is in the file.
    pub fn get(&self) -> Option<&T> {
        self.0.as_ref().map(Spanned::get_ref)
    }

    /// The bytes of the file that have the value.
    pub fn span(&self) -> Option<Range<usize>> {
        self.0.as_ref().map(Spanned::span)
    }
}

impl<T> Default for Field<T> {
    fn default() -> Self {
        Field(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::deserialize(deserializer).map(|value| Field(Some(value)))
    }
}

impl<T: JsonSchema> JsonSchema for Field<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> std::borrow::Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A string, or a list of them.
pub struct TextOrTexts(pub Vec<String>);

impl<'de> Deserialize<'de> for TextOrTexts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = TextOrTexts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of strings")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<TextOrTexts, E> {
                Ok(TextOrTexts(vec![text.to_owned()]))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut texts: A) -> Result<TextOrTexts, A::Error> {
                let mut all = Vec::new();
                while let Some(text) = texts.next_element()? {
                    all.push(text);
                }
                Ok(TextOrTexts(all))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for TextOrTexts {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TextOrTexts".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schema!({ "type": ["string", "array"], "minLength": 1, "minItems": 1, "items": { "type": "string", "minLength": 1 } })
    }
}

/// An integer, or a string with a unit or a variable.
pub enum NumberOrText {
    Number(u64),
    Text(String),
}

impl<'de> Deserialize<'de> for NumberOrText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = NumberOrText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a positive integer or a string")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<NumberOrText, E> {
                Ok(NumberOrText::Number(number))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<NumberOrText, E> {
                u64::try_from(number).map(NumberOrText::Number).map_err(E::custom)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<NumberOrText, E> {
                Ok(NumberOrText::Text(text.to_owned()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for NumberOrText {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "NumberOrText".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schema!({ "type": ["integer", "string"], "minimum": 0 })
    }
}
