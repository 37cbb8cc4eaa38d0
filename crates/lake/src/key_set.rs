//! A set of keys to look for, and which parts of a file may contain one of them: by the bounds of the file, of its row
//! groups and of its pages. Memory grows with the number of keys, not with the table.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Int64Type};
use arrow_row::{RowConverter, SortField};
use chrono::{DateTime, NaiveDateTime};
use hashbrown::{HashMap, HashSet};
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::file::metadata::RowGroupMetaData;
use serde_json::Value;

use crate::error::{Context, Error, Kind, Result};

/// A set of keys to look for.
pub struct KeySet {
    columns: Vec<String>,
    types: Vec<DataType>,
    converter: RowConverter,
    index: HashMap<Box<[u8]>, u32>,
    /// The values of each key column that is a number or a time.
    values: Vec<Option<KeyValues>>,
}

/// The values of the keys in one column, as integers in the same order.
struct KeyValues {
    sorted: Vec<i64>,
    set: HashSet<i64>,
}

impl KeyValues {
    fn of(array: &ArrayRef) -> Option<KeyValues> {
        let array = integers(array)?;
        let array = array.as_primitive::<Int64Type>();
        // NULL is a key of its own, and is not within bounds.
        if array.null_count() > 0 {
            return None;
        }
        let mut sorted = array.values().to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        let set = sorted.iter().copied().collect();
        Some(KeyValues { sorted, set })
    }

    /// Whether one of the values is within these bounds.
    fn any_within(&self, least: Option<i64>, greatest: Option<i64>) -> bool {
        let first = least.map_or(0, |least| self.sorted.partition_point(|value| *value < least));
        self.sorted.get(first).is_some_and(|value| greatest.is_none_or(|greatest| *value <= greatest))
    }
}

/// A row of a batch with one of the keys.
pub struct Match {
    /// The row's index in the batch.
    pub row: usize,
    /// The index of its key.
    pub key: usize,
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
        let values = arrays.iter().map(KeyValues::of).collect();
        Ok(KeySet { columns: columns.to_vec(), types, converter, index, values })
    }

    /// The columns.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The rows of a batch with one of the keys.
    pub(crate) fn matches(&self, batch: &RecordBatch) -> Result<Vec<Match>> {
        let mut arrays = Vec::with_capacity(self.columns.len());
        for (name, data_type) in self.columns.iter().zip(&self.types) {
            arrays.push(match batch.column_by_name(name) {
                // In a file from before the column was added, all rows have NULL in it.
                None => new_null_array(data_type, batch.num_rows()),
                Some(array) if array.data_type() == data_type => Arc::clone(array),
                Some(array) => cast(array, data_type).context("compare keys")?,
            });
        }
        let candidates = self.candidates(&arrays);
        if candidates.as_ref().is_some_and(Vec::is_empty) {
            return Ok(Vec::new());
        }
        if let Some(candidates) = &candidates {
            let rows = UInt32Array::from(candidates.clone());
            for array in &mut arrays {
                *array = take(array, &rows, None).context("compare keys")?;
            }
        }
        let rows = self.converter.convert_columns(&arrays).context("compare keys")?;
        let row_of = |at: usize| candidates.as_ref().map_or(at, |candidates| candidates[at] as usize);
        let found = rows.iter().enumerate().filter_map(|(at, row)| {
            let key = self.index.get(row.as_ref())?;
            Some(Match { row: row_of(at), key: *key as usize })
        });
        Ok(found.collect())
    }

    /// The rows whose values in each column of numbers or times are among those of the keys: few of a batch are, and only
    /// those are compared as a whole. `None` without such a column.
    fn candidates(&self, arrays: &[ArrayRef]) -> Option<Vec<u32>> {
        let mut candidates: Option<Vec<u32>> = None;
        for (array, values) in arrays.iter().zip(&self.values) {
            let Some((values, array)) = values.as_ref().zip(integers(array)) else { continue };
            let array = array.as_primitive::<Int64Type>();
            let has = |at: u32| !array.is_null(at as usize) && values.set.contains(&array.value(at as usize));
            candidates = Some(match candidates {
                None => (0..array.len() as u32).filter(|at| has(*at)).collect(),
                Some(before) => before.into_iter().filter(|at| has(*at)).collect(),
            });
        }
        candidates
    }

    /// Whether a file with these statistics in the log may contain one of the keys.
    pub(crate) fn may_be_in_file(&self, stats: Option<&str>) -> bool {
        if self.values.iter().all(Option::is_none) {
            return true;
        }
        let Some(stats) = stats.and_then(|text| serde_json::from_str::<Value>(text).ok()) else { return true };
        self.columns.iter().zip(&self.types).zip(&self.values).all(|((name, data_type), values)| {
            let bound =
                |side: &str| stats.get(side).and_then(|all| all.get(name)).and_then(|value| integer(value, data_type));
            values.as_ref().is_none_or(|values| values.any_within(bound("minValues"), bound("maxValues")))
        })
    }

    /// The rows of a row group that may have one of the keys, as ascending ranges.
    pub(crate) fn ranges_in_group(&self, metadata: &ArrowReaderMetadata, group: usize) -> Vec<Range<u64>> {
        let info = metadata.metadata().row_group(group);
        let rows = info.num_rows().unsigned_abs();
        let mut ranges: Vec<Range<u64>> = std::iter::once(0..rows).collect();
        for (name, values) in self.columns.iter().zip(&self.values) {
            let Some(values) = values else { continue };
            let converter = StatisticsConverter::try_new(name, metadata.schema(), metadata.parquet_schema());
            let Ok(converter) = converter else { continue };
            if !within_group(&converter, info, values) {
                return Vec::new();
            }
            if let Some(pages) = pages_within(&converter, metadata, group, values, rows) {
                ranges = intersection(&ranges, &pages);
            }
        }
        ranges
    }
}

