//! The host of a warehouse's functions in this process: their deployed versions, their sandboxes,
//! their logs, and the access to the lake that each one's configuration allows.

mod lake;

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
const CONCURRENCY_MAX: usize = 100;
/// The first user id for functions, where the host is root; the range above it must have no other users.
const USERS_FROM: u32 = 80_000;

/// Runs functions until it is dropped.
pub struct Host {
    pub fleet: Fleet,
    _maintenance: Maintenance,
}

impl Host {
    /// Opens the host. Must be called within a Tokio runtime.
    pub async fn open(warehouse: &Warehouse) -> Result<Host> {
        let registry = registry(warehouse)?;
        let state = folder(warehouse);
        let roots = state.join("roots");
        std::fs::create_dir_all(&roots).with_context(|| format!("create {}", roots.display()))?;
        let (environment, reach) = if needs_lake(&registry)? {
            lake::open(warehouse).await?
        } else {
            (BTreeMap::new(), LakeServices::default())
        };
        let settings = PoolSettings {
            store: registry.store().clone(),
            launcher: Launcher::new(std::env::current_exe().context("find the path of this program")?),
            roots,
            environment,
            idle_max: IDLE_MAX,
            sink: journal(warehouse)?.sink(),
        };
        let rules = FleetSettings {
            concurrency_max: CONCURRENCY_MAX,
            users_from: rustix::process::geteuid().is_root().then_some(USERS_FROM),
            variable: Arc::new(|name| std::env::var(name).ok()),
            lake: reach,
        };
        let fleet = Fleet::new(registry, settings, rules);
        let maintenance = fleet.maintain();
        Ok(Host { fleet, _maintenance: maintenance })
    }
}

impl Host {
    /// The queue of asynchronous events, not running yet.
    pub fn event_queue(&self) -> EventQueue {
        EventQueue::new(self.fleet.clone(), event_queue::QueueSettings::default())
    }
}

/// The registry of the warehouse's deployed functions and layers.
pub fn registry(warehouse: &Warehouse) -> Result<Registry> {
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

/// True where some function's `[lake]` allows access: without one no server is started.
fn needs_lake(registry: &Registry) -> Result<bool> {
    let has_access = |found: &function::registry::FunctionVersion| {
        let rights = &found.settings.lake;
        rights.sql || !rights.objects.is_empty()
    };
    Ok(registry.list()?.iter().any(has_access))
}
