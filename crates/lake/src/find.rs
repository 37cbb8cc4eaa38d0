//! Finds rows of a table by key. Files and row groups that can't contain any of the keys are skipped by
//! their statistics; of the others only the columns of the key and the order are read. Memory grows with
//! the number of keys, not with the table.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use arrow_row::{RowConverter, SortField};
use chrono::{DateTime, NaiveDateTime};
use deltalake::kernel::LogicalFileView;
use futures::TryStreamExt;
use hashbrown::HashMap;
use object_store::path::Path;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use roaring::RoaringTreemap;
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_128;

use crate::deletion::HiddenRows;
use crate::error::{Context, Error, Kind, Result};
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

/// A set of keys to look for.
pub struct KeySet {
    columns: Vec<String>,
    types: Vec<DataType>,
    converter: RowConverter,
    index: HashMap<Box<[u8]>, u32>,
    /// The least and greatest value of each key column that is a number or a time.
    bounds: Vec<Option<(i64, i64)>>,
}

impl KeySet {
    /// The keys of a batch's rows in `columns`.
    ///
    /// # Errors
    /// `FixInput` where two rows have the same key.
    pub fn of(batch: &RecordBatch, columns: &[String]) -> Result<KeySet> {
        KeySet::read(batch, columns, true)
    }

    /// The keys of a batch's rows, of which several may have the same key: [`FoundRow::index`] is the last of them.
    pub fn with_duplicates(batch: &RecordBatch, columns: &[String]) -> Result<KeySet> {
        KeySet::read(batch, columns, false)
    }

    fn read(batch: &RecordBatch, columns: &[String], distinct: bool) -> Result<KeySet> {
        let mut arrays = Vec::with_capacity(columns.len());
        for name in columns {
            let array = batch.column_by_name(name).ok_or_else(|| {
                Error::new(Kind::Bug, format!("look for rows by column {name:?}, which does not exist"))
            })?;
            arrays.push(Arc::clone(array));
        }
        let types: Vec<DataType> = arrays.iter().map(|a| a.data_type().clone()).collect();
        let converter =
            RowConverter::new(types.iter().cloned().map(SortField::new).collect()).context("compare keys")?;
        let rows = converter.convert_columns(&arrays).context("compare keys")?;
        let mut index = HashMap::with_capacity(rows.num_rows());
        for (row, at) in rows.iter().zip(0u32..) {
            if index.insert(Box::from(row.as_ref()), at).is_some() && distinct {
                let key = show(&arrays, columns, at as usize);
                return Err(Error::new(Kind::FixInput, format!("two rows have the key {key}")));
            }
        }
        let bounds = arrays.iter().map(bounds_of).collect();
        Ok(KeySet { columns: columns.to_vec(), types, converter, index, bounds })
    }

    fn find(&self, row: &[u8]) -> Option<usize> {
        self.index.get(row).map(|at| *at as usize)
    }

    /// Whether a key's value can be within these bounds of a column.
    fn may_contain(&self, column: usize, least: Option<i64>, greatest: Option<i64>) -> bool {
        let Some((low, high)) = self.bounds[column] else { return true };
        least.is_none_or(|least| least <= high) && greatest.is_none_or(|greatest| greatest >= low)
    }
}

fn show(arrays: &[ArrayRef], columns: &[String], row: usize) -> String {
    let value = |array: &ArrayRef| arrow::util::display::array_value_to_string(array, row).unwrap_or_default();
    columns.iter().zip(arrays).map(|(name, array)| format!("{name}={}", value(array))).collect::<Vec<_>>().join(", ")
}

/// Numbers and times as integers in the same order; `None` for other types.
fn integers(array: &ArrayRef) -> Option<ArrayRef> {
    let ordered = matches!(
        array.data_type(),
        DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::Date32 | DataType::Timestamp(..)
    );
    if !ordered {
        return None;
    }
    let array =
        if array.data_type() == &DataType::Date32 { cast(array, &DataType::Int32).ok()? } else { Arc::clone(array) };
    cast(&array, &DataType::Int64).ok()
}

fn bounds_of(array: &ArrayRef) -> Option<(i64, i64)> {
    let array = integers(array)?;
    let array = array.as_primitive::<Int64Type>();
    Some((arrow::compute::min(array)?, arrow::compute::max(array)?))
}

