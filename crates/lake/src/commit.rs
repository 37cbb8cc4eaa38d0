//! Commits: rows, the rows that they replace, a new schema, and the position that they bring the
//! table to, all in one version or not at all.

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

use crate::deletion::Hidden;
use crate::error::{Context, Error, Kind, Result};
use crate::location::{Lake, TableName};
use crate::table::{Table, builder};
use crate::writer::DataFile;

/// Time travel and tombstones are kept this long before upkeep may take them.
pub const RETENTION_DAYS: i64 = 30;

/// The run that made a commit, in the commit's own record: upkeep tells by it what was never committed.
pub(crate) const RUN: &str = "wattlakeRun";

/// The columns that packed files are sorted by, in the table's configuration.
pub(crate) const ORDER: &str = "wattlake.order";

/// What the names of our properties begin with.
const OURS: &str = "wattlake.";

/// Commits that may be overtaken by a pack before one gives up.
const ATTEMPTS_MAX: usize = 8;

/// A commit being put together; nothing is seen of it before [`Commit::write`].
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
    hidden: Hidden,
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
            hidden: Hidden::default(),
            packs: Vec::new(),
            order: None,
            positions: BTreeMap::new(),
            properties: BTreeMap::new(),
            info: HashMap::new(),
        }
    }

    pub(crate) fn create(lake: &Lake, name: &TableName, schema: SchemaRef, run: &str, operation: &'static str) -> Self {
        Commit { schema: Some(schema), ..Commit::new(lake, name, None, run, operation) }
    }

    pub(crate) fn on(table: &Table, run: &str, operation: &'static str) -> Self {
        Commit::new(&table.lake, &table.name, Some(table.clone()), run, operation)
    }

    /// All that the table holds goes, and may have another schema from now on.
    pub(crate) fn replace(mut self, schema: SchemaRef) -> Self {
        self.replace = true;
        self.schema = Some(schema);
        self
    }

    /// From this version on the table has this schema: more columns, all of them nullable.
    pub fn schema(mut self, schema: SchemaRef) -> Self {
        self.schema = Some(schema);
        self
    }

    pub fn files(mut self, files: impl IntoIterator<Item = DataFile>) -> Self {
        self.adds.extend(files);
        self
    }

    /// Rows that this version no longer shows; the data files stay as they are.
    pub fn hide(mut self, hidden: Hidden) -> Self {
        self.hidden.merge(hidden);
        self
    }

    /// Files whose visible rows are in the new ones: nothing of the table changes but its form.
    pub(crate) fn packs(mut self, paths: impl IntoIterator<Item = String>) -> Self {
        self.packs.extend(paths);
        self
    }

    /// The columns to sort packed files by. Kept where the commit makes or replaces the table.
    pub fn order(mut self, columns: &[String]) -> Self {
        self.order = Some(columns.to_vec());
        self
    }

    /// The number that [`Table::position`] gives back.
    pub fn position(mut self, app_id: impl Into<String>, position: i64) -> Self {
        self.positions.insert(app_id.into(), position);
        self
    }

    /// The text that [`Table::property`] gives back: it stays until a later commit changes it.
    pub fn property(mut self, name: impl Into<String>, text: impl Into<String>) -> Self {
        self.properties.insert(name.into(), text.into());
        self
    }

    /// A figure or a name kept with the commit.
    pub fn info(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.info.insert(key.to_owned(), value.into());
        self
    }

    /// Makes the version. Returns its number. Overtaken by a pack that left its files alone, it
    /// goes on top of that; overtaken by anything else it fails with [`Kind::Retry`].
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
        let (removes, removed) = self.removals().await?;
        actions.extend(removes);
        actions.extend(self.adds.iter().map(|file| Action::Add(add_action(file, self.packs.is_empty()))));
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
            // delta-rs's own retries let a deletion vector pass a concurrent rewrite of its file,
            // and the rows would be there twice: whoever lost looks for itself whether it may go on.
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

    /// The actions that take files and rows out of the table, and the number of rows that go.
    async fn removals(&self) -> Result<(Vec<Action>, u64)> {
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
            let context = format!("pack {}: {path} is no longer part of it", self.name);
            return Err(Error::new(Kind::Retry, context));
        }
        removed += self.hidden.rows();
        actions.extend(self.hidden.write(base, &self.run).await?);
        Ok((actions, removed))
    }

    /// The table as it is now, if this commit means the same on top of it: what came in between
    /// are packs, or this is one, and the files that it speaks of are as they were.
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
            let passed: Vec<_> = now.delta.history(Some(newer)).try_collect().await.context(context())?;
            let pack = Some(&Value::from(crate::pack::OPERATION));
            if passed.len() != newer || passed.iter().any(|commit| commit.info.get("wattlakeOperation") != pack) {
                return Ok(None);
            }
        }
        let touched: HashSet<&str> = self.hidden.paths().chain(&self.packs).map(String::as_str).collect();
        let same = vectors(base, &touched)? == vectors(&now, &touched)?;
        Ok(same.then_some(now))
    }

    /// Data must be on the disk before the log says that it is there: a folder's own promise,
    /// which object stores make by themselves.
    async fn sync(&self) -> Result<()> {
        let Ok(folder) = self.lake.table_url(&self.name)?.to_file_path() else { return Ok(()) };
        for file in &self.adds {
            let path = folder.join(&file.path);
            let context = format!("make {} durable", path.display());
            let synced = async { tokio::fs::File::open(&path).await?.sync_data().await };
            synced.await.map_err(|e| Error::new(Kind::Retry, context).because(e))?;
        }
        Ok(())
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
            if name.starts_with(OURS) {
                configuration[name] = text.as_str().into();
            }
        }
        if let Some(columns) = &self.order {
            configuration[ORDER] = serde_json::to_string(columns).context(&context)?.into();
        }
        for (name, text) in &self.properties {
            configuration[name] = text.as_str().into();
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

    /// What readers and writers of the table must know.
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

/// A local store does not wait for the disk; a position that is confirmed must be on it.
async fn sync_log(lake: &Lake, name: &TableName, version: u64) -> Result<()> {
    let Ok(folder) = lake.table_url(name)?.to_file_path() else { return Ok(()) };
    let log = folder.join("_delta_log");
    for path in [log.join(format!("{version:020}.json")), log] {
        let context = format!("make {} durable", path.display());
        let synced = async { tokio::fs::File::open(&path).await?.sync_all().await };
        synced.await.map_err(|e| Error::new(Kind::Retry, context).because(e))?;
    }
    Ok(())
}

fn has_local_times(data_type: &DataType) -> bool {
    match data_type {
        DataType::Timestamp(_, zone) => zone.is_none(),
        DataType::List(field) => has_local_times(field.data_type()),
        DataType::Struct(fields) => fields.iter().any(|f| has_local_times(f.data_type())),
        _ => false,
    }
}

/// Where a deletion vector is, for telling one from another.
type Place = (String, Option<i32>);

/// For each of the files that is part of the table, its deletion vector.
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
