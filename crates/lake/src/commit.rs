//! Commits: new rows, the rows that they replace, a new schema and the table's new position become
//! visible together in one version, or not at all.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use chrono::Utc;
use deltalake::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake::kernel::transaction::{CommitBuilder, CommitProperties, TableReference};
use deltalake::kernel::{Action, Add, StructType, Transaction};
use deltalake::protocol::{DeltaOperation, SaveMode};
use futures::TryStreamExt;
use serde_json::{Value, json};

use crate::deletion::HiddenRows;
use crate::error::{Context, Error, Kind, Result};
use crate::location::Lake;
use crate::table::{RUN, Table, builder};
use crate::table_name::TableName;
use crate::writer::DataFile;

/// How long upkeep keeps removed files by default, for earlier versions and their readers.
pub const RETENTION_DAYS: i64 = 30;

/// The operation of packs in a table's history.
pub(crate) const PACK: &str = "pack";

/// The property with the columns that packed files are sorted by.
pub(crate) const ORDER: &str = "wattlake.order";

/// The prefix of this program's table properties, which a new schema keeps.
/// The property with the number of hours for which versions are kept, where they are fewer than [`RETENTION_DAYS`].
pub(crate) const RETENTION_HOURS: &str = "wattlake.retention_hours";

const PROPERTY_PREFIX: &str = "wattlake.";

/// How often a commit is tried while packs commit before it.
const ATTEMPTS_MAX: usize = 8;

/// A commit in preparation; nothing of it is visible before [`Commit::write`].
#[must_use]
pub struct Commit {
    lake: Lake,
    name: TableName,
    base: Option<Table>,
    run: String,
    operation: &'static str,
    replace: bool,
    schema: Option<SchemaRef>,
    adds: Vec<DataFile>,
    hidden: HiddenRows,
    packs: Vec<String>,
    order: Option<Vec<String>>,
    positions: BTreeMap<String, i64>,
    properties: BTreeMap<String, String>,
    info: HashMap<String, Value>,
}

impl Commit {
    fn new(lake: &Lake, name: &TableName, base: Option<Table>, run: &str, operation: &'static str) -> Self {
        Commit {
            lake: lake.clone(),
            name: name.clone(),
            base,
            run: run.to_owned(),
            operation,
            replace: false,
            schema: None,
            adds: Vec::new(),
            hidden: HiddenRows::default(),
            packs: Vec::new(),
            order: None,
            positions: BTreeMap::new(),
            properties: BTreeMap::new(),
            info: HashMap::new(),
        }
    }

    /// The commit that creates a table.
    fn create(lake: &Lake, name: &TableName, schema: SchemaRef, run: &str, operation: &'static str) -> Self {
        Commit { schema: Some(schema), ..Commit::new(lake, name, None, run, operation) }
    }

    /// A commit on top of a version of a table.
    fn on(table: &Table, run: &str, operation: &'static str) -> Self {
        Commit::new(&table.lake, &table.name, Some(table.clone()), run, operation)
    }

    /// Removes all rows of the table, which may get another schema.
    fn replace(mut self, schema: SchemaRef) -> Self {
        self.replace = true;
        self.schema = Some(schema);
        self
    }

    /// Changes the schema: it may have more columns, all of them nullable.
    pub fn schema(mut self, schema: SchemaRef) -> Self {
        self.schema = Some(schema);
        self
    }

    /// Adds data files with new rows.
    pub fn files(mut self, files: impl IntoIterator<Item = DataFile>) -> Self {
        self.adds.extend(files);
        self
    }

    /// Hides rows from this version on; their data files do not change.
    pub fn hide(mut self, hidden: HiddenRows) -> Self {
        self.hidden.merge(hidden);
        self
    }

    /// Removes files whose visible rows are in the new files: the table's rows do not change.
    pub(crate) fn packs(mut self, paths: impl IntoIterator<Item = String>) -> Self {
        self.packs.extend(paths);
        self
    }

    /// Sets the columns to sort packed files by, where the commit also sets the schema.
    pub fn order(mut self, columns: &[String]) -> Self {
        self.order = Some(columns.to_vec());
        self
    }

    /// Sets the number that [`Table::position`] returns for `app_id`.
    pub fn position(mut self, app_id: impl Into<String>, position: i64) -> Self {
        self.positions.insert(app_id.into(), position);
        self
    }

