//! The warehouse's functions, ready to run in this process: what is deployed, their sandboxes,
//! their logs, and the lake as far as each may reach it.

mod lake;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use function::deferred::{self, Deferred};
use function::host::{Fleet, Journal, Lake, Rules, Settings, Tending};
use function::registry::Registry;
use function::sandbox::Launcher;
use function::store::Store;

use crate::warehouse::{STATE, Warehouse};

/// Of what a function prints; the older file goes.
const LOG_BYTES: u64 = 16 << 20;
const IDLE_MAX: Duration = Duration::from_secs(300);
const CONCURRENCY_MAX: usize = 100;
/// Users of functions, where the host is root: the first of a range that nobody else has.
const USERS_FROM: u32 = 80_000;

pub struct Host {
    pub fleet: Fleet,
    _tending: Tending,
}

impl Host {
    /// Within the runtime.
    pub async fn open(warehouse: &Warehouse) -> Result<Host> {
        let registry = registry(warehouse)?;
        let state = folder(warehouse);
        let roots = state.join("roots");
        std::fs::create_dir_all(&roots).with_context(|| format!("make {}", roots.display()))?;
        let (environment, reach) =
            if needs_lake(&registry)? { lake::open(warehouse).await? } else { (BTreeMap::new(), Lake::default()) };
        let settings = Settings {
            store: registry.store().clone(),
            launcher: Launcher::new(std::env::current_exe().context("find this program's own file")?),
            roots,
            environment,
            idle_max: IDLE_MAX,
            sink: journal(warehouse)?.sink(),
        };
        let rules = Rules {
            concurrency_max: CONCURRENCY_MAX,
            users_from: rustix::process::geteuid().is_root().then_some(USERS_FROM),
            variable: Arc::new(|name| std::env::var(name).ok()),
            lake: reach,
        };
        let fleet = Fleet::new(registry, settings, rules);
        let tending = fleet.tend();
        Ok(Host { fleet, _tending: tending })
    }
}

impl Host {
    /// The queue of asynchronous events.
    pub fn deferred(&self) -> Deferred {
        Deferred::new(self.fleet.clone(), deferred::Rules::default())
    }
}

pub fn registry(warehouse: &Warehouse) -> Result<Registry> {
    let store = Store::open(&folder(warehouse).join("store"))?;
    Ok(Registry::new(warehouse.ledger.clone(), store))
}

pub fn journal(warehouse: &Warehouse) -> Result<Journal> {
    Ok(Journal::open(&folder(warehouse).join("logs"), LOG_BYTES)?)
}

/// Layers that were packed here.
pub fn layers_folder(warehouse: &Warehouse) -> std::path::PathBuf {
    folder(warehouse).join("layers")
}

fn folder(warehouse: &Warehouse) -> std::path::PathBuf {
    Path::new(&warehouse.config.root).join(STATE).join("functions")
}

/// Whether any function may reach it: a server for nobody is not started.
fn needs_lake(registry: &Registry) -> Result<bool> {
    let reaches = |found: &function::registry::Found| {
        let rights = &found.settings.lake;
        rights.sql || !rights.objects.is_empty()
    };
    Ok(registry.list()?.iter().any(reaches))
}
