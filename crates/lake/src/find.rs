//! Finds rows of a table by key. Files, row groups and pages that can't contain any of the keys are skipped by their
//! bounds; of the others only the columns of the key and the order are read. Footers are kept in memory. So a look-up
//! reads a few pages for each key, also of a large table, where the files' rows are sorted by key.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use arrow_row::{RowConverter, SortField};
use chrono::{DateTime, Utc};
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use deltalake::kernel::LogicalFileView;
use futures::TryStreamExt;
use object_store::ObjectMeta;
use object_store::path::Path;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, RowSelection};
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use roaring::RoaringTreemap;
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_128;

use crate::deletion::HiddenRows;
use crate::error::{Context, Error, Kind, Result};
use crate::key_set::{KeySet, Match, integer, integers};
use crate::object_reader::ObjectReader;
use crate::table::Table;
use crate::writer::DataFile;

/// A row of the table whose key was looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundRow {
    /// The data file, relative to the table's root.
    pub path: Arc<str>,
    /// The row's position in the file, from 0.
    pub position: u64,
    /// The index of its key among the keys looked for.
    pub index: usize,
    /// The digest of its order columns, as [`order_digests`] computes it; `None` where there are none.
    pub order: Option<u128>,
}

/// For each row a digest of its values in the columns `names`, to compare versions of a row. Values are converted to
/// `types` first; a column that the batch does not have counts as NULL.
pub fn order_digests(batch: &RecordBatch, names: &[String], types: &[DataType]) -> Result<Vec<u128>> {
    let mut arrays = Vec::with_capacity(names.len());
    for (name, data_type) in names.iter().zip(types) {
        arrays.push(match batch.column_by_name(name) {
            None => new_null_array(data_type, batch.num_rows()),
            Some(array) if array.data_type() == data_type => Arc::clone(array),
            Some(array) => cast(array, data_type).context("compare versions of rows")?,
        });
    }
    let fields = types.iter().cloned().map(SortField::new).collect();
    let converter = RowConverter::new(fields).context("compare versions of rows")?;
    let rows = converter.convert_columns(&arrays).context("compare versions of rows")?;
    Ok(rows.iter().map(|row| xxh3_128(row.as_ref())).collect())
}

/// The columns whose values distinguish the versions of a row, with their types.
#[derive(Debug, Clone, Default)]
pub struct OrderColumns {
    /// The names.
    pub names: Vec<String>,
    /// The types, in the order of `names`.
    pub types: Vec<DataType>,
}

impl Table {
    /// The rows with one of the keys that are visible and not in `excluded`.
    pub async fn find(&self, keys: &KeySet, order: &OrderColumns, excluded: &HiddenRows) -> Result<Vec<FoundRow>> {
        let mut found = Vec::new();
        for file in self.delta.snapshot().context(format!("read the files of {}", self.name))?.log_data().iter() {
            if keys.may_be_in_file(file.stats().as_deref()) {
                let hidden = HiddenRows::of_file(self, &file).await?;
                let modified_at = DateTime::from_timestamp_millis(file.modification_time()).unwrap_or_default();
                let (path, bytes) = (file.path(), file.size().unsigned_abs());
                let searched = SearchedFile { path: &path, bytes, modified_at, hidden };
                self.find_in(searched, keys, order, excluded, &mut found).await?;
            }
        }
        Ok(found)
    }

    /// As [`Table::find`], in files that are not committed yet.
    pub async fn find_uncommitted(
        &self,
        files: &[DataFile],
        keys: &KeySet,
        order: &OrderColumns,
        excluded: &HiddenRows,
    ) -> Result<Vec<FoundRow>> {
        let mut found = Vec::new();
        for file in files.iter().filter(|file| keys.may_be_in_file(Some(&file.stats))) {
            let modified_at = DateTime::default();
            let searched = SearchedFile { path: &file.path, bytes: file.bytes, modified_at, hidden: None };
            self.find_in(searched, keys, order, excluded, &mut found).await?;
        }
        Ok(found)
    }

    /// The visible rows whose value in a column of integers, days or instants (in microseconds) is `least` or more.
    ///
    /// # Errors
    /// `FixInput` for a column of another type.
    pub async fn rows_from(&self, column: &str, least: i64) -> Result<HiddenRows> {
        let context = || format!("look for rows of {} by {column:?}", self.name());
        let schema = self.schema()?;
        let data_type = schema.field_with_name(column).context(context())?.data_type();
        let mut found = HiddenRows::default();
        for file in self.delta.snapshot().context(context())?.log_data().iter() {
            let stats = file.stats().and_then(|text| serde_json::from_str::<Value>(&text).ok());
            let greatest = stats.and_then(|stats| integer(stats.get("maxValues")?.get(column)?, data_type));
            if greatest.is_none_or(|greatest| greatest >= least) {
                self.rows_from_in(&file, column, least, &mut found)
                    .await
                    .map_err(|e| Error::new(e.kind, format!("{} in {}", context(), file.path())).because(e))?;
            }
        }
        Ok(found)
    }

