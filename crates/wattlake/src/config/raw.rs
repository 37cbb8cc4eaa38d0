//! The files as they are written. The comments of the fields are what editors show, by way of the JSON schema,
//! and the schema is what [`super::shape`] holds a file against: one description for both.
//! Nothing here is checked for sense; no `Debug`, since variables are filled in already.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema as schema};
use serde::de::{self, Deserialize, Deserializer};
use toml::Spanned;

mod flow;
mod job;

pub use flow::{Call, Control, Controls, Ingest, Language, Layer, Load, Severity, Shape, Source, Statement};
pub use job::{Catchup, Hook, Periods, Rules, Told, Trigger, Upkeep};

/// The kinds of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    Warehouse,
    Transfer,
    Mart,
    Layer,
    Call,
    Ingest,
    Load,
    Controls,
    Control,
    Statement,
}

/// The JSON schema of a file, for editors and for the check itself.
pub fn json_schema(which: Which) -> serde_json::Value {
    // Draft 7 is what TOML editors understand; without references, a walk needs no look-ups.
    let generator = SchemaSettings::draft07().with(|s| s.inline_subschemas = true).into_generator();
    let schema = match which {
        Which::Warehouse => generator.into_root_schema_for::<Warehouse>(),
        Which::Transfer => generator.into_root_schema_for::<Transfer>(),
        Which::Mart => generator.into_root_schema_for::<Mart>(),
        Which::Layer => generator.into_root_schema_for::<Layer>(),
        Which::Call => generator.into_root_schema_for::<Call>(),
        Which::Ingest => generator.into_root_schema_for::<Ingest>(),
        Which::Load => generator.into_root_schema_for::<Load>(),
        Which::Controls => generator.into_root_schema_for::<Controls>(),
        Which::Control => generator.into_root_schema_for::<Control>(),
        Which::Statement => generator.into_root_schema_for::<Statement>(),
    };
    schema.to_value()
}

/// A warehouse: where its tables are, and the servers it reads and writes.
/// Every string may hold `${VARIABLE}`, filled in from the environment; `$$` is a dollar sign.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "wattlake.toml", extend("required" = ["lake"]))]
pub struct Warehouse {
    /// Where the tables are.
    pub lake: Lake,
    /// PostgreSQL servers by name, as the transfers call them.
    #[schemars(with = "BTreeMap<String, Connection>")]
    pub connections: BTreeMap<Spanned<String>, Spanned<Connection>>,
    /// PostgreSQL's own programs on this machine.
    pub postgres: Postgres,
    /// What `wattlake serve` listens on, and what it allows.
    pub serve: Serve,
    /// Who may connect to the SQL server, by name.
    #[schemars(with = "BTreeMap<String, Role>")]
    pub roles: BTreeMap<Spanned<String>, Spanned<Role>>,
    /// Who is told of failures and recoveries, by name.
    #[schemars(with = "BTreeMap<String, Hook>")]
    pub hooks: BTreeMap<Spanned<String>, Spanned<Hook>>,
    /// How the lake and the ledger are kept in shape.
    pub upkeep: Upkeep,
}

