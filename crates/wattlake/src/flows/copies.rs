//! Base backups in the warehouse's folder: each belongs to a living run, or is removed.
//!
//! A run removes its own copy, also where it is broken off. One that is killed can not: its copy
//! may fill the disk, and the transfer that it belongs to may never run again.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use ledger::{Held, Ledger};
use pgserver::Binaries;

use crate::report;
use crate::warehouse::Warehouse;

const HOLD_PERIOD: Duration = Duration::from_millis(200);

/// The right to the copy of this transfer: nobody else removes it. Waits while a copy that an
/// earlier run left is being removed; no other run has it, since the job's lease is held.
pub async fn hold(warehouse: &Warehouse, transfer: &str) -> Result<Held> {
    loop {
        if let Some(held) = warehouse.ledger.hold(&name(transfer))? {
            return Ok(held);
        }
        tokio::time::sleep(HOLD_PERIOD).await;
    }
}

/// Removes the copies that no living run has, of whatever transfer. Returns how many there were.
/// One that can't be removed is told in the log: it stands in nobody's way.
pub async fn sweep(warehouse: &Warehouse) -> Result<usize> {
    let all = warehouse.backups_folder();
    let Ok(binaries) = warehouse.postgres() else {
        // Without PostgreSQL's programs there were no base backups.
        return Ok(0);
    };
    let ledger = warehouse.ledger.clone();
    let swept = tokio::task::spawn_blocking(move || sweep_all(&ledger, &binaries, &all));
    swept.await.context("remove what killed runs left")?
}

fn sweep_all(ledger: &Ledger, binaries: &Binaries, all: &Path) -> Result<usize> {
    let mut swept = 0;
    for folder in all.read_dir().into_iter().flatten().flatten().map(|entry| entry.path()) {
        match sweep_one(ledger, binaries, &folder) {
            Ok(is_swept) => swept += usize::from(is_swept),
            Err(error) => {
                let error = report::chain(error.as_ref());
                tracing::warn!(folder = %folder.display(), "a base backup that a killed run left: {error}");
            }
        }
    }
    Ok(swept)
}

fn sweep_one(ledger: &Ledger, binaries: &Binaries, folder: &Path) -> Result<bool> {
    let transfer = folder.file_name().unwrap_or_default().to_string_lossy();
    let Some(_held) = ledger.hold(&name(&transfer))? else {
        return Ok(false);
    };
    let is_swept = pgserver::sweep(binaries, folder)?;
    if is_swept {
        tracing::info!(%transfer, "removed the base backup that a killed run left");
    }
    Ok(is_swept)
}

fn name(transfer: &str) -> String {
    format!("basebackup:{transfer}")
}
