//! Upkeep of the tables: packs, checkpoints and vacuum. A vacuum removes files that no version within the
//! retention needs, and files that a crash left behind. It never removes a file of an active run, or a
//! file that this program did not write.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};

use crate::commit::{RETENTION_DAYS, RETENTION_HOURS};
use crate::deletion;
use crate::error::{Context, Error, Result};
use crate::location::Lake;
use crate::pack::{PackOptions, PackSummary};
use crate::table::{AsOf, HistoryEntry, Table};
use crate::table_name::TableName;
use crate::writer::Destination;

/// Whether a run may still write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunLiveness {
    /// It may.
    Alive,
    /// It has ended.
    Dead,
    /// It is not in the ledger: of another warehouse, or of a ledger that was lost. Its files are kept for a day.
    Unknown,
}

type LivenessOf<'a> = &'a (dyn Fn(&str) -> RunLiveness + Sync);

/// Between two removals of old entries of the log, in versions.
const CLEAN_EVERY: u64 = 1_000;

/// How long a commit may take from its files to its entry in the log, at most, whatever the clocks say.
const COMMIT_TIME: TimeDelta = TimeDelta::hours(1);

/// Whether a file of a run may be removed.
fn is_removable(life: RunLiveness, written_at: DateTime<Utc>) -> bool {
    match life {
        RunLiveness::Alive => false,
        RunLiveness::Dead => true,
        RunLiveness::Unknown => written_at < Utc::now() - TimeDelta::days(1),
    }
}

/// What a vacuum did, or would do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VacuumSummary {
    /// The number of files of runs that never committed.
    pub orphans: u64,
    /// The number of files that only versions older than the retention need.
    pub expired: u64,
    /// The size of these files.
    pub bytes: u64,
}

