//! A warehouse's configuration: `wattlake.toml`, and a file or a folder for each transfer, mart, layer, function,
//! ingest, load, set of controls and statement. Files are parsed into `raw` types, then checked.
//! A [`Warehouse`] is valid: the names in it exist and numbers are within their bounds. A part whose environment
//! variables are not set is in it as the list of these variables ([`OrUnset`]).
//! This module opens no connection, reads no environment variable by itself and prints nothing.

mod check;
mod collect;
pub mod example;
mod expand;
pub mod flow;
mod init;
pub mod job;
mod known_from;
mod mart;
mod prediction;
mod problem;
mod raw;
mod schema_check;
mod secret;
#[cfg(test)]
mod tests;
mod training;
mod unset;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use base::Problem;
pub use check::placeholders;
pub use collect::{Collect, Since};
pub use flow::{Controls, Function, Ingest, Layer, Load, Statement};
pub use init::{ExampleFlows, init};
pub use job::{Hook, Job, Upkeep};
pub use mart::{Mart, MartKind};
pub use prediction::Prediction;
pub use raw::{FileKind, json_schema};
use schedule::JobRules;
pub use secret::Secret;
pub use training::{ChannelSource, Training, TrainingTable};
use transfer::plan::ChangesSettings;
pub use unset::{OrUnset, UnsetVariables};

/// The name of the lake as a target of transfers; no connection may have it.
pub const LAKE: &str = "lake";

/// The checked configuration of a warehouse. Maps are by name.
#[derive(Debug, Clone)]
pub struct Warehouse {
    /// The warehouse's folder.
    pub root: PathBuf,
    pub lake: OrUnset<Lake>,
    pub connections: BTreeMap<String, Connection>,
    /// The folder of PostgreSQL's own programs, for [`Via::Basebackup`]; searched for where it is not configured.
    pub postgres_bin_dir: OrUnset<Option<PathBuf>>,
    pub transfers: BTreeMap<String, Transfer>,
    /// None depends on itself.
    pub marts: BTreeMap<String, Mart>,
    pub serve: Serve,
    pub roles: BTreeMap<String, Role>,
    /// The path of `wattlake.toml`.
    pub file: PathBuf,
    pub hooks: BTreeMap<String, Hook>,
    pub upkeep: Upkeep,
    pub layers: BTreeMap<String, Layer>,
    pub functions: BTreeMap<String, Function>,
    pub ingests: BTreeMap<String, Ingest>,
    pub collects: BTreeMap<String, Collect>,
    pub loads: BTreeMap<String, Load>,
    /// Sets of controls.
    pub controls: BTreeMap<String, Controls>,
    pub statements: BTreeMap<String, Statement>,
    /// The training jobs, by name.
    pub trainings: BTreeMap<String, Training>,
    /// Endpoints that are asked at a rhythm, by name.
    pub predictions: BTreeMap<String, Prediction>,
    /// The containers of models, by name.
    pub containers: BTreeMap<String, model::ContainerDefinition>,
    /// The declared endpoints, by name.
    pub endpoints: BTreeMap<String, model::EndpointDefinition>,
    /// The folders of artifacts, by the beginnings of their URLs.
    pub model_data: Vec<(String, PathBuf)>,
}

/// The settings of `wattlake serve`. An address that is `None` is not listened on.
#[derive(Debug, Clone)]
pub struct Serve {
    /// SQL on PostgreSQL's protocol.
    pub sql: Option<SocketAddr>,
    /// Health, metrics and the state of jobs by HTTP.
    pub http: Option<SocketAddr>,
    /// AWS Lambda's Invoke API.
    pub functions: Option<SocketAddr>,
    /// SageMaker's APIs.
    pub models: Option<SocketAddr>,
    /// Who may call functions and models, by the ids of access keys. Where there are any, each caller needs one.
    pub keys: BTreeMap<String, OrUnset<gateway::Key>>,
    pub tls: Option<Tls>,
    /// SQL connections at a time.
    pub connections_max: usize,
    /// How many events of all functions run at a time.
    pub events_max: usize,
    /// Memory of the functions whose events run; the machine's where it is `None`.
    pub functions_memory_max: Option<usize>,
    /// Memory of all queries together; half of the machine's where it is `None`.
    pub memory_bytes_max: Option<usize>,
    /// Memory of one query; half of that where it is `None`.
    pub query_memory_bytes_max: Option<usize>,
    pub query_time_max: Duration,
    /// A name of the IANA database.
    pub timezone: String,
    /// Runs at a time that the server starts.
    pub runs_max: usize,
    /// How long runs may continue when the server is stopped.
    pub shutdown_grace: Duration,
    /// Variables of `[serve]` that are not set; the other fields are not to be used then.
    pub unset: Option<UnsetVariables>,
}

