//! Commits: rows, the rows that they replace, a new schema, and the position that they bring the
//! table to, all in one version or not at all.

use std::collections::{BTreeMap, HashMap};

use arrow::datatypes::{DataType, SchemaRef};
use chrono::Utc;
use deltalake::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake::kernel::transaction::{CommitBuilder, CommitProperties, TableReference};
use deltalake::kernel::{Action, Add, StructType, Transaction};
use deltalake::protocol::{DeltaOperation, SaveMode};
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
    positions: BTreeMap<String, i64>,
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
            positions: BTreeMap::new(),
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

    /// The number that [`Table::position`] gives back.
    pub fn position(mut self, app_id: impl Into<String>, position: i64) -> Self {
        self.positions.insert(app_id.into(), position);
        self
    }

    /// A figure or a name kept with the commit.
    pub fn info(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.info.insert(key.to_owned(), value.into());
        self
    }

    /// Makes the version. Returns its number.
    pub async fn write(self) -> Result<u64> {
        let context = format!("commit to {}", self.name);
        let rows: u64 = self.adds.iter().map(|file| file.rows).sum();
        self.sync().await?;
        let mut actions = self.schema_actions()?;
        let mut removed = 0;
        if let Some(base) = self.base.as_ref().filter(|_| self.replace) {
            for file in base.delta.snapshot().context(&context)?.log_data().iter() {
                let hidden = file.deletion_vector_descriptor().map_or(0, |dv| dv.cardinality.unsigned_abs());
                removed += (file.num_records().unwrap_or_default() as u64).saturating_sub(hidden);
                actions.push(Action::Remove(file.remove_action(true)));
            }
        }
        if let Some(base) = &self.base {
            removed += self.hidden.rows();
            actions.extend(self.hidden.write(base, &self.run).await?);
        }
        actions.extend(self.adds.iter().map(|file| Action::Add(add_action(file))));
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
            // and the rows would be there twice: whoever lost reads again and plans anew.
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
        let mode = if self.replace { SaveMode::Overwrite } else { SaveMode::Append };
        let operation = DeltaOperation::Write { mode, partition_by: None, predicate: None };
        let committed = CommitBuilder::from(properties)
            .with_actions(actions)
            .build(state.map(|s| s as &dyn TableReference), table.log_store(), operation)
            .await
            .context(&context)?;
        let version = committed.version();
        sync_log(&self.lake, &self.name, version).await?;
        Ok(version)
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
        let Some(schema) = &self.schema else { return Ok(Vec::new()) };
        let context = format!("describe the schema of {}", self.name);
        let kernel: StructType = schema.as_ref().try_into_kernel().context(&context)?;
        let present = match &self.base {
            Some(base) => Some(base.delta.snapshot().context(&context)?.metadata().clone()),
            None => None,
        };
        let id = present.as_ref().map_or_else(|| uuid::Uuid::new_v4().to_string(), |m| m.id().to_owned());
        let created = present.as_ref().and_then(|m| m.created_time()).unwrap_or_else(|| Utc::now().timestamp_millis());
        let metadata = json!({"metaData": {
            "id": id,
            "name": self.name.to_string(),
            "description": null,
            "format": {"provider": "parquet", "options": {}},
            "schemaString": serde_json::to_string(&kernel).context(&context)?,
            "partitionColumns": [],
            "createdTime": created,
            "configuration": {
                "delta.enableDeletionVectors": "true",
                "delta.enableExpiredLogCleanup": "false",
                "delta.deletedFileRetentionDuration": format!("interval {RETENTION_DAYS} days"),
                "delta.logRetentionDuration": format!("interval {RETENTION_DAYS} days"),
            },
        }});
        let mut features = vec!["deletionVectors"];
        let had_local_times = match &self.base {
            Some(base) => base.schema()?.fields().iter().any(|f| has_local_times(f.data_type())),
            None => false,
        };
        if had_local_times || schema.fields().iter().any(|f| has_local_times(f.data_type())) {
            features.push("timestampNtz");
        }
        let protocol = json!({"protocol": {
            "minReaderVersion": 3, "minWriterVersion": 7,
            "readerFeatures": features, "writerFeatures": features,
        }});
        let parse = |value: Value| serde_json::from_value::<Action>(value).context(&context);
        Ok(vec![parse(protocol)?, parse(metadata)?])
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

fn add_action(file: &DataFile) -> Add {
    Add {
        path: file.path.clone(),
        partition_values: HashMap::new(),
        size: i64::try_from(file.bytes).unwrap_or(i64::MAX),
        modification_time: Utc::now().timestamp_millis(),
        data_change: true,
        stats: Some(file.stats.clone()),
        tags: None,
        deletion_vector: None,
        base_row_id: None,
        default_row_commit_version: None,
        clustering_provider: None,
    }
}