    async fn rows_from_in(
        &self,
        file: &LogicalFileView,
        column: &str,
        least: i64,
        found: &mut HiddenRows,
    ) -> Result<()> {
        let reader = ObjectReader::new(self.store(), Path::from(file.path().as_ref()), file.size().unsigned_abs());
        let present = HiddenRows::of_file(self, file).await?;
        let builder = ParquetRecordBatchStreamBuilder::new(reader).await.context("read the footer")?;
        let mask = ProjectionMask::columns(builder.parquet_schema(), [column]);
        let stream = builder.with_projection(mask).with_batch_size(16_384).build().context("read a column")?;
        let (mut batches, mut start) = (std::pin::pin!(stream), 0u64);
        while let Some(batch) = batches.try_next().await.context("read a column")? {
            // A file written before the column was added has no such rows.
            let Some(values) = batch.columns().first() else { return Ok(()) };
            let values = integers(values)
                .ok_or_else(|| Error::new(Kind::FixInput, format!("compare a column of {}", values.data_type())))?;
            for (value, at) in values.as_primitive::<Int64Type>().iter().zip(start..) {
                let is_hidden = present.as_ref().is_some_and(|rows| rows.contains(at));
                if value.is_some_and(|value| value >= least) && !is_hidden {
                    found.insert(file.path().as_ref(), at);
                }
            }
            start += batch.num_rows() as u64;
        }
        Ok(())
    }

    async fn find_in(
        &self,
        file: SearchedFile<'_>,
        keys: &KeySet,
        order: &OrderColumns,
        excluded: &HiddenRows,
        found: &mut Vec<FoundRow>,
    ) -> Result<()> {
        let context = format!("look for rows in {} of {}", file.path, self.name);
        let path = Arc::<str>::from(file.path);
        let hidden = |position| {
            file.hidden.as_ref().is_some_and(|rows| rows.contains(position)) || excluded.contains(&path, position)
        };
        let search = async {
            let metadata = self.footer(&file).await?;
            let reader = ObjectReader::new(self.store(), Path::from(file.path), file.bytes);
            let schema = metadata.schema();
            let wanted = (0..schema.fields().len()).filter(|at| {
                let name = schema.field(*at).name();
                keys.columns().contains(name) || order.names.contains(name)
            });
            let mask = ProjectionMask::roots(metadata.parquet_schema(), wanted);
            let mut start = 0;
            for (group, info) in metadata.metadata().row_groups().iter().enumerate() {
                let rows = info.num_rows().unsigned_abs();
                let ranges = keys.ranges_in_group(&metadata, group);
                if !ranges.is_empty() {
                    let selected = ranges.iter().map(|range| range.start as usize..range.end as usize);
                    let selection = RowSelection::from_consecutive_ranges(selected, rows as usize);
                    let stream = ParquetRecordBatchStreamBuilder::new_with_metadata(reader.clone(), metadata.clone())
                        .with_projection(mask.clone())
                        .with_row_groups(vec![group])
                        .with_row_selection(selection)
                        .with_batch_size(16_384)
                        .build()
                        .context("read a row group")?;
                    let mut positions = ranges.into_iter().flatten().map(|at| start + at);
                    let mut batches = std::pin::pin!(stream);
                    while let Some(batch) = batches.try_next().await.context("read a row group")? {
                        let positions: Vec<u64> = positions.by_ref().take(batch.num_rows()).collect();
                        matches_in(&batch, &positions, keys, order, &path, hidden, found)?;
                    }
                }
                start += rows;
            }
            Ok::<_, Error>(())
        };
        search.await.map_err(|e| Error::new(e.kind, context).because(e))
    }

    /// The footer of a data file with the bounds of its pages, by the cache of the lake.
    async fn footer(&self, file: &SearchedFile<'_>) -> Result<ArrowReaderMetadata> {
        let object = ObjectMeta {
            location: Path::from(format!("{}/{}", self.lake.table_path(&self.name), file.path)),
            last_modified: file.modified_at,
            size: file.bytes,
            e_tag: None,
            version: None,
        };
        let cache = Arc::clone(&self.lake.file_cache().footers);
        let reading = DFParquetMetadata::new(self.lake.store().as_ref(), &object).with_file_metadata_cache(Some(cache));
        let footer = reading.fetch_metadata().await.context("read the footer")?;
        ArrowReaderMetadata::try_new(footer, ArrowReaderOptions::new()).context("read the footer")
    }
}

fn matches_in(
    batch: &RecordBatch,
    positions: &[u64],
    keys: &KeySet,
    order: &OrderColumns,
    path: &Arc<str>,
    hidden: impl Fn(u64) -> bool,
    found: &mut Vec<FoundRow>,
) -> Result<()> {
    let mut orders = None;
    for Match { row, key } in keys.matches(batch)? {
        let position = positions[row];
        if !hidden(position) {
            let order = match order.names.is_empty() {
                true => None,
                // Computed only for batches with one of the keys.
                false => Some(match &mut orders {
                    Some(orders) => Vec::as_slice(orders)[row],
                    none => none.insert(order_digests(batch, &order.names, &order.types)?)[row],
                }),
            };
            found.push(FoundRow { path: Arc::clone(path), position, index: key, order });
        }
    }
    Ok(())
}

/// A data file to look for rows in.
struct SearchedFile<'a> {
    path: &'a str,
    bytes: u64,
    /// When it was written, by the log.
    modified_at: DateTime<Utc>,
    /// The rows that its deletion vector hides.
    hidden: Option<RoaringTreemap>,
}