/// TLS of SQL, functions and models. Both files existed when the configuration was read.
#[derive(Debug, Clone)]
pub struct Tls {
    /// The certificate with its chain (PEM).
    pub cert: PathBuf,
    /// The certificate's key (PEM).
    pub key: PathBuf,
    /// Refuse SQL connections without TLS.
    pub required: bool,
}

/// A user of the SQL server.
#[derive(Debug, Clone)]
pub struct Role {
    /// A password, or a verifier in PostgreSQL's form.
    pub password: OrUnset<Secret>,
    /// Patterns over `schema.table` of the tables that it may read. Empty: all tables.
    pub tables: Vec<String>,
    /// By `schema.table`, a condition in SQL on the rows that it may read.
    pub filters: BTreeMap<String, String>,
    /// May read `system.*`, and see and cancel the queries of others.
    pub system: bool,
}

/// Where the lake's tables are.
#[derive(Debug, Clone)]
pub struct Lake {
    /// A folder, resolved against the warehouse, or an object store's URL.
    pub url: String,
    /// Options of the object store.
    pub options: BTreeMap<String, Secret>,
}

/// A PostgreSQL server.
#[derive(Debug, Clone)]
pub struct Connection {
    url: OrUnset<Secret>,
}

/// A transfer: `transfers/NAME.toml`.
#[derive(Debug, Clone)]
pub struct Transfer {
    pub name: String,
    pub file: PathBuf,
    /// The name of a connection; of a transfer that reads a stream, the stream's address without a password.
    pub source: String,
    pub target: Target,
    /// The stream that it publishes into, or reads.
    pub stream: Option<Stream>,
    pub mode: Mode,
    pub via: Via,
    /// The schema in the target; the name of the source's schema where it is `None`.
    pub into: Option<String>,
    /// Patterns over `schema.table` of the tables to transfer. Empty: all user tables.
    pub include: Vec<String>,
    /// Patterns of tables to leave out of those.
    pub exclude: Vec<String>,
    /// The file of an AWS DMS table mapping in place of `include` and `exclude`; it existed.
    pub mapping: Option<PathBuf>,
    /// Parallel COPY streams of one table.
    pub streams: usize,
    /// Tables at a time, each with its own streams.
    pub parallel_tables: usize,
    /// How long to wait for a lock on a table.
    pub lock_timeout: Duration,
    /// Transfer views and materialized views too.
    pub views: bool,
    pub on_no_cursor: OnNoCursor,
    /// How far before its position an incremental run starts again, for timestamp cursors.
    pub overlap: Duration,
    /// The settings of mode `changes`.
    pub changes: ChangesSettings,
    /// Settings of single tables, by `schema.table` at the source.
    pub tables: BTreeMap<String, TableSettings>,
    pub rules: JobRules,
}

/// Where a transfer writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Lake,
    /// A PostgreSQL server: the name of a connection.
    Postgres(String),
    /// The transfer's stream.
    Stream,
}

/// The stream of a transfer.
#[derive(Debug, Clone)]
pub struct Stream {
    pub address: stream::Address,
    pub role: StreamRole,
}

/// What a transfer does with its stream.
#[derive(Debug, Clone)]
pub enum StreamRole {
    /// The source's changes become messages.
    Publish { options: stream::StreamOptions, messages: stream::message::MessageSettings },
    /// Messages become changes of the target.
    Consume { start: stream::Start, left_out: transfer::consume::LeftOut },
    /// A function is called with messages.
    Call { start: stream::Start, call: FunctionSource },
}

/// How a function is called with the messages of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionSource {
    pub function: String,
    /// A version's number or an alias; the newest code where it is absent.
    pub qualifier: Option<String>,
    /// The most messages of a call.
    pub batch_size: usize,
    /// How long a batch waits to become full.
    pub batch_window: Duration,
    /// Whether a batch that fails is divided.
    pub bisects: bool,
    /// How often a batch is tried again; without an end where it is absent.
    pub retries_max: Option<u32>,
}

