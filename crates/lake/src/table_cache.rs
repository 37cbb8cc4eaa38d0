//! Caches opened tables: opening one again reads only the log entries that were added since. A dashboard
//! may query the same tables a hundred times a minute.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use deltalake::DeltaTable;
use object_store::ObjectStoreExt;
use object_store::path::Path;

use crate::error::{Context, Result};
use crate::location::{Lake, TableName};
use crate::table::{KnownFiles, Table};

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
    /// The newest version of a cached table; `None` where it is not cached, or its log was replaced.
    async fn refreshed(&self, lake: &Lake, name: &TableName) -> Result<Option<Table>> {
        let Some(mut cached) = self.lock().get(name).cloned() else { return Ok(None) };
        if newest_entry(lake, name, &cached.delta).await != Some(cached.entry.clone()) {
            self.lock().remove(name);
            return Ok(None);
        }
        let before = cached.delta.version();
        cached.delta.update_state().await.context(format!("open table {name}"))?;
        if cached.delta.version() == before {
            return Ok(Some(Table::of(lake.clone(), name.clone(), cached.delta, cached.files)));
        }
        let table = Table::of(lake.clone(), name.clone(), cached.delta, KnownFiles::default());
        self.keep(&table).await;
        Ok(Some(table))
    }

    async fn keep(&self, table: &Table) {
        let name = table.name();
        let entry = newest_entry(&table.lake, name, &table.delta).await;
        let mut tables = self.lock();
        if let Some(entry) = entry
            && (tables.len() < TABLES_MAX || tables.contains_key(name))
        {
            tables.insert(name.clone(), CachedTable { delta: table.delta.clone(), files: table.known_files(), entry });
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TableName, CachedTable>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn newest_entry(lake: &Lake, name: &TableName, delta: &DeltaTable) -> Option<LogEntry> {
    let path = Path::from(format!("_delta_log/{:020}.json", delta.version()?));
    let meta = lake.table_store(name).head(&path).await.ok()?;
    Some(LogEntry { e_tag: meta.e_tag, modified_ms: meta.last_modified.timestamp_millis(), bytes: meta.size })
}

impl Lake {
    /// The newest version of a table; `None` where it does not exist.
    pub async fn table(&self, name: &TableName) -> Result<Option<Table>> {
        if let Some(table) = self.table_cache().refreshed(self, name).await? {
            return Ok(Some(table));
        }
        if !self.is_table(&self.table_path(name)).await? {
            return Ok(None);
        }
        let table = Table::load(self.clone(), name.clone()).await?;
        self.table_cache().keep(&table).await;
        Ok(Some(table))
    }
}
