//! A warehouse's configuration, raw then checked: `wattlake.toml`, and a file or a folder for each transfer, mart,
//! layer, function, ingest, load and control.
//! Whoever holds a [`Warehouse`] needs no further doubt about its form: names lead somewhere, numbers are in
//! bounds, variables are filled in. It never opens a connection, reads no environment by itself and prints nothing.

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

/// The word for the lake among a transfer's targets; no connection may take it.
pub const LAKE: &str = "lake";

#[derive(Debug, Clone)]
pub struct Warehouse {
    pub root: PathBuf,
    pub lake: Lake,
    pub connections: BTreeMap<String, Connection>,
    /// PostgreSQL's own programs, for [`Via::Basebackup`].
    pub postgres_bin_dir: Option<PathBuf>,
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
    pub password: Secret,
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
    url: Secret,
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
    pub cursor: Option<String>,
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
}

impl Warehouse {
    /// Reads and checks the warehouse in the folder `root`, with `env` for `${VARIABLES}`.
    ///
    /// # Errors
    /// Everything that is wrong in all the files, `wattlake.toml` first, each in the order of its lines.
    pub fn load(root: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Warehouse, Vec<Problem>> {
        check::load(root, env)
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
    pub fn url(&self) -> &Secret {
        &self.url
    }
}
