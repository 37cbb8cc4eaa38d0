//! What a process has seen of the lake's files and keeps for its next queries: footers, and which
//! rows of a file are visible. Files never change once written, so nothing here grows stale.

use std::sync::Arc;

use datafusion::datasource::physical_plan::parquet::ParquetRowSelection;
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::execution::cache::default_cache::DefaultCache;
use datafusion::execution::cache::{Cache, CacheValue};
use deltalake::kernel::DeletionVectorDescriptor;
use object_store::path::Path;
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use roaring::RoaringTreemap;

use crate::deletion;
use crate::error::Result;
use crate::table::Table;

const FOOTERS_BYTES_MAX: usize = 128 << 20;
const VECTORS_BYTES_MAX: usize = 128 << 20;

#[derive(Clone)]
pub(crate) struct Seen {
    pub(crate) footers: Arc<FileMetadataCache>,
    vectors: Arc<dyn Cache<Path, Visible>>,
}

impl Default for Seen {
    fn default() -> Self {
        Seen {
            footers: Arc::new(DefaultCache::new(FOOTERS_BYTES_MAX).with_name("footers")),
            vectors: Arc::new(DefaultCache::new(VECTORS_BYTES_MAX).with_name("deletion vectors")),
        }
    }
}

/// The rows of a file that its deletion vector leaves to see.
#[derive(Clone)]
pub(crate) struct Visible {
    selection: Arc<ParquetRowSelection>,
    bytes: usize,
}

impl CacheValue for Visible {
    fn size(&self) -> usize {
        self.bytes
    }
}

impl Visible {
    pub(super) fn of(hidden: &RoaringTreemap, rows: usize) -> Visible {
        let mut runs: Vec<RowSelector> = Vec::new();
        let mut next = 0;
        for at in hidden {
            let at = usize::try_from(at).unwrap_or(usize::MAX).min(rows);
            if at >= rows {
                break;
            }
            if at > next {
                runs.push(RowSelector::select(at - next));
            }
            match runs.last_mut() {
                Some(last) if last.skip => last.row_count += 1,
                _ => runs.push(RowSelector::skip(1)),
            }
            next = at + 1;
        }
        if next < rows {
            runs.push(RowSelector::select(rows - next));
        }
        let bytes = runs.len() * size_of::<RowSelector>() + size_of::<Visible>();
        Visible { selection: Arc::new(RowSelection::from(runs).into()), bytes }
    }

    pub(crate) fn selection(&self) -> ParquetRowSelection {
        self.selection.as_ref().clone()
    }
}

impl Table {
    pub(crate) async fn visible(&self, vector: &DeletionVectorDescriptor, rows: usize) -> Result<Visible> {
        let (file, at) = (&vector.path_or_inline_dv, vector.offset.unwrap_or_default());
        let key = Path::from(format!("{}/{file}@{at}", self.lake.table_path(self.name())));
        let vectors = &self.lake.seen().vectors;
        if let Some(known) = vectors.get(&key) {
            return Ok(known);
        }
        let visible = Visible::of(&deletion::read(self, vector.clone()).await?, rows);
        vectors.put(&key, visible.clone());
        Ok(visible)
    }
}

#[cfg(test)]
mod tests;
