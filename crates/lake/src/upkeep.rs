//! Takes away what no version within the retention needs, and what a crash left behind.
//! Never takes a file of a living run, and never one that it did not name itself.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};

use crate::commit::RETENTION_DAYS;
use crate::error::{Context, Error, Result};
use crate::location::{Lake, TableName};
use crate::pack::{Pack, Packed};
use crate::table::Table;
use crate::writer::Destination;

/// Whether a run may still write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    Alive,
    Dead,
    /// Another warehouse's, or one whose ledger is gone: its files are left alone for a day.
    Unknown,
}

type LifeOf<'a> = &'a (dyn Fn(&str) -> Life + Sync);

fn may_go(life: Life, written_at: DateTime<Utc>) -> bool {
    match life {
        Life::Alive => false,
        Life::Dead => true,
        Life::Unknown => written_at < Utc::now() - TimeDelta::days(1),
    }
}

/// What a vacuum did, or would do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Vacuumed {
    /// Files of runs that never committed.
    pub orphans: u64,
    /// Files that only versions older than the retention read.
    pub expired: u64,
    pub bytes: u64,
}

impl Table {
    /// `life` says whether a run still writes. `retention` defaults to 30 days.
    pub async fn vacuum(&self, retention: Option<TimeDelta>, life: LifeOf<'_>, dry_run: bool) -> Result<Vacuumed> {
        let context = || format!("vacuum {}", self.name);
        let oldest = Utc::now() - retention.unwrap_or(TimeDelta::days(RETENTION_DAYS));
        // The order counts: a file listed here and committed after it is of a living run.
        let store = self.store();
        let objects: Vec<ObjectMeta> = store.list(None).try_collect().await.context(context())?;
        let now = Table::load(self.lake.clone(), self.name.clone()).await?;
        let known = Known::of(&now).await?;
        let mut vacuumed = Vacuumed::default();
        for object in objects {
            let Some(run) = run_of(&object.location) else { continue };
            if known.active.contains(object.location.as_ref()) || !may_go(life(run), object.last_modified) {
                continue;
            }
            if !known.runs.contains(run) {
                vacuumed.orphans += 1;
            } else if known.is_expired(&object, oldest) {
                vacuumed.expired += 1;
            } else {
                continue;
            }
            vacuumed.bytes += object.size;
            if !dry_run {
                store.delete(&object.location).await.context(context())?;
            }
        }
        if let Ok(folder) = self.lake.table_url(&self.name)?.to_file_path() {
            vacuumed.orphans += sweep_staging(&folder, life, dry_run).await.context(context())?;
        }
        Ok(vacuumed)
    }
}

/// How the lake is kept in shape.
#[derive(Debug, Clone)]
pub struct Policy {
    pub pack: Pack,
    pub retention: TimeDelta,
    /// A checkpoint spares readers the commits before it; one every so many of them.
    pub checkpoint_every: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Policy { pack: Pack::default(), retention: TimeDelta::days(RETENTION_DAYS), checkpoint_every: 20 }
    }
}

/// What upkeep did to a table. A step that failed leaves the others to the next table.
#[derive(Debug)]
pub struct TableReport {
    pub name: TableName,
    pub packed: Packed,
    pub checkpointed: bool,
    pub vacuumed: Vacuumed,
    pub error: Option<Error>,
}

#[derive(Debug, Default)]
pub struct Report {
    pub tables: Vec<TableReport>,
    /// Files of runs that never made a table of theirs.
    pub swept: u64,
}

impl Table {
    /// Writes a checkpoint if the newest is `every` commits behind. Returns whether it did.
    pub async fn checkpoint(&self, every: u64) -> Result<bool> {
        let context = || format!("checkpoint {}", self.name);
        let newest = match self.store().get(&Path::from("_delta_log/_last_checkpoint")).await {
            Ok(object) => {
                let hint: serde_json::Value =
                    serde_json::from_slice(&object.bytes().await.context(context())?).context(context())?;
                hint.get("version").and_then(serde_json::Value::as_u64).unwrap_or_default()
            }
            Err(object_store::Error::NotFound { .. }) => 0,
            Err(error) => return Err(error).context(context()),
        };
        if self.version().saturating_sub(newest) < every.max(1) {
            return Ok(false);
        }
        deltalake::checkpoints::create_checkpoint(&self.delta, None).await.context(context())?;
        Ok(true)
    }

    async fn keep(&self, run: &str, policy: &Policy, life: LifeOf<'_>, report: &mut TableReport) -> Result<()> {
        report.packed = self.pack(run, &policy.pack).await?;
        report.checkpointed = self.reload().await?.checkpoint(policy.checkpoint_every).await?;
        report.vacuumed = self.vacuum(Some(policy.retention), life, false).await?;
        Ok(())
    }
}

