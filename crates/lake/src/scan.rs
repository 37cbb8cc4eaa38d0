//! Reads a table through DataFusion's Parquet source: files, bounds and hidden rows come from the Delta
//! log, so that files with hidden rows are pruned, split and filtered like all others.
//!
//! Planning never opens a data file: row groups and pages are selected when a file is read. Footers and
//! deletion vectors are cached within bounds, for all queries of the process.

mod bounds;
mod cache;
pub(crate) mod files;

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, BooleanArray, UInt64Array};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::config::TableParquetOptions;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::{Column, DFSchema, ScalarValue, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::{DataFusionError, Result as Planned};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use futures::{StreamExt, TryStreamExt, stream};

use crate::error::{Context, Result};
use crate::table::Table;

pub(crate) use cache::FileCache;
pub(crate) use files::File;
use files::Files;

/// How many deletion vectors are fetched concurrently.
const VECTORS_AT_ONCE: usize = 8;

/// A table at one version, for DataFusion.
pub(crate) struct Scan {
    table: Table,
    files: Arc<Files>,
}

impl std::fmt::Debug for Scan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Scan({} at version {})", self.table.name(), self.table.version())
    }
}

impl Scan {
    /// All files of a table.
    pub(crate) fn of(table: &Table) -> Result<Scan> {
        Ok(Scan { files: table.files()?, table: table.clone() })
    }

    /// Some files of a table.
    pub(crate) fn over(table: &Table, files: &[File]) -> Result<Scan> {
        let only = table.files()?.only(files).context(format!("read files of {}", table.name()))?;
        Ok(Scan { files: Arc::new(only), table: table.clone() })
    }

    /// The files that may contain rows of a query, by their bounds; without filters, only as many as a limit needs.
    fn wanted(&self, state: &dyn Session, filters: &[Expr], limit: Option<usize>) -> Planned<Vec<&File>> {
        let all: Vec<&File> = self.files.files.iter().collect();
        let Some(filter) = conjunction(filters.iter().cloned()) else {
            return Ok(first(all, limit));
        };
        let schema = DFSchema::try_from(Arc::clone(&self.files.schema))?;
        let filter = state.create_physical_expr(filter, &schema)?;
        // `None` where bounds can't decide.
        let predicate = PruningPredicateBuilder::new().with_file_schema(Arc::clone(&self.files.schema)).build(filter);
        let Some(predicate) = predicate else { return Ok(all) };
        let keep = predicate.prune(&Bounds { schema: &self.files.schema, files: &all })?;
        Ok(all.into_iter().zip(keep).filter_map(|(file, keep)| keep.then_some(file)).collect())
    }

    async fn partitioned(&self, file: &File) -> Result<PartitionedFile> {
        let mut object = PartitionedFile::new_from_meta(file.object.clone());
        if let Some(picked) = &file.picked {
            object = object.with_extension(picked.clone());
        } else if let Some(vector) = &file.vector {
            let visible = self.table.visible(vector, file.rows).await?;
            object = object.with_extension(visible.selection());
        }
        Ok(object.with_statistics(Arc::clone(&file.statistics)))
    }
}

/// The first files, with at least as many rows as the limit.
fn first(files: Vec<&File>, limit: Option<usize>) -> Vec<&File> {
    let Some(limit) = limit else { return files };
    let mut rows = 0;
    let mut enough = Vec::new();
    for file in files {
        if rows >= limit && !enough.is_empty() {
            break;
        }
        rows += file.rows_visible();
        enough.push(file);
    }
    enough
}

impl Table {
    /// The table for DataFusion: deletion vectors applied, filters pushed down to files and pages.
    pub async fn provider(&self) -> Result<Arc<dyn TableProvider>> {
        Ok(Arc::new(Scan::of(self)?))
    }
}

