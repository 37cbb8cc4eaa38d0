//! A table at one of its versions: its schema, size, history, position and properties, and its rows.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use chrono::{DateTime, Utc};
use datafusion::execution::context::SessionContext;
use deltalake::kernel::engine::arrow_conversion::TryIntoArrow;
use deltalake::{DeltaTable, DeltaTableBuilder};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStore;
use tokio::runtime::Handle;

use crate::error::{Context, Error, Kind, Result};
use crate::location::Lake;
use crate::scan::files::{Files, KnownFiles};
use crate::table_name::TableName;
use crate::writer::{Destination, FILE_BYTES, FileWriter};

/// Which version of a table to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsOf {
    /// The version with this number.
    Version(u64),
    /// The last version committed at or before the instant.
    Instant(DateTime<Utc>),
}

/// A table at one version. It does not change when others commit; [`reload`](Table::reload) returns the newest version.
#[derive(Clone)]
pub struct Table {
    /// The lake that has it.
    pub(crate) lake: Lake,
    /// Its name.
    pub(crate) name: TableName,
    /// The version, loaded by delta-rs.
    pub(crate) delta: DeltaTable,
    /// The files of this version, once a query needed them.
    files: KnownFiles,
}

/// The key of a commit's run in its commit info: by it upkeep recognizes files of runs that never committed.
pub(crate) const RUN: &str = "wattlakeRun";

/// Smaller files count as small.
const SMALL_BYTES: u64 = FILE_BYTES as u64 / 4;

/// One commit of a table's history.
#[derive(Debug, Clone)]
pub struct HistoryEntry {
    /// The version that the commit made.
    pub version: u64,
    /// When it was committed.
    pub at: Option<DateTime<Utc>>,
    /// What was done, such as `load` or `pack`; for commits of other programs, Delta's name of the operation.
    pub operation: String,
    /// The run that committed; `None` for other programs.
    pub run: Option<String>,
    /// How many rows were added; `None` where the commit does not record it.
    pub rows_added: Option<u64>,
    /// How many rows were removed; `None` where the commit does not record it.
    pub rows_removed: Option<u64>,
}

/// The size of a table at one version.
#[derive(Debug, Clone, Copy, Default)]
pub struct TableSize {
    /// The number of data files.
    pub files: u64,
    /// The size of the data files.
    pub bytes: u64,
    /// The number of visible rows.
    pub rows: u64,
    /// The number of rows that deletion vectors hide, which are not in `rows`.
    pub rows_hidden: u64,
    /// The number of files smaller than a quarter of a packed file's size.
    pub files_small: u64,
}

impl Table {
    /// Reads the newest version from the log, without the cache.
    pub(crate) async fn load(lake: Lake, name: TableName) -> Result<Table> {
        let delta = builder(&lake, &name)?.load().await.context(format!("open table {name}"))?;
        Ok(Table::of(lake, name, delta, KnownFiles::default()))
    }

    /// A version that was loaded.
    fn of(lake: Lake, name: TableName, delta: DeltaTable, files: KnownFiles) -> Table {
        Table { lake, name, delta, files }
    }

    /// The name.
    pub fn name(&self) -> &TableName {
        &self.name
    }

    /// The same table at another version.
    ///
    /// # Errors
    /// `FixInput` for a version after the newest, or an instant before the first.
    pub async fn at(&self, when: AsOf) -> Result<Table> {
        let mut delta = builder(&self.lake, &self.name)?.build().context(format!("open table {}", self.name))?;
        match when {
            AsOf::Version(version) => {
                if version > self.version() {
                    let context =
                        format!("open version {version} of {}: its newest version is {}", self.name, self.version());
                    return Err(Error::new(Kind::FixInput, context));
                }
                delta.load_version(version).await.context(format!("open version {version} of {}", self.name))?;
            }
            AsOf::Instant(at) => {
                // By the time in the commit info: delta-rs uses the times of the log files, which a copy changes.
                let history = self.history().await?;
                let version = history.iter().find(|v| v.at.is_some_and(|then| then <= at)).map(|v| v.version);
                let Some(version) = version else {
                    let first = history.last().and_then(|v| v.at).map_or_else(String::new, |at| at.to_rfc3339());
                    let context =
                        format!("open {} as of {}: its first version is from {first}", self.name, at.to_rfc3339());
                    return Err(Error::new(Kind::FixInput, context));
                };
                delta.load_version(version).await.context(format!("open version {version} of {}", self.name))?;
            }
        }
        Ok(Table { lake: self.lake.clone(), name: self.name.clone(), delta, files: Arc::default() })
    }

    /// The number of this version.
    pub fn version(&self) -> u64 {
        self.delta.version().unwrap_or_default()
    }

    /// The schema of this version.
    pub fn schema(&self) -> Result<SchemaRef> {
        let context = || format!("read the schema of {}", self.name);
        let kernel = self.delta.snapshot().context(context())?.schema();
        let schema: Schema = kernel.as_ref().try_into_arrow().context(context())?;
        Ok(Arc::new(schema))
    }

