//! A warehouse's configuration, raw then checked: `wattlake.toml`, and a file or a folder for each transfer, mart,
//! layer, function, ingest, load and control.
//! Whoever holds a [`Warehouse`] needs no further doubt about its form: names lead somewhere, numbers are in
//! bounds. A part whose variables are not set is there too, as what it lacks ([`Filled`]). It never opens a connection, reads no environment by itself and prints nothing.

mod check;
mod expand;
pub mod flow;
mod init;
pub mod job;
mod mart;
mod nearest;
mod problem;
mod raw;
mod secret;
mod shape;
#[cfg(test)]
mod tests;
mod unset;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use check::holes;
pub use flow::{Controls, Function, Ingest, Layer, Load, Statement};
pub use init::init;
pub use job::{Hook, Job, Rules, Upkeep};
pub use mart::{Mart, MartKind};
pub use problem::Problem;
pub use raw::{Which, json_schema};
pub use secret::Secret;
pub use unset::{Filled, Unset};

/// The word for the lake among a transfer's targets; no connection may take it.
pub const LAKE: &str = "lake";

#[derive(Debug, Clone)]
pub struct Warehouse {
    pub root: PathBuf,
    pub lake: Filled<Lake>,
    pub connections: BTreeMap<String, Connection>,
    /// PostgreSQL's own programs, for [`Via::Basebackup`].
    pub postgres_bin_dir: Filled<Option<PathBuf>>,
    pub transfers: BTreeMap<String, Transfer>,
    /// By name; none stands on itself.
    pub marts: BTreeMap<String, Mart>,
    pub serve: Serve,
    pub roles: BTreeMap<String, Role>,
    /// `wattlake.toml`
    pub file: PathBuf,
    pub hooks: BTreeMap<String, Hook>,
    pub upkeep: Upkeep,
    pub layers: BTreeMap<String, Layer>,
    pub functions: BTreeMap<String, Function>,
    pub ingests: BTreeMap<String, Ingest>,
    pub loads: BTreeMap<String, Load>,
    /// Sets of them.
    pub controls: BTreeMap<String, Controls>,
    pub statements: BTreeMap<String, Statement>,
}

#[derive(Debug, Clone)]
pub struct Serve {
    /// `None`: not at all. So for all addresses.
    pub sql: Option<SocketAddr>,
    pub http: Option<SocketAddr>,
    pub functions: Option<SocketAddr>,
    pub tls: Option<Tls>,
    pub connections_max: usize,
    pub memory_bytes_max: Option<usize>,
    pub query_memory_bytes_max: Option<usize>,
    pub query_time_max: Duration,
    /// One of the IANA database.
    pub timezone: String,
    pub runs_max: usize,
    pub shutdown_grace: Duration,
    /// Variables that the server lacks; its other fields are not what is written then.
    pub unset: Option<Unset>,
}

#[derive(Debug, Clone)]
pub struct Tls {
    /// Both files were there.
    pub cert: PathBuf,
    pub key: PathBuf,
    pub required: bool,
}

#[derive(Debug, Clone)]
pub struct Role {
    /// A password, or a verifier in PostgreSQL's form.
    pub password: Filled<Secret>,
    /// Over `schema.table`; every table where it is empty.
    pub tables: Vec<String>,
    /// By `schema.table`, conditions in SQL.
    pub filters: BTreeMap<String, String>,
    pub system: bool,
}

#[derive(Debug, Clone)]
pub struct Lake {
    /// A folder, resolved against the warehouse, or an object store's URL.
    pub url: String,
    pub options: BTreeMap<String, Secret>,
}

#[derive(Debug, Clone)]
pub struct Connection {
    url: Filled<Secret>,
}

#[derive(Debug, Clone)]
pub struct Transfer {
    pub name: String,
    pub file: PathBuf,
    /// One of [`Warehouse::connections`].
    pub source: String,
    pub target: Target,
    pub mode: Mode,
    pub via: Via,
    /// The schema in the target; the source schema's own name without it.
    pub into: Option<String>,
    /// Over `schema.table`; every user table where it is empty.
    pub include: Vec<String>,
    pub exclude: Vec<String>,
    /// An AWS DMS table mapping in place of `include` and `exclude`; the file was there.
    pub mapping: Option<PathBuf>,
    pub streams: usize,
    pub parallel_tables: usize,
    pub lock_timeout: Duration,
    pub views: bool,
    pub on_no_cursor: OnNoCursor,
    /// Of timestamp cursors.
    pub overlap: Duration,
    /// By `schema.table`.
    pub tables: BTreeMap<String, TableSettings>,
    pub rules: Rules,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Lake,
    /// One of [`Warehouse::connections`].
    Postgres(String),
}

/// CHANGES is refused until it is built, and so has no word here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Initial,
    Incremental,
}

/// RDS snapshots are refused until they are built, and so have no word here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    Direct,
    Replica,
    Basebackup,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnNoCursor {
    Error,
    Reload,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableSettings {
    /// In the order of their weight; empty: the key, where it is a single integer.
    pub cursor: Vec<String>,
    pub overlap: Option<Overlap>,
    /// Empty: the one that the table declares.
    pub key: Vec<String>,
    pub on_no_cursor: Option<OnNoCursor>,
    pub columns: BTreeMap<String, ColumnAs>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    Time(Duration),
    Ids(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnAs {
    Text,
    Double,
    /// Precision 1..=38, and a scale of 0 to the precision.
    Decimal(u8, i8),
    Bytes,
}

impl Warehouse {
    /// Reads and checks the warehouse in the folder `root`, with `env` for `${VARIABLES}`.
    ///
    /// # Errors
    /// Everything that is wrong in all the files, `wattlake.toml` first, each in the order of its lines.
    pub fn load(root: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Warehouse, Vec<Problem>> {
        check::load(root, env)
    }

    /// The parts that lack variables, by what they are: `connection platform`.
    pub fn unset(&self) -> Vec<(String, &Unset)> {
        let named = |kind: &str, name: &String, unset| (format!("{kind} {name}"), unset);
        let mut found: Vec<(String, &Unset)> = Vec::new();
        found.extend(self.lake.as_ref().err().map(|unset| (LAKE.to_owned(), unset)));
        let connections = self.connections.iter();
        found.extend(connections.filter_map(|(name, one)| Some(named("connection", name, one.url.as_ref().err()?))));
        found.extend(self.postgres_bin_dir.as_ref().err().map(|unset| ("postgres".to_owned(), unset)));
        found.extend(self.serve.unset.as_ref().map(|unset| ("serve".to_owned(), unset)));
        let roles = self.roles.iter();
        found.extend(roles.filter_map(|(name, role)| Some(named("role", name, role.password.as_ref().err()?))));
        let hooks = self.hooks.iter();
        found.extend(hooks.filter_map(|(name, hook)| Some(named("hook", name, hook.act.as_ref().err()?))));
        let ingests = self.ingests.iter();
        found.extend(ingests.filter_map(|(name, one)| Some(named("ingest", name, one.source.as_ref().err()?))));
        found
    }
}

impl Lake {
    /// In clear, to hand to the object store and to nobody else.
    pub fn options(&self) -> HashMap<String, String> {
        self.options.iter().map(|(key, value)| (key.clone(), value.reveal().to_owned())).collect()
    }
}

impl Connection {
    /// A `postgresql://` URL, percent-encoded, with `sslmode` and `sslrootcert` in its query.
    ///
    /// # Errors
    /// The variables that it lacks.
    pub fn url(&self) -> Result<&Secret, Unset> {
        self.url.as_ref().map_err(Unset::clone)
    }
}
