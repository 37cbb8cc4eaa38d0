//! Caches opened tables: opening one again reads only the log entries that were added since. A dashboard
//! may query the same tables a hundred times a minute.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use deltalake::DeltaTable;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::error::{Context, Result};
use crate::scan::files::KnownFiles;
use crate::table_name::TableName;

/// Tables beyond this number are not cached.
const TABLES_MAX: usize = 10_000;

/// The tables of a lake that were opened.
#[derive(Clone, Default)]
pub(crate) struct TableCache(Arc<Mutex<HashMap<TableName, CachedTable>>>);

#[derive(Clone)]
struct CachedTable {
    delta: DeltaTable,
    /// Decoded once for all queries of this version.
    files: KnownFiles,
    /// The log's newest entry when it was read. Where it is another one now, the table was created again.
    entry: LogEntry,
}

/// What identifies a file of the log.
#[derive(Clone, PartialEq, Eq)]
struct LogEntry {
    e_tag: Option<String>,
    modified_ms: i64,
    bytes: u64,
}

impl TableCache {
    /// The newest version of a cached table, with its files; `None` where it is not cached, or its log was replaced.
    /// `store` is rooted at the table's folder.
    pub(crate) async fn refreshed(
        &self,
        name: &TableName,
        store: &Arc<dyn ObjectStore>,
    ) -> Result<Option<(DeltaTable, KnownFiles)>> {
        let Some(mut cached) = self.lock().get(name).cloned() else { return Ok(None) };
        if newest_entry(store, &cached.delta).await != Some(cached.entry.clone()) {
            self.lock().remove(name);
            return Ok(None);
        }
        let before = cached.delta.version();
        cached.delta.update_state().await.context(format!("open table {name}"))?;
        if cached.delta.version() == before {
            return Ok(Some((cached.delta, cached.files)));
        }
        let files = KnownFiles::default();
        self.keep(name, store, &cached.delta, &files).await;
        Ok(Some((cached.delta, files)))
    }

    /// Caches the newest version of a table. `store` is rooted at the table's folder.
    pub(crate) async fn keep(
        &self,
        name: &TableName,
        store: &Arc<dyn ObjectStore>,
        delta: &DeltaTable,
        files: &KnownFiles,
    ) {
        let entry = newest_entry(store, delta).await;
        let mut tables = self.lock();
        if let Some(entry) = entry
            && (tables.len() < TABLES_MAX || tables.contains_key(name))
        {
            tables.insert(name.clone(), CachedTable { delta: delta.clone(), files: Arc::clone(files), entry });
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TableName, CachedTable>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn newest_entry(store: &Arc<dyn ObjectStore>, delta: &DeltaTable) -> Option<LogEntry> {
    let path = Path::from(format!("_delta_log/{:020}.json", delta.version()?));
    let meta = store.head(&path).await.ok()?;
    Some(LogEntry { e_tag: meta.e_tag, modified_ms: meta.last_modified.timestamp_millis(), bytes: meta.size })
}
