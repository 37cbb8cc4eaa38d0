//! The snapshot way: a base backup of the platform, a private PostgreSQL started on it, the
//! transfer from there, and everything gone again. The platform carries one sequential read.
//!
//! Each stage is an event, as in the clouds' own chain (snapshot, copy, restore, migrate, drop).

use std::path::Path;
use std::sync::Arc;

use pgserver::{Binaries, Options};
use serde_json::{Value, json};

use crate::error::{Error, Kind, Result};
use crate::postgres::Endpoint;
use crate::run::{Report, Request, carry, mark};

/// Told of each stage: the event's name and its fields.
pub type OnEvent<'a> = &'a (dyn Fn(&str, Value) + Send + Sync);

/// Backs up into `folder`, which is swept first: a killed run may have left it.
pub async fn basebackup(
    request: &Request,
    source_url: &str,
    binaries: &Binaries,
    folder: &Path,
    on_event: OnEvent<'_>,
) -> Result<Report> {
    sweep(binaries, folder).await?;
    let marked = mark(request).await?;
    let outcome = from_copy(request, source_url, binaries, folder, on_event, marked).await;
    // Gone whatever came of it; an error of the transfer says more than one of the sweeping.
    let swept = sweep(binaries, folder).await;
    let report = outcome?;
    swept?;
    Ok(report)
}

async fn from_copy(
    request: &Request,
    source_url: &str,
    binaries: &Binaries,
    folder: &Path,
    on_event: OnEvent<'_>,
    marked: crate::run::Marked,
) -> Result<Report> {
    let progress = Arc::clone(&request.progress);
    let (tools, url, into) = (binaries.clone(), source_url.to_owned(), folder.to_owned());
    blocking("take a base backup", move || {
        pgserver::base_backup(&tools, &url, &into, &mut |done, total| {
            let total = total.map_or_else(String::new, |total| format!(" of {} MB", total >> 20));
            progress.note(&format!("base backup: {} MB{total}", done >> 20));
        })
    })
    .await?;
    on_event("snapshot.created", json!({"via": "basebackup", "source": request.source.display()}));
    fail::fail_point!("after-backup");
    request.progress.note("starting PostgreSQL on the copy");
    let (tools, into) = (binaries.clone(), folder.to_owned());
    let server = blocking("start PostgreSQL on the base backup", move || {
        pgserver::prepare_restored(&tools, &into)?;
        pgserver::start(&tools, &into, &Options::default())
    })
    .await?;
    let database = request.source.database();
    on_event("database.available", json!({"via": "basebackup", "database": database}));
    fail::fail_point!("after-restore");
    let data = Endpoint::socket(server.socket_dir(), server.port(), &request.source)?;
    let report = carry(request, marked, &data).await;
    blocking("stop PostgreSQL on the base backup", move || server.stop()).await?;
    report
}

async fn sweep(binaries: &Binaries, folder: &Path) -> Result<()> {
    let (tools, folder) = (binaries.clone(), folder.to_owned());
    blocking("remove the base backup", move || pgserver::sweep(&tools, &folder)).await.map(|_| ())
}

async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> pgserver::Result<T> + Send + 'static,
) -> Result<T> {
    let outcome = tokio::task::spawn_blocking(work).await.map_err(|e| Error::bug(what).because(e))?;
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
