//! A transfer from a base backup: it takes a base backup of the source, starts a private PostgreSQL on it,
//! reads the rows from there, and removes the backup. The source is read once, sequentially.
//!
//! Each stage is an event, as in the usual chain of cloud providers: snapshot, copy, restore, migrate, drop.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pgserver::{Binaries, Cancellation, Options};
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::postgres::Endpoint;
use crate::run::{MarkedPlan, Request, TransferReport, plan_and_mark, transfer_tables};

/// How long the server may apply the log of a backup, as long as it runs: that takes the longer the more was written.
const RECOVERY_TIME_MAX: Duration = Duration::from_secs(24 * 3600);

/// Is called after each stage with the event's name and its fields.
pub type OnEvent<'a> = &'a (dyn Fn(&str, Value) + Send + Sync);

/// Runs a transfer from a base backup of the source in `folder`. What a killed run has left there is removed first.
///
/// When the future is dropped before its end, the drop ends the backup's programs and the private
/// server and removes the folder, and returns after that.
///
/// # Errors
/// Where the backup or its server fails, or no table can be transferred; the error of a single table is in its report.
pub async fn run(
    request: &Request,
    source_url: &str,
    binaries: &Binaries,
    folder: &Path,
    on_event: OnEvent<'_>,
) -> Result<TransferReport> {
    let copy = BackupCopy::at(folder, binaries);
    copy.sweep().await?;
    let mut marked = plan_and_mark(request).await?;
    marked.refuse_unlogged();
    let outcome = from_copy(request, source_url, &copy, on_event, marked).await;
    // The copy is removed also after an error. The transfer's error is returned rather than the removal's.
    let removed = copy.remove().await;
    let report = outcome?;
    removed?;
    Ok(report)
}

async fn from_copy(
    request: &Request,
    source_url: &str,
    copy: &BackupCopy,
    on_event: OnEvent<'_>,
    marked: MarkedPlan,
) -> Result<TransferReport> {
    let (progress, url) = (Arc::clone(&request.progress), source_url.to_owned());
    copy.blocking("take a base backup", move |tools, into, cancellation| {
        pgserver::base_backup_until(cancellation, tools, &url, into, &mut |done, total| {
            let total = total.map_or_else(String::new, |total| format!(" of {} MB", total >> 20));
            progress.note(&format!("base backup: {} MB{total}", done >> 20));
        })
    })
    .await?;
    on_event("snapshot.created", json!({"via": "basebackup", "source": request.source.display()}));
    fail::fail_point!("after-backup");
    request.progress.note("starting PostgreSQL on the copy");
    let server = copy
        .blocking("start PostgreSQL on the base backup", |tools, into, cancellation| {
            pgserver::prepare_restored(tools, into)?;
            let cancellation = cancellation.clone();
            // A crash of the machine removes the copy anyway; with fsync the server would first sync every file of it.
            let options = Options { cancellation, fsync: false, ready_within: RECOVERY_TIME_MAX, ..Options::default() };
            pgserver::start(tools, into, &options)
        })
        .await?;
    let database = request.source.database();
    on_event("database.available", json!({"via": "basebackup", "database": database}));
    fail::fail_point!("after-restore");
    let data = Endpoint::socket(server.socket_dir(), server.port(), &request.source)?;
    let report = transfer_tables(request, marked, &data).await;
    copy.blocking("stop PostgreSQL on the base backup", move |_, _, _| server.stop()).await?;
    report
}

/// The folder of the base backup, with the work that uses it. Dropped before [`BackupCopy::remove`] has ended, as when
/// a run is interrupted, it ends the work and removes the folder.
struct BackupCopy {
    folder: PathBuf,
    binaries: Binaries,
    cancellation: Cancellation,
    /// Each piece of work holds a clone until it ends; nothing is sent. None after the drop.
    work_guard: Option<Sender<()>>,
    ended: Mutex<Receiver<()>>,
    is_removed: bool,
}

impl BackupCopy {
    fn at(folder: &Path, binaries: &Binaries) -> BackupCopy {
        let (work_guard, ended) = mpsc::channel();
        BackupCopy {
            folder: folder.to_owned(),
            binaries: binaries.clone(),
            cancellation: Cancellation::default(),
            work_guard: Some(work_guard),
            ended: Mutex::new(ended),
            is_removed: false,
        }
    }

    async fn sweep(&self) -> Result<()> {
        self.blocking("remove the base backup", |tools, folder, _| pgserver::sweep(tools, folder)).await.map(drop)
    }

    async fn remove(mut self) -> Result<()> {
        let swept = self.sweep().await;
        self.is_removed = true;
        swept
    }

    async fn blocking<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&Binaries, &Path, &Cancellation) -> pgserver::Result<T> + Send + 'static,
    ) -> Result<T> {
        let (tools, folder, cancellation) = (self.binaries.clone(), self.folder.clone(), self.cancellation.clone());
        let work_guard = self.work_guard.clone();
        let outcome = tokio::task::spawn_blocking(move || {
            let done = work(&tools, &folder, &cancellation);
            drop(work_guard);
            done
        });
        let outcome = outcome.await.map_err(|e| Error::bug(what).because(e))?;
        outcome.map_err(|error| error.within(what))
    }
}

impl Drop for BackupCopy {
    /// Blocks its thread: the run's end must not be recorded, and the process must not end, before the copy is removed.
    fn drop(&mut self) {
        if self.is_removed {
            return;
        }
        self.cancellation.cancel();
        self.work_guard = None;
        // Returns with an error when no piece of work holds a sender any more.
        let _ = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner).recv();
        if let Err(error) = pgserver::sweep(&self.binaries, &self.folder) {
            tracing::warn!(%error, folder = %self.folder.display(), "the base backup could not be removed; the next \
                run removes it");
        }
    }
}
