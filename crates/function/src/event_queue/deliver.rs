//! Writes records to folders. Each record is a file with a name of its own, which appears whole. A kill between the
//! writing and its note in the ledger makes the record be written again, to the same file.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use chrono::{TimeDelta, Utc};
use ledger::{Delivery, Ledger};

const BATCH: usize = 16;
const RETRY_SECONDS_MAX: i64 = 3600;

/// Writes all records that are due. A failed one is retried later.
pub(super) async fn all(ledger: Ledger) {
    let done = tokio::task::spawn_blocking(move || -> ledger::Result<()> {
        loop {
            let due = ledger.deliveries(Utc::now(), BATCH)?;
            if due.is_empty() {
                return Ok(());
            }
            for delivery in &due {
                match write(delivery) {
                    Ok(()) => ledger.remove_delivery(delivery.id)?,
                    Err(error) => {
                        tracing::warn!(%error, folder = delivery.folder, "write a record");
                        let seconds = 1_i64.checked_shl(delivery.attempts.min(16)).unwrap_or(RETRY_SECONDS_MAX);
                        let later = Utc::now() + TimeDelta::seconds(seconds.min(RETRY_SECONDS_MAX));
                        ledger.postpone_delivery(delivery.id, later, &error.to_string())?;
                    }
                }
            }
        }
    });
    if let Ok(Err(error)) = done.await {
        tracing::warn!(%error, "deliver records");
    }
}

fn write(delivery: &Delivery) -> io::Result<()> {
    let folder = Path::new(&delivery.folder);
    fs::create_dir_all(folder)?;
    let new = folder.join(format!(".{}.new", delivery.name));
    let mut file = File::create(&new)?;
    file.write_all(&delivery.body)?;
    file.sync_all()?;
    fs::rename(&new, folder.join(&delivery.name))?;
    File::open(folder)?.sync_all()
}