/// What `wattlake serve` listens on, and what it allows.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Serve {
    /// Where SQL is spoken on PostgreSQL's protocol: an address and a port, or `off`.
    #[schemars(length(min = 1), extend("default" = "127.0.0.1:5433"))]
    pub sql: Given<String>,
    /// Where health, metrics and the state of jobs are shown by HTTP: an address and a port, or `off`.
    #[schemars(length(min = 1), extend("default" = "127.0.0.1:8433"))]
    pub http: Given<String>,
    /// Where functions are invoked by AWS Lambda's Invoke API: an address and a port, or `off`. Only where there are
    /// functions.
    #[schemars(length(min = 1), extend("default" = "127.0.0.1:8434"))]
    pub functions: Given<String>,
    /// The SQL server's certificate with its chain (PEM), relative to this file.
    #[schemars(length(min = 1))]
    pub tls_cert: Given<String>,
    /// The certificate's key (PEM), relative to this file.
    #[schemars(length(min = 1))]
    pub tls_key: Given<String>,
    /// Refuse SQL connections in clear.
    #[schemars(extend("default" = false))]
    pub tls_required: Given<bool>,
    /// Listen beyond this machine although nothing is encrypted: for a network that is private anyway.
    #[schemars(extend("default" = false))]
    pub open: Given<bool>,
    /// SQL connections at a time.
    #[schemars(range(min = 1, max = 10000), extend("default" = 100))]
    pub connections_max: Given<u32>,
    /// What all queries may take up together: a number and `MB` or `GB`; half of the machine's memory by default.
    #[schemars(extend("pattern" = "^[0-9]+ ?(MB|GB)$"))]
    pub memory_max: Given<String>,
    /// What one query may take up; half of `memory_max` by default.
    #[schemars(extend("pattern" = "^[0-9]+ ?(MB|GB)$"))]
    pub query_memory_max: Given<String>,
    /// How long a query may take: a whole number and `s`, `min`, `h` or `d`.
    #[schemars(extend("default" = "10min", "pattern" = "^[0-9]+ ?(s|min|h|d)$"))]
    pub query_time_max: Given<String>,
    /// The time zone of sessions and of cron patterns that set none: `Europe/Paris`.
    #[schemars(length(min = 1), extend("default" = "UTC"))]
    pub timezone: Given<String>,
    /// Runs at a time that the server starts.
    #[schemars(range(min = 1, max = 100), extend("default" = 4))]
    pub runs_max: Given<u32>,
    /// How long runs under way may go on when the server is stopped.
    #[schemars(extend("default" = "30s", "pattern" = "^[0-9]+ ?(s|min|h|d)$"))]
    pub shutdown_grace: Given<String>,
}

/// Who may connect to the SQL server, and what he reads.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["password"]))]
pub struct Role {
    /// Best as a variable, `"${ANALYST_PASSWORD}"`, or a SCRAM-SHA-256 verifier as PostgreSQL writes it.
    #[schemars(length(min = 1))]
    pub password: Given<String>,
    /// Tables that he may read, as patterns over `schema.table`. All by default.
    #[schemars(with = "Vec<String>", inner(length(min = 1)))]
    pub tables: Given<Vec<Spanned<String>>>,
    /// By `"schema.table"`: the rows that he sees, as a condition in SQL over the table's columns.
    pub filters: BTreeMap<String, String>,
    /// May read `system.*`, and see and cancel the queries of others.
    #[schemars(extend("default" = false))]
    pub system: Given<bool>,
}

#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["url"]))]
pub struct Lake {
    /// A folder, relative to this file, or an object store's URL: `s3://bucket/prefix`, `gs://`, `az://`.
    #[schemars(length(min = 1))]
    pub url: Given<String>,
    /// Handed to the object store as they are: `aws_region`, `aws_endpoint_url`, `aws_access_key_id`.
    pub options: BTreeMap<String, String>,
}

/// A PostgreSQL server: its `url`, or the fields that make one.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["url"] }, { "required": ["host"] }]))]
pub struct Connection {
    /// `postgresql://user:${PASSWORD}@host:5432/database?sslmode=require`.
    /// A variable is one part of the URL and may hold any characters; one at the start may hold a whole URL.
    #[schemars(length(min = 1))]
    pub url: Given<String>,
    /// A name, an address, or the folder of a Unix socket.
    #[schemars(length(min = 1))]
    pub host: Given<String>,
    /// 5432 by default.
    pub port: Given<NumberOrText>,
    #[schemars(length(min = 1))]
    pub user: Given<String>,
    /// Best as a variable: `"${PLATFORM_PASSWORD}"`.
    pub password: Given<String>,
    #[schemars(length(min = 1))]
    pub database: Given<String>,
    /// As libpq understands it; `prefer` by default.
    pub sslmode: Given<SslMode>,
    /// The authority's certificate (PEM), relative to this file; the system's own by default.
    #[schemars(length(min = 1))]
    pub sslrootcert: Given<String>,
}