    /// Sets the text that [`Table::property`] returns, until a later commit changes it.
    pub fn property(mut self, name: impl Into<String>, text: impl Into<String>) -> Self {
        self.properties.insert(name.into(), text.into());
        self
    }

    /// Keeps versions for so many hours only, from this commit on: the log of a table that is committed every second would
    /// be too long otherwise.
    pub fn retention_hours(self, hours: u32) -> Self {
        self.property(RETENTION_HOURS, hours.to_string())
    }

    /// Keeps versions for as long as those of other tables, from this commit on.
    pub fn default_retention(self) -> Self {
        self.property(RETENTION_HOURS, "")
    }

    /// Adds a value to the commit info.
    pub fn info(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.info.insert(key.to_owned(), value.into());
        self
    }

    /// Writes the commit and returns the number of its version. In a folder, all of it is on disk then. Where a pack
    /// that did not change the commit's files was committed first, it is written on top of that.
    ///
    /// # Errors
    /// `Retry` where anything else was committed first.
    pub async fn write(mut self) -> Result<u64> {
        self.sync().await?;
        for _ in 1..ATTEMPTS_MAX {
            match self.write_once().await {
                Err(error) if error.kind == Kind::Retry => match self.rebased().await? {
                    Some(base) => self.base = Some(base),
                    None => return Err(error),
                },
                written => return written,
            }
        }
        self.write_once().await
    }

    async fn write_once(&self) -> Result<u64> {
        let context = format!("commit to {}", self.name);
        let mut actions = self.schema_actions()?;
        let mut adds: Vec<Add> = self.adds.iter().map(|file| add_action(file, self.packs.is_empty())).collect();
        let (removes, removed) = self.removals(&mut adds).await?;
        actions.extend(removes);
        actions.extend(adds.into_iter().map(Action::Add));
        let rows: u64 = if self.packs.is_empty() { self.adds.iter().map(|file| file.rows).sum() } else { 0 };
        let mut info = self.info.clone();
        info.insert(RUN.into(), self.run.as_str().into());
        info.insert("wattlakeOperation".into(), self.operation.into());
        info.insert("rowsAdded".into(), rows.into());
        info.insert("rowsRemoved".into(), removed.into());
        let transactions =
            self.positions.iter().map(|(app_id, version)| Transaction::new(app_id, *version)).collect::<Vec<_>>();
        let properties = CommitProperties::default()
            .with_metadata(info)
            .with_application_transactions(transactions)
            .with_cleanup_expired_logs(Some(false))
            // delta-rs's own retries would commit a deletion vector although its file was rewritten
            // concurrently, which would duplicate rows. `rebased` checks for that.
            .with_max_retries(0);
        let table;
        let state = match &self.base {
            Some(base) => {
                table = base.delta.clone();
                Some(table.snapshot().context(&context)?)
            }
            None => {
                table = builder(&self.lake, &self.name)?.build().context(&context)?;
                None
            }
        };
        let committed = CommitBuilder::from(properties)
            .with_actions(actions)
            .build(state.map(|s| s as &dyn TableReference), table.log_store(), self.delta_operation())
            .await
            .context(&context)?;
        let version = committed.version();
        sync_log(&self.lake, &self.name, version).await?;
        Ok(version)
    }

    fn delta_operation(&self) -> DeltaOperation {
        if !self.packs.is_empty() {
            return DeltaOperation::Optimize { predicate: None, target_size: 0 };
        }
        let mode = if self.replace { SaveMode::Overwrite } else { SaveMode::Append };
        DeltaOperation::Write { mode, partition_by: None, predicate: None }
    }

