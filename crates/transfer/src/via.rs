//! The snapshot way: a base backup of the platform, a private PostgreSQL started on it, the
//! transfer from there, and everything gone again. The platform carries one sequential read.
//!
//! Each stage is an event, as in the clouds' own chain (snapshot, copy, restore, migrate, drop).

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};

use pgserver::{Binaries, Cancellation, Options};
use serde_json::{Value, json};

use crate::error::{Error, Kind, Result};
use crate::postgres::Endpoint;
use crate::run::{Marked, Report, Request, carry, mark};

/// Told of each stage: the event's name and its fields.
pub type OnEvent<'a> = &'a (dyn Fn(&str, Value) + Send + Sync);

/// Backs up into `folder`, which is swept first: a killed run may have left it.
///
/// Where the future is dropped before its end, the drop ends the backup's programs and the private
/// server, removes the folder, and returns after that.
pub async fn basebackup(
    request: &Request,
    source_url: &str,
    binaries: &Binaries,
    folder: &Path,
    on_event: OnEvent<'_>,
) -> Result<Report> {
    let copy = Copy::at(folder, binaries);
    copy.sweep().await?;
    let mut marked = mark(request).await?;
    marked.refuse_unlogged();
    let outcome = from_copy(request, source_url, &copy, on_event, marked).await;
    // Gone whatever came of it; an error of the transfer says more than one of the sweeping.
    let removed = copy.remove().await;
    let report = outcome?;
    removed?;
    Ok(report)
}

async fn from_copy(
    request: &Request,
    source_url: &str,
    copy: &Copy,
    on_event: OnEvent<'_>,
    marked: Marked,
) -> Result<Report> {
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
            pgserver::start(tools, into, &Options { cancellation, ..Options::default() })
        })
        .await?;
    let database = request.source.database();
    on_event("database.available", json!({"via": "basebackup", "database": database}));
    fail::fail_point!("after-restore");
    let data = Endpoint::socket(server.socket_dir(), server.port(), &request.source)?;
    let report = carry(request, marked, &data).await;
    copy.blocking("stop PostgreSQL on the base backup", move |_, _, _| server.stop()).await?;
    report
}

/// The copy's folder with what works on it. Dropped before [`Copy::remove`] has ended, as when a run
/// is broken off, it ends the work and removes the folder itself.
struct Copy {
    folder: PathBuf,
    binaries: Binaries,
    cancellation: Cancellation,
    /// Each piece of work has a clone until it has ended; nothing is ever sent. None once dropped.
    at_work: Option<Sender<()>>,
    ended: Mutex<Receiver<()>>,
    is_removed: bool,
}

impl Copy {
    fn at(folder: &Path, binaries: &Binaries) -> Copy {
        let (at_work, ended) = mpsc::channel();
        Copy {
            folder: folder.to_owned(),
            binaries: binaries.clone(),
            cancellation: Cancellation::default(),
            at_work: Some(at_work),
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
        let at_work = self.at_work.clone();
        let outcome = tokio::task::spawn_blocking(move || {
            let done = work(&tools, &folder, &cancellation);
            drop(at_work);
            done
        });
        let outcome = outcome.await.map_err(|e| Error::bug(what).because(e))?;
        outcome.map_err(|error| {
            let kind = match error.kind {
                pgserver::Kind::Retry => Kind::Retry,
                pgserver::Kind::FixInput => Kind::FixInput,
                pgserver::Kind::FixSetup => Kind::FixSetup,
                pgserver::Kind::Bug => Kind::Bug,
            };
            Error::new(kind, what).because(error)
        })
    }
}

impl Drop for Copy {
    /// Blocks its thread: the run must not be noted as ended, nor the process end, before the copy
    /// is gone.
    fn drop(&mut self) {
        if self.is_removed {
            return;
        }
        self.cancellation.cancel();
        self.at_work = None;
        // Fails once no piece of work has its end any more.
        let _ = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner).recv();
        if let Err(error) = pgserver::sweep(&self.binaries, &self.folder) {
            tracing::warn!(%error, folder = %self.folder.display(), "the base backup stays until the next run");
        }
    }
}