    /// The number that [`Commit::position`](crate::Commit::position) last set for `app_id`, such as a cursor or a log
    /// position.
    pub async fn position(&self, app_id: &str) -> Result<Option<i64>> {
        let context = || format!("read position {app_id} of {}", self.name);
        let state = self.delta.snapshot().context(context())?;
        state.transaction_version(self.delta.log_store().as_ref(), app_id).await.context(context())
    }

    /// The text that [`Commit::property`](crate::Commit::property) last set for `name`.
    pub fn property(&self, name: &str) -> Result<Option<String>> {
        let state = self.delta.snapshot().context(format!("read {name} of {}", self.name))?;
        Ok(state.metadata().configuration().get(name).cloned())
    }

    /// The size, from the log.
    pub fn size(&self) -> Result<TableSize> {
        let mut size = TableSize::default();
        for file in self.delta.snapshot().context(format!("read the files of {}", self.name))?.log_data().iter() {
            let hidden = file.deletion_vector_descriptor().map_or(0, |dv| dv.cardinality.unsigned_abs());
            size.files += 1;
            size.bytes += file.size().unsigned_abs();
            size.rows += (file.num_records().unwrap_or_default() as u64).saturating_sub(hidden);
            size.rows_hidden += hidden;
            size.files_small += u64::from(file.size().unsigned_abs() < SMALL_BYTES);
        }
        Ok(size)
    }

    /// All commits up to this version, the newest first.
    pub async fn history(&self) -> Result<Vec<HistoryEntry>> {
        let context = || format!("read the history of {}", self.name);
        let commits: Vec<_> = self.delta.history(None).try_collect().await.context(context())?;
        let newest = self.version();
        Ok(commits
            .into_iter()
            .zip(0u64..)
            .map(|(info, back)| {
                let metric = |name: &str| info.info.get(name).and_then(serde_json::Value::as_u64);
                HistoryEntry {
                    version: newest.saturating_sub(back),
                    at: info.timestamp.and_then(DateTime::from_timestamp_millis),
                    operation: info
                        .info
                        .get("wattlakeOperation")
                        .and_then(|v| v.as_str().map(str::to_owned))
                        .or_else(|| info.operation.clone())
                        .unwrap_or_default(),
                    run: info.info.get(RUN).and_then(|v| v.as_str().map(str::to_owned)),
                    rows_added: metric("rowsAdded"),
                    rows_removed: metric("rowsRemoved"),
                }
            })
            .collect())
    }

    /// The data files, decoded once per version.
    pub(crate) fn files(&self) -> Result<Arc<Files>> {
        if let Some(files) = self.files.get() {
            return Ok(Arc::clone(files));
        }
        let files =
            Arc::new(Files::of(&self.delta, &self.name, &self.lake.table_path(&self.name), self.schema()?.as_ref())?);
        Ok(Arc::clone(self.files.get_or_init(|| files)))
    }

    /// All visible rows, a batch at a time.
    pub async fn read(&self) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let context = format!("read table {}", self.name);
        let frame = SessionContext::new().read_table(self.provider().await?).context(&context)?;
        let batches = frame.execute_stream().await.context(&context)?;
        Ok(batches.map(move |batch| batch.context(&context)).boxed())
    }

    /// The newest version of the table.
    pub async fn reload(&self) -> Result<Table> {
        match self.lake.table(&self.name).await? {
            Some(table) => Ok(table),
            None => Table::load(self.lake.clone(), self.name.clone()).await,
        }
    }

    /// Writes data files for this table, as [`Lake::writer`] does.
    pub fn writer(&self, run: &str, schema: SchemaRef, runtime: Handle) -> FileWriter {
        self.lake.writer(&self.name, run, schema, runtime)
    }

    /// The object store, rooted at the table's folder.
    pub(crate) fn store(&self) -> Arc<dyn ObjectStore> {
        self.lake.table_store(&self.name)
    }
}

impl Lake {
    /// The newest version of a table; `None` where it does not exist.
    pub async fn table(&self, name: &TableName) -> Result<Option<Table>> {
        let store = self.table_store(name);
        if let Some((delta, files)) = self.table_cache().refreshed(name, &store).await? {
            return Ok(Some(Table::of(self.clone(), name.clone(), delta, files)));
        }
        if !self.is_table(&self.table_path(name)).await? {
            return Ok(None);
        }
        let table = Table::load(self.clone(), name.clone()).await?;
        self.table_cache().keep(name, &store, &table.delta, &table.files).await;
        Ok(Some(table))
    }

    /// Writes data files into the folder of a table that may not exist yet. The writer blocks, so it must be used on a
    /// thread that does not belong to an asynchronous runtime.
    pub fn writer(&self, name: &TableName, run: &str, schema: SchemaRef, runtime: Handle) -> FileWriter {
        FileWriter::new(Destination { store: self.table_store(name), run: run.to_owned(), runtime }, schema)
    }
}

/// Opens a table with delta-rs.
pub(crate) fn builder(lake: &Lake, name: &TableName) -> Result<DeltaTableBuilder> {
    let url = lake.table_url(name)?;
    let context = || format!("open table {name}");
    Ok(DeltaTableBuilder::from_url(url).context(context())?.with_storage_options(lake.options()))
}