    /// The actions that remove files and hide rows, and the number of rows that are removed. Rows of `adds` are hidden
    /// in these.
    async fn removals(&self, adds: &mut Vec<Add>) -> Result<(Vec<Action>, u64)> {
        let (mut actions, mut removed) = (Vec::new(), 0);
        let Some(base) = &self.base else { return Ok((actions, removed)) };
        let mut packs: HashSet<&str> = self.packs.iter().map(String::as_str).collect();
        for file in base.delta.snapshot().context(format!("commit to {}", self.name))?.log_data().iter() {
            if self.replace {
                let hidden = file.deletion_vector_descriptor().map_or(0, |dv| dv.cardinality.unsigned_abs());
                removed += (file.num_records().unwrap_or_default() as u64).saturating_sub(hidden);
                actions.push(Action::Remove(file.remove_action(true)));
            } else if packs.remove(file.path().as_ref()) {
                actions.push(Action::Remove(file.remove_action(false)));
            }
        }
        if let Some(path) = packs.iter().next() {
            let context = format!("pack {}: {path} is no longer part of the table", self.name);
            return Err(Error::new(Kind::Retry, context));
        }
        removed += self.hidden.rows();
        actions.extend(self.hidden.write(base, &self.run, adds).await?);
        Ok((actions, removed))
    }

    /// The table's newest version, if this commit means the same on top of it: only packs were committed in between, or
    /// this is a pack, and the files that it changes are still the same.
    async fn rebased(&self) -> Result<Option<Table>> {
        let context = || format!("commit to {}", self.name);
        let Some(base) = &self.base else { return Ok(None) };
        let now = base.reload().await?;
        let newer = now.version().saturating_sub(base.version());
        if newer == 0 || now.schema()? != base.schema()? {
            return Ok(None);
        }
        if self.packs.is_empty() {
            let newer = usize::try_from(newer).unwrap_or(usize::MAX);
            let commits: Vec<_> = now.delta.history(Some(newer)).try_collect().await.context(context())?;
            let pack = Some(&Value::from(PACK));
            if commits.len() != newer || commits.iter().any(|commit| commit.info.get("wattlakeOperation") != pack) {
                return Ok(None);
            }
        }
        let touched: HashSet<&str> = self.hidden.paths().chain(&self.packs).map(String::as_str).collect();
        let same = vectors(base, &touched)? == vectors(&now, &touched)?;
        Ok(same.then_some(now))
    }

    /// Flushes the data files to disk before the log names them. Object stores do this by themselves.
    async fn sync(&self) -> Result<()> {
        let Ok(folder) = self.lake.table_url(&self.name)?.to_file_path() else { return Ok(()) };
        for file in &self.adds {
            flush(&folder.join(&file.path)).await?;
        }
        // The names of the files, too.
        if self.adds.is_empty() { Ok(()) } else { flush(&folder).await }
    }

    fn schema_actions(&self) -> Result<Vec<Action>> {
        let schema = match (&self.schema, &self.base) {
            (Some(schema), _) => Arc::clone(schema),
            (None, Some(base)) if !self.properties.is_empty() => base.schema()?,
            (None, _) => return Ok(Vec::new()),
        };
        let context = format!("describe the schema of {}", self.name);
        let kernel: StructType = schema.as_ref().try_into_kernel().context(&context)?;
        let present = match &self.base {
            Some(base) => Some(base.delta.snapshot().context(&context)?.metadata().clone()),
            None => None,
        };
        let id = present.as_ref().map_or_else(|| uuid::Uuid::new_v4().to_string(), |m| m.id().to_owned());
        let created = present.as_ref().and_then(|m| m.created_time()).unwrap_or_else(|| Utc::now().timestamp_millis());
        let mut configuration = json!({
            "delta.enableDeletionVectors": "true",
            "delta.enableExpiredLogCleanup": "false",
            "delta.deletedFileRetentionDuration": format!("interval {RETENTION_DAYS} days"),
            "delta.logRetentionDuration": format!("interval {RETENTION_DAYS} days"),
        });
        for (name, text) in present.as_ref().into_iter().flat_map(|metadata| metadata.configuration()) {
            if name.starts_with(PROPERTY_PREFIX) {
                configuration[name] = text.as_str().into();
            }
        }
        if let Some(columns) = &self.order {
            configuration[ORDER] = serde_json::to_string(columns).context(&context)?.into();
        }
        for (name, text) in &self.properties {
            configuration[name] = text.as_str().into();
        }
        let own = configuration.get(RETENTION_HOURS).and_then(|hours| hours.as_str()).filter(|hours| !hours.is_empty());
        if let Some(hours) = own {
            let interval = format!("interval {hours} hours");
            configuration["delta.deletedFileRetentionDuration"] = interval.as_str().into();
            configuration["delta.logRetentionDuration"] = interval.into();
        }
        let metadata = json!({"metaData": {
            "id": id,
            "name": self.name.to_string(),
            "description": null,
            "format": {"provider": "parquet", "options": {}},
            "schemaString": serde_json::to_string(&kernel).context(&context)?,
            "partitionColumns": [],
            "createdTime": created,
            "configuration": configuration,
        }});
        let parse = |value: Value| serde_json::from_value::<Action>(value).context(&context);
        let protocol = self.schema.is_some().then(|| self.protocol(&schema)).transpose()?;
        protocol.into_iter().chain([metadata]).map(parse).collect()
    }

