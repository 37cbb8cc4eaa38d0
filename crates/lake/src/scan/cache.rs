//! Caches what a process has read of the lake's data files: footers, and which rows are visible. Data
//! files and deletion vectors never change, so that cached values are always valid.

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

/// The footers and deletion vectors that were read, within bounds of memory.
#[derive(Clone)]
pub(crate) struct FileCache {
    /// The Parquet footers, by path.
    pub(crate) footers: Arc<FileMetadataCache>,
    vectors: Arc<dyn Cache<Path, VisibleRows>>,
}

impl Default for FileCache {
    fn default() -> Self {
        FileCache {
            footers: Arc::new(DefaultCache::new(FOOTERS_BYTES_MAX).with_name("footers")),
            vectors: Arc::new(DefaultCache::new(VECTORS_BYTES_MAX).with_name("deletion vectors")),
        }
    }
}

/// The rows of a file that its deletion vector leaves visible.
#[derive(Clone)]
pub(crate) struct VisibleRows {
    selection: Arc<ParquetRowSelection>,
    bytes: usize,
}

impl CacheValue for VisibleRows {
    fn size(&self) -> usize {
        self.bytes
    }
}

impl VisibleRows {
    /// All of `rows` rows except the hidden ones.
    pub(super) fn of(hidden: &RoaringTreemap, rows: usize) -> VisibleRows {
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
        let bytes = runs.len() * size_of::<RowSelector>() + size_of::<VisibleRows>();
        VisibleRows { selection: Arc::new(RowSelection::from(runs).into()), bytes }
    }

    /// The rows as a selection for the Parquet reader.
    pub(crate) fn selection(&self) -> ParquetRowSelection {
        self.selection.as_ref().clone()
    }
}

impl Table {
    /// The visible rows of a file with this deletion vector and number of rows.
    pub(crate) async fn visible(&self, vector: &DeletionVectorDescriptor, rows: usize) -> Result<VisibleRows> {
        let (file, at) = (&vector.path_or_inline_dv, vector.offset.unwrap_or_default());
        let key = Path::from(format!("{}/{file}@{at}", self.lake.table_path(self.name())));
        let vectors = &self.lake.file_cache().vectors;
        if let Some(known) = vectors.get(&key) {
            return Ok(known);
        }
        let visible = VisibleRows::of(&deletion::read(self, vector.clone()).await?, rows);
        vectors.put(&key, visible.clone());
        Ok(visible)
    }
}

#[cfg(test)]
mod tests;