impl Table {
    /// The rows with one of the keys that are visible and not in `excluded`.
    pub async fn find(&self, keys: &KeySet, order: &OrderColumns, excluded: &HiddenRows) -> Result<Vec<FoundRow>> {
        let mut found = Vec::new();
        for file in self.delta.snapshot().context(format!("read the files of {}", self.name))?.log_data().iter() {
            if may_contain_keys(keys, file.stats().as_deref()) {
                let hidden = HiddenRows::of_file(self, &file).await?;
                let searched = SearchedFile { path: &file.path(), bytes: file.size().unsigned_abs(), hidden };
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
        for file in files.iter().filter(|file| may_contain_keys(keys, Some(&file.stats))) {
            let searched = SearchedFile { path: &file.path, bytes: file.bytes, hidden: None };
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
        let search = async {
            let mut reader = ObjectReader::new(self.store(), Path::from(file.path), file.bytes);
            let metadata = reader.get_metadata(None).await.context("read the footer")?;
            let metadata =
                ArrowReaderMetadata::try_new(metadata, ArrowReaderOptions::new()).context("read the footer")?;
            let (present, path) = (file.hidden, Arc::<str>::from(file.path));
            let (schema, parquet) = (metadata.schema(), metadata.parquet_schema());
            let wanted: Vec<usize> = (0..schema.fields().len())
                .filter(|at| {
                    let name = schema.field(*at).name();
                    keys.columns.contains(name) || order.names.contains(name)
                })
                .collect();
            let mask = ProjectionMask::roots(parquet, wanted);
            let mut start = 0;
            for (group, info) in metadata.metadata().row_groups().iter().enumerate() {
                let rows = info.num_rows().unsigned_abs();
                if row_group_may_contain_keys(keys, &metadata, group) {
                    let stream = ParquetRecordBatchStreamBuilder::new_with_metadata(reader.clone(), metadata.clone())
                        .with_projection(mask.clone())
                        .with_row_groups(vec![group])
                        .with_batch_size(16_384)
                        .build()
                        .context("read a row group")?;
                    let mut at = start;
                    let mut batches = std::pin::pin!(stream);
                    while let Some(batch) = batches.try_next().await.context("read a row group")? {
                        let hidden = |position| {
                            present.as_ref().is_some_and(|rows| rows.contains(position))
                                || excluded.contains(&path, position)
                        };
                        matches_in(&batch, keys, order, &path, at, hidden, found)?;
                        at += batch.num_rows() as u64;
                    }
                }
                start += rows;
            }
            Ok::<_, Error>(())
        };
        search.await.map_err(|e| Error::new(e.kind, context).because(e))
    }
}

fn matches_in(
    batch: &RecordBatch,
    keys: &KeySet,
    order: &OrderColumns,
    path: &Arc<str>,
    start: u64,
    hidden: impl Fn(u64) -> bool,
    found: &mut Vec<FoundRow>,
) -> Result<()> {
    let mut arrays = Vec::with_capacity(keys.columns.len());
    for (name, data_type) in keys.columns.iter().zip(&keys.types) {
        // In a file from before the column was added, all rows have NULL in it.
        let Some(array) = batch.column_by_name(name) else {
            arrays.push(new_null_array(data_type, batch.num_rows()));
            continue;
        };
        arrays.push(if array.data_type() == data_type {
            Arc::clone(array)
        } else {
            cast(array, data_type).context("compare keys")?
        });
    }
    let rows = keys.converter.convert_columns(&arrays).context("compare keys")?;
    let mut orders = None;
    for (row, at) in rows.iter().zip(0usize..) {
        let Some(index) = keys.find(row.as_ref()) else { continue };
        let position = start + at as u64;
        if !hidden(position) {
            let order = match order.names.is_empty() {
                true => None,
                // Computed only for batches with one of the keys.
                false => Some(match &mut orders {
                    Some(orders) => Vec::as_slice(orders)[at],
                    none => none.insert(order_digests(batch, &order.names, &order.types)?)[at],
                }),
            };
            found.push(FoundRow { path: Arc::clone(path), position, index, order });
        }
    }
    Ok(())
}

/// A data file to look for rows in.
struct SearchedFile<'a> {
    path: &'a str,
    bytes: u64,
    /// The rows that its deletion vector hides.
    hidden: Option<RoaringTreemap>,
}

fn may_contain_keys(keys: &KeySet, stats: Option<&str>) -> bool {
    let Some(stats) = stats.and_then(|text| serde_json::from_str::<Value>(text).ok()) else { return true };
    keys.columns.iter().enumerate().all(|(at, name)| {
        let bound =
            |side: &str| stats.get(side).and_then(|values| values.get(name)).and_then(|v| integer(v, &keys.types[at]));
        keys.may_contain(at, bound("minValues"), bound("maxValues"))
    })
}

/// A bound of the log's statistics as an integer.
fn integer(value: &Value, data_type: &DataType) -> Option<i64> {
    match data_type {
        DataType::Timestamp(_, Some(_)) => {
            DateTime::parse_from_rfc3339(value.as_str()?).ok().map(|at| at.timestamp_micros())
        }
        DataType::Timestamp(_, None) => {
            let text = value.as_str()?.replace(' ', "T");
            let at = NaiveDateTime::parse_from_str(&text, "%Y-%m-%dT%H:%M:%S%.f").ok()?;
            Some(at.and_utc().timestamp_micros())
        }
        DataType::Int16 | DataType::Int32 | DataType::Int64 => value.as_i64(),
        _ => None,
    }
}

fn row_group_may_contain_keys(keys: &KeySet, metadata: &ArrowReaderMetadata, group: usize) -> bool {
    let groups = std::slice::from_ref(metadata.metadata().row_group(group));
    keys.columns.iter().enumerate().all(|(at, name)| {
        if keys.bounds[at].is_none() {
            return true;
        }
        let Ok(converter) = StatisticsConverter::try_new(name, metadata.schema(), metadata.parquet_schema()) else {
            return true;
        };
        let first = |array: ArrayRef| {
            let array = integers(&array)?;
            array.is_valid(0).then(|| array.as_primitive::<Int64Type>().value(0))
        };
        let least = converter.row_group_mins(groups).ok().and_then(first);
        let greatest = converter.row_group_maxes(groups).ok().and_then(first);
        keys.may_contain(at, least, greatest)
    })
}
