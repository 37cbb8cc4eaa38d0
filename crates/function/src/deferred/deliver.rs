//! Records that go to a folder: each a file that appears whole, under a name of its own. One that
//! is written twice, since a kill came between the writing and the note of it, is the same file.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use chrono::{TimeDelta, Utc};
use ledger::{Delivery, Ledger};

const BATCH: usize = 16;
const AGAIN_SECONDS_MAX: i64 = 3600;

/// Until none is due.
pub(super) async fn all(ledger: Ledger) {
    let done = tokio::task::spawn_blocking(move || -> ledger::Result<()> {
        loop {
            let due = ledger.deliveries(Utc::now(), BATCH)?;
            if due.is_empty() {
                return Ok(());
            }
            for delivery in &due {
                match write(delivery) {
                    Ok(()) => ledger.delivered(delivery.id)?,
                    Err(error) => {
                        tracing::warn!(%error, folder = delivery.folder, "write a record");
                        let seconds = 1_i64.checked_shl(delivery.attempts.min(16)).unwrap_or(AGAIN_SECONDS_MAX);
                        let later = Utc::now() + TimeDelta::seconds(seconds.min(AGAIN_SECONDS_MAX));
                        ledger.deliver_later(delivery.id, later, &error.to_string())?;
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