impl Table {
    /// Removes files that are not needed any more, or with `dry_run` only counts them. `life` returns whether a run may
    /// still write; the default of `retention` is [`RETENTION_DAYS`].
    pub async fn vacuum(
        &self,
        retention: Option<TimeDelta>,
        life: LivenessOf<'_>,
        dry_run: bool,
    ) -> Result<VacuumSummary> {
        let context = || format!("vacuum {}", self.name);
        let retention = retention.unwrap_or(TimeDelta::days(RETENTION_DAYS));
        // Half of the time for which the log is kept, so that it still has all that was removed since.
        let own = self.own_retention()?.map(|own| own / 2);
        let oldest = Utc::now() - own.map_or(retention, |own| own.min(retention));
        // Listed before the log is read: a file that is committed in between belongs to an active run, and is kept.
        let store = self.store();
        let objects: Vec<ObjectMeta> = store.list(None).try_collect().await.context(context())?;
        // So is whether their runs are active: one that ends in between has committed what it wrote.
        let lives: HashMap<&str, RunLiveness> =
            objects.iter().filter_map(|object| run_of(&object.location)).map(|run| (run, life(run))).collect();
        let now = Table::load(self.lake.clone(), self.name.clone()).await?;
        let log = LogContents::of(&now, oldest).await?;
        let mut vacuumed = VacuumSummary::default();
        for object in &objects {
            let Some(run) = run_of(&object.location) else { continue };
            if log.active.contains(object.location.as_ref()) {
                continue;
            }
            // A stream runs for months: what it has committed and replaced since is removed as that of other runs.
            let is_known = log.removed.contains_key(object.location.as_ref()) || log.runs.contains_key(run);
            // A commit of a run has all of its files before it.
            let was_left = log.runs.get(run).is_some_and(|last| object.last_modified < *last - COMMIT_TIME);
            let is_uncommitted = !log.removed.contains_key(object.location.as_ref()) && !was_left;
            let life = lives.get(run).copied().unwrap_or(RunLiveness::Alive);
            if is_uncommitted && !is_removable(life, object.last_modified) {
                continue;
            }
            if log.needs_vector(object) || (is_known && !log.is_expired(object, oldest)) {
                continue;
            }
            match is_known {
                true => vacuumed.expired += 1,
                false => vacuumed.orphans += 1,
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

/// The settings of upkeep.
#[derive(Debug, Clone)]
pub struct UpkeepPolicy {
    /// How tables are packed.
    pub pack: PackOptions,
    /// How long removed files are kept for earlier versions.
    pub retention: TimeDelta,
    /// After how many commits a checkpoint is written, so that readers need not read the commits before it.
    pub checkpoint_every: u64,
}

impl Default for UpkeepPolicy {
    fn default() -> Self {
        UpkeepPolicy { pack: PackOptions::default(), retention: TimeDelta::days(RETENTION_DAYS), checkpoint_every: 20 }
    }
}

/// What upkeep did to a table. After a step that failed, the later steps were not done.
#[derive(Debug)]
pub struct TableUpkeepReport {
    /// The table.
    pub name: TableName,
    /// What the pack did.
    pub packed: PackSummary,
    /// Whether a checkpoint was written.
    pub checkpointed: bool,
    /// What the vacuum did.
    pub vacuumed: VacuumSummary,
    /// The error of the step that failed.
    pub error: Option<Error>,
}

/// What upkeep did.
#[derive(Debug, Default)]
pub struct UpkeepReport {
    /// The tables, sorted by name.
    pub tables: Vec<TableUpkeepReport>,
    /// The number of files that were removed from folders without a committed table.
    pub swept: u64,
}

impl Table {
    /// Writes a checkpoint if the last one is at least `every` commits old. Returns whether it did.
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
        if self.version() / CLEAN_EVERY != newest / CLEAN_EVERY {
            self.clean_log().await?;
        }
        Ok(true)
    }

    /// Removes what is older in the log than the table's own retention; the versions since then can be opened. Nothing
    /// of a table without one.
    pub(crate) async fn clean_log(&self) -> Result<()> {
        if self.own_retention()?.is_some() {
            let cleaning = deltalake::checkpoints::cleanup_metadata(&self.delta, None);
            cleaning.await.context(format!("remove old entries of the log of {}", self.name))?;
        }
        Ok(())
    }

    /// For how long versions are kept, where that is shorter than for other tables.
    fn own_retention(&self) -> Result<Option<TimeDelta>> {
        let hours = self.property(RETENTION_HOURS)?.and_then(|hours| hours.parse().ok());
        Ok(hours.map(TimeDelta::hours))
    }

    async fn do_upkeep(
        &self,
        run: &str,
        policy: &UpkeepPolicy,
        life: LivenessOf<'_>,
        report: &mut TableUpkeepReport,
    ) -> Result<()> {
        report.packed = self.pack(run, &policy.pack).await?;
        let table = self.reload().await?;
        report.checkpointed = table.checkpoint(policy.checkpoint_every).await?;
        table.clean_log().await?;
        report.vacuumed = self.vacuum(Some(policy.retention), life, false).await?;
        Ok(())
    }
}

impl Lake {
    /// Packs, checkpoints and vacuums all tables, one after the other, and removes files in folders without a committed
    /// table. An error of a table is in its report and does not stop the others. `on_table` is called after each table.
    pub async fn upkeep(
        &self,
        run: &str,
        policy: &UpkeepPolicy,
        life: LivenessOf<'_>,
        on_table: &(dyn Fn(&TableUpkeepReport) + Sync),
    ) -> Result<UpkeepReport> {
        let mut report = UpkeepReport::default();
        for name in self.tables().await? {
            let mut table = TableUpkeepReport {
                name: name.clone(),
                packed: PackSummary::default(),
                checkpointed: false,
                vacuumed: VacuumSummary::default(),
                error: None,
            };
            let done = match self.table(&name).await {
                Ok(Some(present)) => present.do_upkeep(run, policy, life, &mut table).await,
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            table.error = done.err();
            on_table(&table);
            report.tables.push(table);
        }
        for name in self.uncommitted().await? {
            report.swept += self.sweep_uncommitted(&name, life).await?;
        }
        Ok(report)
    }

    /// The folders of tables that were never committed, into which a run may have written files.
    pub async fn uncommitted(&self) -> Result<Vec<TableName>> {
        let mut names = self.folders().await?;
        let tables: HashSet<TableName> = self.tables().await?.into_iter().collect();
        names.retain(|name| !tables.contains(name));
        Ok(names)
    }

    /// Removes the files of ended runs from the folder of a table that was never committed. Returns their number.
    pub async fn sweep_uncommitted(&self, name: &TableName, life: LivenessOf<'_>) -> Result<u64> {
        let context = || format!("sweep {name}");
        let store = self.table_store(name);
        let objects: Vec<ObjectMeta> = store.list(None).try_collect().await.context(context())?;
        let is_left = |object: &ObjectMeta| {
            run_of(&object.location).is_some_and(|run| is_removable(life(run), object.last_modified))
        };
        let left: Vec<ObjectMeta> = objects.into_iter().filter(is_left).collect();
        // A run that has ended by now may have committed its files since they were listed.
        if self.table(name).await?.is_some() {
            return Ok(0);
        }
        let mut swept = 0;
        for object in left {
            store.delete(&object.location).await.context(context())?;
            swept += 1;
        }
        if let Ok(folder) = self.table_url(name)?.to_file_path() {
            swept += sweep_staging(&folder, life, false).await.context(context())?;
            // This fails where the folder is not empty: other files in it are not this program's.
            let _ = tokio::fs::remove_dir(&folder).await;
        }
        Ok(swept)
    }
}

/// Removes the staging files of ended runs: a local store writes `NAME#1` and renames it, and never lists such a file
/// that was left by a killed process.
async fn sweep_staging(folder: &std::path::Path, life: LivenessOf<'_>, dry_run: bool) -> std::io::Result<u64> {
    let mut swept = 0;
    let mut entries = tokio::fs::read_dir(folder).await?;
    while let Some(entry) = entries.next_entry().await? {
        let name = entry.file_name();
        let Some((file, _)) = name.to_str().and_then(|name| name.rsplit_once('#')) else { continue };
        let written_at = entry.metadata().await?.modified().map_or_else(|_| Utc::now(), DateTime::from);
        if run_of(&Path::from(file)).is_some_and(|run| is_removable(life(run), written_at)) {
            swept += 1;
            if !dry_run {
                tokio::fs::remove_file(entry.path()).await?;
            }
        }
    }
    Ok(swept)
}

/// What the log states about files.
struct LogContents {
    active: HashSet<String>,
    removed: HashMap<String, DateTime<Utc>>,
    /// The runs that have committed, and when they did so last.
    runs: HashMap<String, DateTime<Utc>>,
    /// The deletion vectors of this version and of the first version within the retention; `None` where that version
    /// can't be opened.
    vectors: Option<HashSet<String>>,
}

impl LogContents {
    async fn of(table: &Table, oldest: DateTime<Utc>) -> Result<LogContents> {
        let context = || format!("vacuum {}", table.name);
        let state = table.delta.snapshot().context(context())?;
        let active = state.log_data().iter().map(|file| file.path().into_owned()).collect();
        let log_store = table.delta.log_store();
        let mut removed = HashMap::new();
        let mut tombstones = state.all_tombstones(log_store.as_ref());
        while let Some(tombstone) = tombstones.try_next().await.context(context())? {
            let at = tombstone.deletion_timestamp().and_then(DateTime::from_timestamp_millis);
            let at = at.unwrap_or_else(Utc::now);
            // A file whose rows are hidden is removed and added again; its last removal counts.
            let last = removed.entry(tombstone.path().into_owned()).or_insert(at);
            *last = at.max(*last);
        }
        let history = table.history().await?;
        // The last version before the time, or the first one that the log still has.
        let is_before = |version: &&HistoryEntry| version.at.is_some_and(|at| at <= oldest);
        let first = history.iter().find(is_before).or(history.last()).map(|version| version.version);
        let mut runs = HashMap::new();
        for version in &history {
            // The newest first.
            if let (Some(run), Some(at)) = (&version.run, version.at) {
                runs.entry(run.clone()).or_insert(at);
            }
        }
        let mut vectors = Some(vectors_of(table)?);
        if let Some(first) = first {
            let earlier = match table.at(AsOf::Version(first)).await {
                Ok(earlier) => Some(vectors_of(&earlier)?),
                Err(_) => None,
            };
            vectors = vectors.zip(earlier).map(|(now, earlier)| &now | &earlier);
        }
        Ok(LogContents { active, removed, runs, vectors })
    }

    /// Whether only versions before `oldest` need a file of a committed run.
    fn is_expired(&self, object: &ObjectMeta, oldest: DateTime<Utc>) -> bool {
        let removed_at = self.removed.get(object.location.as_ref()).copied().unwrap_or(object.last_modified);
        removed_at < oldest
    }

    /// Whether a file has a deletion vector of a version since the retention's beginning: the vectors of those versions
    /// are in the first of them, or newer.
    fn needs_vector(&self, object: &ObjectMeta) -> bool {
        let path = object.location.as_ref();
        let is_vector = Destination::run_of(path).is_none();
        is_vector && self.vectors.as_ref().is_none_or(|vectors| vectors.contains(path))
    }
}

/// The files with the deletion vectors of a version.
fn vectors_of(table: &Table) -> Result<HashSet<String>> {
    let state = table.delta.snapshot().context(format!("read the files of {}", table.name))?;
    let files = state.log_data();
    let vectors = files.iter().filter_map(|file| file.deletion_vector_descriptor());
    Ok(vectors.filter_map(|vector| deletion::file_of(&vector)).collect())
}

/// The run that wrote a data file or a deletion vector; `None` for files of other programs.
fn run_of(path: &Path) -> Option<&str> {
    let path = path.as_ref();
    Destination::run_of(path).or_else(|| path.strip_prefix("dv-")?.split_once("/deletion_vector_").map(|(run, _)| run))
}