fn within_group(converter: &StatisticsConverter<'_>, info: &RowGroupMetaData, values: &KeyValues) -> bool {
    let groups = std::slice::from_ref(info);
    let first = |array: ArrayRef| bounds(&array).and_then(|bounds| bounds.first().copied().flatten());
    let least = converter.row_group_mins(groups).ok().and_then(first);
    let greatest = converter.row_group_maxes(groups).ok().and_then(first);
    values.any_within(least, greatest)
}

/// The rows of the pages whose bounds contain one of the values; `None` where the file has no bounds of its pages.
fn pages_within(
    converter: &StatisticsConverter<'_>,
    metadata: &ArrowReaderMetadata,
    group: usize,
    values: &KeyValues,
    rows: u64,
) -> Option<Vec<Range<u64>>> {
    let (columns, offsets) = (metadata.metadata().column_index()?, metadata.metadata().offset_index()?);
    let least = bounds(&converter.data_page_mins(columns, offsets, &[group]).ok()?)?;
    let greatest = bounds(&converter.data_page_maxes(columns, offsets, &[group]).ok()?)?;
    let pages = offsets.get(group)?.get(converter.parquet_column_index()?)?.page_locations();
    if pages.len() != least.len() || pages.len() != greatest.len() {
        return None;
    }
    let starts: Vec<u64> = pages.iter().map(|page| page.first_row_index.unsigned_abs()).chain([rows]).collect();
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for (at, bounds) in least.into_iter().zip(greatest).enumerate() {
        if !values.any_within(bounds.0, bounds.1) {
            continue;
        }
        match ranges.last_mut() {
            Some(last) if last.end == starts[at] => last.end = starts[at + 1],
            _ => ranges.push(starts[at]..starts[at + 1]),
        }
    }
    Some(ranges)
}

/// Bounds as integers; a bound that is not known is `None`.
fn bounds(array: &ArrayRef) -> Option<Vec<Option<i64>>> {
    Some(integers(array)?.as_primitive::<Int64Type>().iter().collect())
}

/// The rows that are in ranges of both lists, each of which ascends.
fn intersection(one: &[Range<u64>], other: &[Range<u64>]) -> Vec<Range<u64>> {
    let (mut a, mut b, mut both) = (0, 0, Vec::new());
    while let (Some(left), Some(right)) = (one.get(a), other.get(b)) {
        let (start, end) = (left.start.max(right.start), left.end.min(right.end));
        if start < end {
            both.push(start..end);
        }
        if left.end <= right.end { a += 1 } else { b += 1 }
    }
    both
}

fn show(arrays: &[ArrayRef], columns: &[String], row: usize) -> String {
    let value = |array: &ArrayRef| arrow::util::display::array_value_to_string(array, row).unwrap_or_default();
    columns.iter().zip(arrays).map(|(name, array)| format!("{name}={}", value(array))).collect::<Vec<_>>().join(", ")
}

/// Numbers and times as integers in the same order; `None` for other types.
pub(crate) fn integers(array: &ArrayRef) -> Option<ArrayRef> {
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

/// A bound of the log's statistics as an integer.
pub(crate) fn integer(value: &Value, data_type: &DataType) -> Option<i64> {
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

#[cfg(test)]
mod tests;