impl Transfer {
    /// The target for users: `lake`, a connection's name, a stream's address, or a function.
    pub fn target_name(&self) -> String {
        match (&self.target, &self.stream) {
            (_, Some(Stream { role: StreamRole::Call { call, .. }, .. })) => format!("function {}", call.function),
            (Target::Stream, Some(stream)) => stream.address.display(),
            (Target::Postgres(connection), _) => connection.clone(),
            _ => LAKE.to_owned(),
        }
    }

    /// Whether the stream is its source.
    pub fn is_consumer(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| !matches!(stream.role, StreamRole::Publish { .. }))
    }
}

/// What a run of a transfer reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// All rows; the target is replaced.
    Initial,
    /// New and changed rows.
    Incremental,
    /// All rows once, then the changes of the write-ahead log.
    Changes,
}

/// How the source is read. `rds` is not implemented, and has no variant: the check refuses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// From the server itself.
    Direct,
    /// From a standby.
    Replica,
    /// From a private copy made by `pg_basebackup`.
    Basebackup,
}

/// What to do with a table without a usable cursor in incremental mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnNoCursor {
    /// Fail the table.
    Error,
    /// Read the table whole each time.
    Reload,
}

/// Settings of one table of a transfer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableSettings {
    /// Cursor columns, the most significant first. Empty: the key, where it is a single integer.
    pub cursor: Vec<String>,
    /// In place of the transfer's.
    pub overlap: Option<Overlap>,
    /// Key columns. Empty: the key that the table declares.
    pub key: Vec<String>,
    /// In place of the transfer's.
    pub on_no_cursor: Option<OnNoCursor>,
    /// Columns to transfer in another type.
    pub columns: BTreeMap<String, ColumnAs>,
}

/// How far before its position an incremental run starts again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// For timestamp cursors.
    Time(Duration),
    /// For integer cursors.
    Ids(u64),
}

/// The type in which a column is transferred, in place of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnAs {
    Text,
    Double,
    /// Precision 1..=38, and a scale of 0 to the precision.
    Decimal(u8, i8),
    /// The bytes of a text, in no known encoding.
    Bytes,
}

impl Warehouse {
    /// Reads and checks the warehouse in the folder `root`, with `env` for `${VARIABLES}`.
    ///
    /// # Errors
    /// All problems of all files, those of `wattlake.toml` first, each file's in the order of its lines.
    pub fn load(root: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Warehouse, Vec<Problem>> {
        check::load(root, env)
    }

    /// The parts with variables that are not set, by kind and name such as `connection platform`.
    pub fn unset(&self) -> Vec<(String, &UnsetVariables)> {
        let named = |kind: &str, name: &String, unset| (format!("{kind} {name}"), unset);
        let mut found: Vec<(String, &UnsetVariables)> = Vec::new();
        found.extend(self.lake.as_ref().err().map(|unset| (LAKE.to_owned(), unset)));
        let connections = self.connections.iter();
        found.extend(connections.filter_map(|(name, one)| Some(named("connection", name, one.url.as_ref().err()?))));
        found.extend(self.postgres_bin_dir.as_ref().err().map(|unset| ("postgres".to_owned(), unset)));
        found.extend(self.serve.unset.as_ref().map(|unset| ("serve".to_owned(), unset)));
        let roles = self.roles.iter();
        found.extend(roles.filter_map(|(name, role)| Some(named("role", name, role.password.as_ref().err()?))));
        let keys = self.serve.keys.iter();
        found.extend(keys.filter_map(|(name, key)| Some(named("key", name, key.as_ref().err()?))));
        let hooks = self.hooks.iter();
        found.extend(hooks.filter_map(|(name, hook)| Some(named("hook", name, hook.action.as_ref().err()?))));
        let ingests = self.ingests.iter();
        found.extend(ingests.filter_map(|(name, one)| Some(named("ingest", name, one.source.as_ref().err()?))));
        let collects = self.collects.iter();
        found.extend(collects.filter_map(|(name, one)| Some(named("collect", name, one.api.as_ref().err()?))));
        found
    }
}

impl Lake {
    /// The options unmasked, for the object store only.
    pub fn options(&self) -> HashMap<String, String> {
        self.options.iter().map(|(key, value)| (key.clone(), value.reveal().to_owned())).collect()
    }
}

impl Connection {
    /// A `postgresql://` URL, percent-encoded, with `sslmode` and `sslrootcert` in its query.
    ///
    /// # Errors
    /// The variables of the connection that are not set.
    pub fn url(&self) -> Result<&Secret, UnsetVariables> {
        self.url.as_ref().map_err(UnsetVariables::clone)
    }
}
