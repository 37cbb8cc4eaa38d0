//! Tables as they were last seen: the next look reads only what the log has gained since. A
//! dashboard asks the same tables a hundred times a minute; their logs are read once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use deltalake::DeltaTable;
use object_store::ObjectStoreExt;
use object_store::path::Path;

use crate::error::{Context, Result};
use crate::location::{Lake, TableName};
use crate::table::{KnownFiles, Table};

/// More tables than this are looked at anew each time.
const TABLES_MAX: usize = 10_000;

#[derive(Clone, Default)]
pub(crate) struct States(Arc<Mutex<HashMap<TableName, State>>>);

#[derive(Clone)]
struct State {
    delta: DeltaTable,
    /// Decoded once for all queries of this version.
    files: KnownFiles,
    /// Of the log's newest entry when it was read: another one under its name is another table.
    entry: Entry,
}

#[derive(Clone, PartialEq, Eq)]
struct Entry {
    e_tag: Option<String>,
    modified_ms: i64,
    bytes: u64,
}

impl States {
    /// The table as it is now; `None` where the log has lost what was known, or nothing was.
    async fn refreshed(&self, lake: &Lake, name: &TableName) -> Result<Option<Table>> {
        let Some(mut state) = self.lock().get(name).cloned() else { return Ok(None) };
        if newest_entry(lake, name, &state.delta).await != Some(state.entry.clone()) {
            self.lock().remove(name);
            return Ok(None);
        }
        let before = state.delta.version();
        state.delta.update_state().await.context(format!("open table {name}"))?;
        if state.delta.version() == before {
            return Ok(Some(Table::of(lake.clone(), name.clone(), state.delta, state.files)));
        }
        let table = Table::of(lake.clone(), name.clone(), state.delta, KnownFiles::default());
        self.keep(&table).await;
        Ok(Some(table))
    }

    async fn keep(&self, table: &Table) {
        let name = table.name();
        let entry = newest_entry(&table.lake, name, &table.delta).await;
        let mut states = self.lock();
        if let Some(entry) = entry
            && (states.len() < TABLES_MAX || states.contains_key(name))
        {
            states.insert(name.clone(), State { delta: table.delta.clone(), files: table.known_files(), entry });
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TableName, State>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn newest_entry(lake: &Lake, name: &TableName, delta: &DeltaTable) -> Option<Entry> {
    let path = Path::from(format!("_delta_log/{:020}.json", delta.version()?));
    let meta = lake.table_store(name).head(&path).await.ok()?;
    Some(Entry { e_tag: meta.e_tag, modified_ms: meta.last_modified.timestamp_millis(), bytes: meta.size })
}

impl Lake {
    /// The table as it is now, or `None` where no commit has made it yet.
    pub async fn table(&self, name: &TableName) -> Result<Option<Table>> {
        if let Some(table) = self.states().refreshed(self, name).await? {
            return Ok(Some(table));
        }
        if !self.is_table(&self.table_path(name)).await? {
            return Ok(None);
        }
        let table = Table::load(self.clone(), name.clone()).await?;
        self.states().keep(&table).await;
        Ok(Some(table))
    }
}
