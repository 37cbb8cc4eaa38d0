//! The host of a warehouse's functions: their deployed versions, their sandboxes, their logs, and the access to the lake
//! that each one's configuration allows. While the warehouse's server runs, its host runs the events of all
//! processes ([`invoke`]): so limits hold for the warehouse, and instances stay warm between jobs.

mod client;
mod lake;
mod message;
mod service;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use function::event_queue::{self, EventQueue};
use function::host::{Fleet, FleetSettings, Journal, LakeServices, Maintenance, PoolSettings};
use function::registry::Registry;
use function::store::Store;
use sandbox::Launcher;

use crate::warehouse::{STATE, Warehouse};

/// The size of one log file of a function; the older of two is removed.
const LOG_BYTES: u64 = 16 << 20;
/// How long an instance without events is kept.
const IDLE_MAX: Duration = Duration::from_secs(300);
/// What follows its process number in the name of a host's folder.
const HOST_SUFFIX: &str = "-host";
/// The first user id for functions, where the host is root; the range above it must have no other users.
const USERS_FROM: u32 = 80_000;

pub use client::{FunctionCall, invoke};
pub use service::SharedHost;

/// Runs functions until it is dropped.
pub struct Host {
    pub fleet: Fleet,
    _maintenance: Maintenance,
    /// The folder that shows that the host lives.
    own: std::path::PathBuf,
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.own);
    }
}

impl Host {
    /// Opens the host. Must be called within a Tokio runtime.
    pub async fn open(warehouse: &Warehouse) -> Result<Host> {
        Host::open_with(warehouse, needs_lake(&registry(warehouse)?)?).await
    }

    /// As [`Host::open`], for a host that outlives deployments: functions that are deployed later can read the lake, too.
    pub async fn open_for_server(warehouse: &Warehouse) -> Result<Host> {
        Host::open_with(warehouse, true).await
    }

    async fn open_with(warehouse: &Warehouse, serves_lake: bool) -> Result<Host> {
        let registry = registry(warehouse)?;
        let state = folder(warehouse);
        let roots = state.join("roots");
        // By its name, the next host removes it where this one is killed.
        let own = roots.join(format!("{}{HOST_SUFFIX}", std::process::id()));
        std::fs::create_dir_all(&own).with_context(|| format!("create {}", own.display()))?;
        let (environment, reach) =
            if serves_lake { lake::open(warehouse).await? } else { (BTreeMap::new(), LakeServices::default()) };
        let settings = PoolSettings {
            store: registry.store().clone(),
            launcher: Launcher::new(warehouse.environment.executable.clone()),
            roots,
            environment,
            idle_max: IDLE_MAX,
            sink: journal(warehouse)?.sink(),
        };
        let variables = warehouse.environment.clone();
        let rules = FleetSettings {
            concurrency_max: warehouse.config.serve.events_max,
            memory_mb_max: warehouse
                .config
                .serve
                .functions_memory_max
                .map_or_else(machine_mb, |bytes| (bytes as u64) >> 20),
            users_from: rustix::process::geteuid().is_root().then_some(USERS_FROM),
            variable: Arc::new(move |name| variables.variable(name)),
            lake: reach,
        };
        let fleet = Fleet::new(registry, settings, rules);
        let maintenance = fleet.maintain();
        Ok(Host { fleet, _maintenance: maintenance, own })
    }
}

impl Host {
    /// The queue of asynchronous events, not running yet.
    pub fn event_queue(&self) -> EventQueue {
        EventQueue::new(self.fleet.clone(), event_queue::QueueSettings::default())
    }
}

/// Removes code that is not deployed any more; not yet where a host may run it. Returns the number of bytes.
pub fn remove_unused_code(warehouse: &Warehouse) -> Result<u64> {
    let hosts = std::fs::read_dir(folder(warehouse).join("roots")).into_iter().flatten().flatten();
    let is_alive = |name: std::ffi::OsString| {
        let pid = name.to_str().and_then(|name| name.strip_suffix(HOST_SUFFIX)?.parse::<u32>().ok());
        pid.is_some_and(|pid| Path::new("/proc").join(pid.to_string()).exists())
    };
    let is_served = hosts.map(|entry| entry.file_name()).any(is_alive);
    Ok(registry(warehouse)?.remove_unused(is_served, || model::content_in_use(&warehouse.ledger))?)
}

/// Makes a folder that only its owner may enter: logs, inputs and code of functions are in it.
pub(crate) fn make_private(folder: &Path) -> Result<()> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
    let doing = || format!("create {}", folder.display());
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(doing)?;
    let present = std::fs::metadata(folder).with_context(doing)?;
    if present.mode() & 0o077 != 0 && present.uid() == rustix::process::geteuid().as_raw() {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).with_context(doing)?;
    }
    Ok(())
}

/// This machine's memory.
fn machine_mb() -> u64 {
    let info = rustix::system::sysinfo();
    (info.totalram as u64).saturating_mul(u64::from(info.mem_unit)) >> 20
}

/// The registry of the warehouse's deployed functions and layers.
pub fn registry(warehouse: &Warehouse) -> Result<Registry> {
    make_private(&folder(warehouse))?;
    let store = Store::open(&folder(warehouse).join("store"))?;
    Ok(Registry::new(warehouse.ledger.clone(), store))
}

/// The logs of the warehouse's functions.
pub fn journal(warehouse: &Warehouse) -> Result<Journal> {
    Ok(Journal::open(&folder(warehouse).join("logs"), LOG_BYTES)?)
}

/// The folder of layers that were packed for this warehouse.
pub fn layers_folder(warehouse: &Warehouse) -> std::path::PathBuf {
    folder(warehouse).join("layers")
}

fn folder(warehouse: &Warehouse) -> std::path::PathBuf {
    Path::new(&warehouse.config.root).join(STATE).join("functions")
}

/// The socket on which the server's host takes events of other processes.
fn socket(warehouse: &Warehouse) -> std::path::PathBuf {
    folder(warehouse).join("host.sock")
}

/// True where some function's `[lake]` allows access: without one no server is started.
fn needs_lake(registry: &Registry) -> Result<bool> {
    let has_access = |found: &function::registry::FunctionVersion| {
        let rights = &found.settings.lake;
        rights.sql || !rights.objects.is_empty()
    };
    Ok(registry.list()?.iter().any(has_access))
}