#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Postgres {
    /// The folder of `pg_basebackup` and `postgres`, for `via = "basebackup"`; relative to this file.
    #[schemars(length(min = 1))]
    pub bin_dir: Given<String>,
}

#[derive(Clone, Copy, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    /// In clear.
    Disable,
    /// Encrypted where the server can.
    Prefer,
    /// Encrypted; the certificate is verified only with `sslrootcert`.
    Require,
    /// Encrypted, the certificate and the host's name verified.
    VerifyFull,
}

/// A transfer: tables of a PostgreSQL server into the lake or another server.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "transfers/NAME.toml", extend("required" = ["source", "mode"]))]
pub struct Transfer {
    /// The connection to read from: a name of `[connections]` in `wattlake.toml`.
    #[schemars(length(min = 1))]
    pub source: Given<String>,
    /// `lake`, or the name of a connection.
    #[schemars(length(min = 1), extend("default" = "lake"))]
    pub target: Given<String>,
    /// What a run takes.
    pub mode: Given<Mode>,
    /// How the source is reached.
    #[schemars(extend("default" = "direct"))]
    pub via: Given<Via>,
    /// The schema in the target; the source schema's own name by default.
    #[schemars(length(min = 1))]
    pub into: Given<String>,
    /// Tables to take, as patterns over `schema.table`: `*` any run of characters, `?` one. All by default.
    #[schemars(with = "Vec<String>", inner(length(min = 1)))]
    pub include: Given<Vec<Spanned<String>>>,
    /// Tables to leave out of those, as patterns.
    #[schemars(with = "Vec<String>", inner(length(min = 1)))]
    pub exclude: Given<Vec<Spanned<String>>>,
    /// An AWS DMS table mapping (JSON), relative to this file, in place of `include` and `exclude`.
    #[schemars(length(min = 1))]
    pub mapping: Given<String>,
    /// Parallel COPY streams of a table.
    #[schemars(range(min = 1, max = 32), extend("default" = 2))]
    pub streams: Given<u32>,
    /// Tables carried at the same time; each takes its own streams.
    #[schemars(range(min = 1, max = 16), extend("default" = 1))]
    pub parallel_tables: Given<u32>,
    /// How long a lock on a table is waited for before the table fails and the others go on: a whole number and `s`,
    /// `min` or `h`.
    #[schemars(extend("default" = "10s", "pattern" = "^[0-9]+ ?(s|min|h|d)$"))]
    pub lock_timeout: Given<String>,
    /// Take views and materialized views too.
    #[schemars(extend("default" = false))]
    pub views: Given<bool>,
    /// What becomes of a table without a usable cursor in incremental mode.
    #[schemars(extend("default" = "error"))]
    pub on_no_cursor: Given<OnNoCursor>,
    /// How far behind the last timestamp each incremental run starts again, for rows that came late:
    /// a whole number and `s`, `min`, `h` or `d`.
    #[schemars(extend("default" = "10min", "pattern" = "^[0-9]+ ?(s|min|h|d)$"))]
    pub overlap: Given<String>,
    /// Settings of single tables, by `"schema.table"` at the source, in quotes.
    #[schemars(with = "BTreeMap<String, TableSettings>")]
    pub tables: BTreeMap<Spanned<String>, TableSettings>,
    /// What makes it run by itself, while `wattlake serve` runs.
    #[schemars(with = "Vec<Trigger>")]
    pub triggers: Vec<Spanned<Trigger>>,
    /// How its runs are treated.
    pub run: Rules,
}