impl Lake {
    /// Packs, checkpoints and vacuums every table, one after the other, and sweeps what runs left
    /// that never committed. A table's error stands in its report and stops no other table.
    pub async fn upkeep(
        &self,
        run: &str,
        policy: &Policy,
        life: LifeOf<'_>,
        on_table: &(dyn Fn(&TableReport) + Sync),
    ) -> Result<Report> {
        let mut report = Report::default();
        for name in self.tables().await? {
            let mut table = TableReport {
                name: name.clone(),
                packed: Packed::default(),
                checkpointed: false,
                vacuumed: Vacuumed::default(),
                error: None,
            };
            let kept = match self.table(&name).await {
                Ok(Some(present)) => present.keep(run, policy, life, &mut table).await,
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            table.error = kept.err();
            on_table(&table);
            report.tables.push(table);
        }
        for name in self.unfinished().await? {
            report.swept += self.sweep_unfinished(&name, life).await?;
        }
        Ok(report)
    }

    /// Folders into which a run wrote files and never committed: no table yet.
    pub async fn unfinished(&self) -> Result<Vec<TableName>> {
        let mut names = self.folders().await?;
        let tables: HashSet<TableName> = self.tables().await?.into_iter().collect();
        names.retain(|name| !tables.contains(name));
        Ok(names)
    }

    /// Removes what dead runs left in such a folder. Returns the number of files.
    pub async fn sweep_unfinished(&self, name: &TableName, life: LifeOf<'_>) -> Result<u64> {
        let context = || format!("sweep {name}");
        let store = self.table_store(name);
        let objects: Vec<ObjectMeta> = store.list(None).try_collect().await.context(context())?;
        let mut swept = 0;
        for object in objects {
            if run_of(&object.location).is_some_and(|run| may_go(life(run), object.last_modified)) {
                store.delete(&object.location).await.context(context())?;
                swept += 1;
            }
        }
        if let Ok(folder) = self.table_url(name)?.to_file_path() {
            swept += sweep_staging(&folder, life, false).await.context(context())?;
            // Only an empty folder goes: what else lies in it is not ours.
            let _ = tokio::fs::remove_dir(&folder).await;
        }
        Ok(swept)
    }
}

/// A local store writes `NAME#1` and renames it; a kill leaves it, and the store never lists it.
async fn sweep_staging(folder: &std::path::Path, life: LifeOf<'_>, dry_run: bool) -> std::io::Result<u64> {
    let mut swept = 0;
    let mut entries = tokio::fs::read_dir(folder).await?;
    while let Some(entry) = entries.next_entry().await? {
        let name = entry.file_name();
        let Some((file, _)) = name.to_str().and_then(|name| name.rsplit_once('#')) else { continue };
        let written_at = entry.metadata().await?.modified().map_or_else(|_| Utc::now(), DateTime::from);
        if run_of(&Path::from(file)).is_some_and(|run| may_go(life(run), written_at)) {
            swept += 1;
            if !dry_run {
                tokio::fs::remove_file(entry.path()).await?;
            }
        }
    }
    Ok(swept)
}

/// What the log says of files.
struct Known {
    active: HashSet<String>,
    removed: HashMap<String, DateTime<Utc>>,
    runs: HashSet<String>,
}

impl Known {
    async fn of(table: &Table) -> Result<Known> {
        let context = || format!("vacuum {}", table.name);
        let state = table.delta.snapshot().context(context())?;
        let active = state.log_data().iter().map(|file| file.path().into_owned()).collect();
        let log_store = table.delta.log_store();
        let mut removed = HashMap::new();
        let mut tombstones = state.all_tombstones(log_store.as_ref());
        while let Some(tombstone) = tombstones.try_next().await.context(context())? {
            let at = tombstone.deletion_timestamp().and_then(DateTime::from_timestamp_millis);
            removed.insert(tombstone.path().into_owned(), at.unwrap_or_else(Utc::now));
        }
        let runs = table.history().await?.into_iter().filter_map(|version| version.run).collect();
        Ok(Known { active, removed, runs })
    }

    /// A vector of a committed run stays: it is small, and a version in between may read it.
    fn is_expired(&self, object: &ObjectMeta, oldest: DateTime<Utc>) -> bool {
        let is_data = Destination::run_of(object.location.as_ref()).is_some();
        let gone_at = self.removed.get(object.location.as_ref()).copied().unwrap_or(object.last_modified);
        is_data && gone_at < oldest
    }
}

/// The run that wrote a data file or a deletion vector; `None` for all that others wrote.
fn run_of(path: &Path) -> Option<&str> {
    let path = path.as_ref();
    Destination::run_of(path).or_else(|| path.strip_prefix("dv-")?.split_once("/deletion_vector_").map(|(run, _)| run))
}