#[async_trait]
impl TableProvider for Scan {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.files.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// Inexact, since bounds select files and pages, not rows. DataFusion decides later which filters the Parquet
    /// source applies to rows.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Planned<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    fn statistics(&self) -> Option<Statistics> {
        Some(self.files.total.clone())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Planned<Arc<dyn ExecutionPlan>> {
        let schema = &self.files.schema;
        let files = self.wanted(state, filters, limit)?;
        if files.is_empty() {
            let projected = match projection {
                Some(columns) => Arc::new(schema.project(columns)?),
                None => Arc::clone(schema),
            };
            return Ok(Arc::new(EmptyExec::new(projected)));
        }
        let total = if files.len() == self.files.files.len() {
            self.files.total.clone()
        } else {
            Statistics::try_merge_iter(files.iter().map(|file| file.statistics.as_ref()), schema)?
        };
        let opening: Vec<_> = files.into_iter().map(|file| self.partitioned(file)).collect();
        let objects: Vec<PartitionedFile> = stream::iter(opening)
            .buffered(VECTORS_AT_ONCE)
            .try_collect()
            .await
            .map_err(|e| DataFusionError::External(Box::new(e)))?;
        let options =
            TableParquetOptions { global: state.config_options().execution.parquet.clone(), ..Default::default() };
        let lake = &self.table.lake;
        let readers =
            CachedParquetFileReaderFactory::new(Arc::clone(lake.store()), Arc::clone(&lake.file_cache().footers));
        let source = ParquetSource::new(Arc::clone(schema))
            .with_table_parquet_options(options)
            .with_parquet_file_reader_factory(Arc::new(readers));
        let root = lake.register(state.runtime_env())?;
        let groups = FileGroup::new(objects).split_files(state.config().target_partitions());
        let groups = groups.into_iter().map(|group| described(group, schema)).collect::<Planned<Vec<_>>>()?;
        let config = FileScanConfigBuilder::new(root, Arc::new(source))
            .with_file_groups(groups)
            .with_statistics(total)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

fn described(group: FileGroup, schema: &SchemaRef) -> Planned<FileGroup> {
    let each: Vec<_> = group.iter().filter_map(|file| file.statistics.clone()).collect();
    let total = Statistics::try_merge_iter(each.iter().map(AsRef::as_ref), schema)?;
    Ok(group.with_statistics(Arc::new(total)))
}

/// The bounds of files for pruning. Those of a file with hidden rows may be wider than its visible rows, which is
/// correct for pruning.
struct Bounds<'a> {
    schema: &'a SchemaRef,
    files: &'a [&'a File],
}

impl Bounds<'_> {
    fn values(&self, column: &Column, of: fn(&File, usize) -> Option<&ScalarValue>) -> Option<ArrayRef> {
        let (at, field) = self.schema.column_with_name(&column.name)?;
        let none = ScalarValue::try_from(field.data_type()).ok()?;
        let values = self.files.iter().map(|file| of(file, at).cloned().unwrap_or_else(|| none.clone()));
        ScalarValue::iter_to_array(values).ok()
    }
}

fn value(bound: &Precision<ScalarValue>) -> Option<&ScalarValue> {
    match bound {
        Precision::Exact(value) | Precision::Inexact(value) => Some(value),
        Precision::Absent => None,
    }
}

impl PruningStatistics for Bounds<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.values(column, |file, at| value(&file.statistics.column_statistics.get(at)?.min_value))
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.values(column, |file, at| value(&file.statistics.column_statistics.get(at)?.max_value))
    }

    fn num_containers(&self) -> usize {
        self.files.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let (at, _) = self.schema.column_with_name(&column.name)?;
        let counts = self.files.iter().map(|file| match file.statistics.column_statistics.get(at)?.null_count {
            Precision::Exact(nulls) => Some(nulls as u64),
            _ => None,
        });
        Some(Arc::new(counts.collect::<UInt64Array>()))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        let counts = self.files.iter().map(|file| Some(file.rows_visible() as u64));
        Some(Arc::new(counts.collect::<UInt64Array>()))
    }

    fn contained(&self, _: &Column, _: &std::collections::HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

#[cfg(test)]
mod tests;