#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TableSettings {
    /// The column whose growth shows what is new: an integer, a numeric, a date, a timestamp, a uuid of version 7 or a
    /// text that sorts; several in the order of their weight; or `xmin`, which reads the whole table each time.
    pub cursor: Given<TextOrTexts>,
    /// A duration (`"1h"`) for a timestamp cursor, a number of ids (`1000`) for an integer one.
    #[schemars(extend("pattern" = "^[0-9]+ ?(s|min|h|d)$"))]
    pub overlap: Given<NumberOrText>,
    /// The columns that identify a row, where the table declares no key.
    #[schemars(with = "Vec<String>", length(min = 1), inner(length(min = 1)))]
    pub key: Given<Vec<Spanned<String>>>,
    /// What becomes of this table without a usable cursor.
    pub on_no_cursor: Given<OnNoCursor>,
    /// Columns to carry in another type than their own.
    #[schemars(with = "BTreeMap<String, Column>")]
    pub columns: BTreeMap<Spanned<String>, Column>,
}

#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["as"]))]
pub struct Column {
    /// `text`, `double`, `decimal(PRECISION,SCALE)`, or `bytes` for a text whose bytes are in no known encoding.
    #[serde(rename = "as")]
    #[schemars(extend("pattern" = "^(text|double|bytes|decimal\\( *[0-9]{1,2} *, *[0-9]{1,2} *\\))$"))]
    pub carried_as: Given<String>,
}

/// What stands in the lines at the top of a mart's file that begin with `--|`.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "marts/NAME.sql")]
pub struct Mart {
    /// How the query's answer is kept.
    #[schemars(extend("default" = "view"))]
    pub kind: Given<MartKind>,
    /// What a row of it is, for those who look for it.
    #[schemars(length(min = 1))]
    pub description: Given<String>,
    /// The column by whose values a table is refreshed in part: an integer, a date or a timestamp.
    /// Only what lies at and after the least value that changed is computed again.
    #[schemars(length(min = 1))]
    pub since: Given<String>,
    /// The columns that a table's packed files are sorted by: those that queries pick rows by.
    #[schemars(with = "Vec<String>", length(min = 1), inner(length(min = 1)))]
    pub order: Given<Vec<Spanned<String>>>,
    /// What makes a table refresh itself; by default each success of a job that fills what it reads.
    #[schemars(with = "Vec<Trigger>")]
    pub triggers: Given<Vec<Spanned<Trigger>>>,
    /// How its runs are treated.
    pub run: Rules,
}

#[derive(Clone, Copy, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MartKind {
    /// Computed by each query that names it.
    View,
    /// Computed by a run of its job and kept in the lake.
    Table,
}

#[derive(Clone, Copy, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The tables as they are; the target is replaced in one commit.
    Initial,
    /// Only what is new by each table's cursor; rows deleted at the source stay.
    Incremental,
    /// From the write-ahead log, seconds behind. Not built yet.
    #[schemars(extend("x-not-built" = true))]
    Changes,
}

#[derive(Clone, Copy, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// The server itself.
    Direct,
    /// A standby of it, which the connection names.
    Replica,
    /// A private copy taken with `pg_basebackup`, gone when the run ends.
    Basebackup,
    /// A restored snapshot of Amazon RDS. Not built yet.
    #[schemars(extend("x-not-built" = true))]
    Rds,
}

#[derive(Clone, Copy, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnNoCursor {
    /// The table fails, the others go on.
    Error,
    /// The table is read whole each time.
    Reload,
}

/// A value with its place in the file, or nothing. TOML has no null, so its schema has none either.
pub struct Given<T>(pub Option<Spanned<T>>);

impl<T> Given<T> {
    pub fn get(&self) -> Option<&T> {
        self.0.as_ref().map(Spanned::get_ref)
    }

    pub fn span(&self) -> Option<Range<usize>> {
        self.0.as_ref().map(Spanned::span)
    }
}

impl<T> Default for Given<T> {
    fn default() -> Self {
        Given(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Given<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::deserialize(deserializer).map(|value| Given(Some(value)))
    }
}

impl<T: JsonSchema> JsonSchema for Given<T> {
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

/// An integer, or a string for what needs a unit or a variable.
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
