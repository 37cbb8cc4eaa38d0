//! `[serve]` and `[roles]` of `wattlake.toml`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use toml::Spanned;

use super::Field;

/// What `wattlake serve` listens on, and what it allows.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Serve {
    /// The address of SQL on PostgreSQL's protocol: an address and a port, or `off`.
    #[schemars(length(min = 1), extend("default" = "127.0.0.1:5433"))]
    pub sql: Field<String>,
    /// The address of health, metrics and the state of jobs by HTTP: an address and a port, or `off`.
    #[schemars(length(min = 1), extend("default" = "127.0.0.1:8433"))]
    pub http: Field<String>,
    /// The address of AWS Lambda's Invoke API: an address and a port, or `off`. It is used only where there are
    /// functions.
    #[schemars(length(min = 1), extend("default" = "127.0.0.1:8434"))]
    pub functions: Field<String>,
    /// The address of SageMaker's APIs, for models and endpoints: an address and a port, or `off`.
    #[schemars(length(min = 1), extend("default" = "127.0.0.1:8435"))]
    pub models: Field<String>,
    /// Who may call functions, models and endpoints, by the id of an access key. Without keys, everybody on this machine
    /// may; with keys, only signed requests or those with a token are answered.
    #[schemars(with = "BTreeMap<String, Key>")]
    pub keys: BTreeMap<Spanned<String>, Spanned<Key>>,
    /// How many events of all functions run at a time; further ones wait, or are answered with 429.
    #[schemars(range(min = 1, max = 10_000), extend("default" = 1000))]
    pub events_max: Field<u32>,
    /// The memory of all functions whose events run at a time, by their `memory_mb`; this machine's by default.
    #[schemars(extend("pattern" = "^[0-9]+ ?(MB|GB)$"))]
    pub functions_memory_max: Field<String>,
    /// The certificate of SQL, functions and models, with its chain (PEM), relative to this file.
    #[schemars(length(min = 1))]
    pub tls_cert: Field<String>,
    /// The certificate's key (PEM), relative to this file.
    #[schemars(length(min = 1))]
    pub tls_key: Field<String>,
    /// Refuse SQL connections without TLS.
    #[schemars(extend("default" = false))]
    pub tls_required: Field<bool>,
    /// Allow addresses that other machines reach without TLS: for private networks.
    #[schemars(extend("default" = false))]
    pub open: Field<bool>,
    /// SQL connections at a time.
    #[schemars(range(min = 1, max = 10000), extend("default" = 100))]
    pub connections_max: Field<u32>,
    /// Memory of all queries together: a number and `MB` or `GB`; half of the machine's memory by default.
    #[schemars(extend("pattern" = "^[0-9]+ ?(MB|GB)$"))]
    pub memory_max: Field<String>,
    /// Memory of one query; half of `memory_max` by default.
    #[schemars(extend("pattern" = "^[0-9]+ ?(MB|GB)$"))]
    pub query_memory_max: Field<String>,
    /// How long a query may take: a whole number and `s`, `min`, `h` or `d`.
    #[schemars(extend("default" = "10min", "pattern" = "^[0-9]+ ?(s|min|h|d)$"))]
    pub query_time_max: Field<String>,
    /// The time zone of sessions and cron patterns that name none: `Europe/Paris`.
    #[schemars(length(min = 1), extend("default" = "UTC"))]
    pub timezone: Field<String>,
    /// How many runs the server starts at a time.
    #[schemars(range(min = 1, max = 100), extend("default" = 4))]
    pub runs_max: Field<u32>,
    /// How long running jobs may continue when the server is stopped.
    #[schemars(extend("default" = "30s", "pattern" = "^[0-9]+ ?(s|min|h|d)$"))]
    pub shutdown_grace: Field<String>,
}

/// An access key: who may call functions, models and endpoints, and which. It needs a secret or a token.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Key {
    /// The secret access key, with which AWS's SDKs sign requests: 40 characters, best as a variable,
    /// `"${DISPATCH_SECRET}"`. `openssl rand -base64 30` makes one.
    #[schemars(length(min = 1))]
    pub secret: Field<String>,
    /// The token of `Authorization: Bearer`, at least 20 characters, best as a variable. It is sent with each request: use
    /// it with TLS.
    #[schemars(length(min = 1))]
    pub token: Field<String>,
    /// What it may invoke, as patterns over `function:NAME` and `endpoint:NAME`: `endpoint:hydro*`, `*`.
    #[schemars(with = "Vec<String>", inner(length(min = 1)))]
    pub invoke: Field<Vec<Spanned<String>>>,
    /// What it may create, change and delete, as patterns over `model:NAME`, `endpoint-config:NAME`, `endpoint:NAME` and
    /// `training-job:NAME`.
    #[schemars(with = "Vec<String>", inner(length(min = 1)))]
    pub change: Field<Vec<Spanned<String>>>,
}

/// A user of the SQL server, and what it may read.
#[derive(Default, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["password"]))]
pub struct Role {
    /// Best as a variable, `"${ANALYST_PASSWORD}"`, or a SCRAM-SHA-256 verifier as PostgreSQL writes it.
    #[schemars(length(min = 1))]
    pub password: Field<String>,
    /// Tables that it may read, as patterns over `schema.table`. All by default.
    #[schemars(with = "Vec<String>", inner(length(min = 1)))]
    pub tables: Field<Vec<Spanned<String>>>,
    /// By `"schema.table"`: the rows that it may read, as a condition in SQL over the table's columns.
    pub filters: BTreeMap<String, String>,
    /// May read `system.*`, and see and cancel the queries of others.
    #[schemars(extend("default" = false))]
    pub system: Field<bool>,
}