    /// The protocol features that readers and writers of the table must support.
    fn protocol(&self, schema: &SchemaRef) -> Result<Value> {
        let had_local_times = match &self.base {
            Some(base) => base.schema()?.fields().iter().any(|f| has_local_times(f.data_type())),
            None => false,
        };
        let mut features = vec!["deletionVectors"];
        if had_local_times || schema.fields().iter().any(|f| has_local_times(f.data_type())) {
            features.push("timestampNtz");
        }
        Ok(json!({"protocol": {
            "minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": features, "writerFeatures": features,
        }}))
    }
}

impl Table {
    /// Starts a commit on top of this version; `operation` is its name in the history.
    pub fn commit(&self, run: &str, operation: &'static str) -> Commit {
        Commit::on(self, run, operation)
    }

    /// Starts a commit that removes all files, to be replaced by new ones in another schema.
    pub fn replace_files(&self, run: &str, operation: &'static str, schema: SchemaRef) -> Commit {
        self.commit(run, operation).replace(schema)
    }
}

impl Lake {
    /// Starts a commit that creates a table, or replaces all of its rows and its schema.
    pub async fn replace(
        &self,
        name: &TableName,
        schema: SchemaRef,
        run: &str,
        operation: &'static str,
    ) -> Result<Commit> {
        Ok(match self.table(name).await? {
            Some(table) => table.commit(run, operation).replace(schema),
            None => Commit::create(self, name, schema, run, operation),
        })
    }
}

/// Flushes the log to disk, which a local store does not do: a position that was confirmed must not be lost.
async fn sync_log(lake: &Lake, name: &TableName, version: u64) -> Result<()> {
    let Ok(folder) = lake.table_url(name)?.to_file_path() else { return Ok(()) };
    let log = folder.join("_delta_log");
    for path in [log.join(format!("{version:020}.json")), log] {
        flush(&path).await?;
    }
    Ok(())
}

/// Flushes a file or a folder to disk.
pub(crate) async fn flush(path: &std::path::Path) -> Result<()> {
    let synced = async { tokio::fs::File::open(path).await?.sync_all().await };
    synced.await.map_err(|e| Error::new(Kind::Retry, format!("flush {} to disk", path.display())).because(e))
}

fn has_local_times(data_type: &DataType) -> bool {
    match data_type {
        DataType::Timestamp(_, zone) => zone.is_none(),
        DataType::List(field) => has_local_times(field.data_type()),
        DataType::Struct(fields) => fields.iter().any(|f| has_local_times(f.data_type())),
        _ => false,
    }
}

/// The place of a deletion vector, which identifies it.
type Place = (String, Option<i32>);

/// The deletion vectors of those of the files that are part of the table.
fn vectors(table: &Table, paths: &HashSet<&str>) -> Result<BTreeMap<String, Option<Place>>> {
    let files = table.delta.snapshot().context(format!("read the files of {}", table.name()))?.log_data();
    let touched = files.iter().filter(|file| paths.contains(file.path().as_ref()));
    Ok(touched
        .map(|file| {
            let vector = file.deletion_vector_descriptor().map(|dv| (dv.path_or_inline_dv, dv.offset));
            (file.path().into_owned(), vector)
        })
        .collect())
}

fn add_action(file: &DataFile, data_change: bool) -> Add {
    Add {
        path: file.path.clone(),
        partition_values: HashMap::new(),
        size: i64::try_from(file.bytes).unwrap_or(i64::MAX),
        modification_time: Utc::now().timestamp_millis(),
        data_change,
        stats: Some(file.stats.clone()),
        tags: None,
        deletion_vector: None,
        base_row_id: None,
        default_row_commit_version: None,
        clustering_provider: None,
    }
}
