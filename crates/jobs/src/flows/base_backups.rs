//! Base backups in the warehouse's folder: each belongs to a living run, or is removed.
//!
//! A run removes its own backup, also where it is interrupted. One that is killed can't: its backup
//! takes space on the disk, and the transfer that it belongs to may never run again.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use ledger::{Ledger, NamedLease};
use pgserver::Binaries;

use crate::warehouse::Warehouse;

/// Between two tries to take the lock.
const LOCK_INTERVAL: Duration = Duration::from_millis(200);

/// Locks the base backup of a transfer, so that no other process removes it. Waits while the backup
/// of an earlier run is being removed; no other run has the lock, since the job's lease is held.
pub async fn lock(warehouse: &Warehouse, transfer: &str) -> Result<NamedLease> {
    loop {
        if let Some(held) = warehouse.ledger.take_lease(&name(transfer))? {
            return Ok(held);
        }
        tokio::time::sleep(LOCK_INTERVAL).await;
    }
}

/// Removes the base backups of all transfers that belong to no living run. Returns how many there
/// were. One that can't be removed is a warning in the log, since no run depends on it.
pub async fn remove_abandoned(warehouse: &Warehouse) -> Result<usize> {
    let all = warehouse.backups_folder();
    let Ok(binaries) = warehouse.postgres() else {
        // Without PostgreSQL's programs there were no base backups.
        return Ok(0);
    };
    let ledger = warehouse.ledger.clone();
    let removed = tokio::task::spawn_blocking(move || remove_all(&ledger, &binaries, &all));
    removed.await.context("remove the base backups of killed runs")?
}

fn remove_all(ledger: &Ledger, binaries: &Binaries, all: &Path) -> Result<usize> {
    let mut removed = 0;
    for folder in all.read_dir().into_iter().flatten().flatten().map(|entry| entry.path()) {
        match remove_one(ledger, binaries, &folder) {
            Ok(is_removed) => removed += usize::from(is_removed),
            Err(error) => {
                let error = base::chain(error.as_ref());
                tracing::warn!(folder = %folder.display(), "the base backup of a killed run is not removed: {error}");
            }
        }
    }
    Ok(removed)
}

fn remove_one(ledger: &Ledger, binaries: &Binaries, folder: &Path) -> Result<bool> {
    let transfer = folder.file_name().unwrap_or_default().to_string_lossy();
    let Some(_held) = ledger.take_lease(&name(&transfer))? else {
        return Ok(false);
    };
    let is_removed = pgserver::sweep(binaries, folder)?;
    if is_removed {
        tracing::info!(%transfer, "removed the base backup of a killed run");
    }
    Ok(is_removed)
}

fn name(transfer: &str) -> String {
    format!("basebackup:{transfer}")
}
