//! The keys by which rows are ordered, and the least key of each group.

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::{SortOptions, cast};
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::arrow::row::{OwnedRow, RowConverter, Rows, SortField};
use datafusion::error::Result;
use datafusion::logical_expr::EmitTo;

/// The least key of each group. A single integer, timestamp or date is compared as an integer, all else in Arrow's row
/// format.
pub(super) enum Keys {
    Whole { option: SortOptions, best: Vec<i128> },
    Rows { converter: RowConverter, best: Vec<Option<OwnedRow>> },
}

/// The keys of one batch.
pub(super) enum BatchKeys {
    Whole(Vec<i128>),
    Rows(Rows),
}

/// The key of a group that has no row yet: greater than any key of a column, that of NULL included.
const NONE: i128 = i128::MAX;
const NULL_LAST: i128 = i128::MAX - 1;

impl Keys {
    /// No groups yet, for keys of these types in these orders.
    pub(super) fn new(types: &[DataType], options: &[SortOptions]) -> Result<Keys> {
        if let ([of], [option]) = (types, options)
            && is_whole(of)
        {
            return Ok(Keys::Whole { option: *option, best: Vec::new() });
        }
        let fields = types.iter().zip(options).map(|(of, option)| SortField::new_with_options(of.clone(), *option));
        Ok(Keys::Rows { converter: RowConverter::new(fields.collect())?, best: Vec::new() })
    }

    /// The keys of a batch's rows.
    pub(super) fn of_batch(&self, columns: &[ArrayRef]) -> Result<BatchKeys> {
        match self {
            Keys::Whole { option, .. } => Ok(BatchKeys::Whole(whole(&columns[0], *option)?)),
            Keys::Rows { converter, .. } => Ok(BatchKeys::Rows(converter.convert_columns(columns)?)),
        }
    }

    /// Makes room for `groups` groups in all.
    pub(super) fn grow(&mut self, groups: usize) {
        match self {
            Keys::Whole { best, .. } => best.resize(groups, NONE),
            Keys::Rows { best, .. } => best.resize(groups, None),
        }
    }

    /// Whether the row's key is less than that of its group; then it becomes the group's.
    pub(super) fn beats(&mut self, given: &BatchKeys, row: usize, group: usize) -> bool {
        match (self, given) {
            (Keys::Whole { best, .. }, BatchKeys::Whole(keys)) => {
                let is_before = keys[row] < best[group];
                if is_before {
                    best[group] = keys[row];
                }
                is_before
            }
            (Keys::Rows { best, .. }, BatchKeys::Rows(keys)) => {
                let key = keys.row(row);
                let is_before = best[group].as_ref().is_none_or(|held| key < held.row());
                if is_before {
                    best[group] = Some(key.owned());
                }
                is_before
            }
            // `of_batch` gives the kind of `self`.
            _ => false,
        }
    }

    /// Removes the groups that were emitted.
    pub(super) fn remove(&mut self, emitted: EmitTo) {
        match self {
            Keys::Whole { best, .. } => drop(emitted.take_needed(best)),
            Keys::Rows { best, .. } => drop(emitted.take_needed(best)),
        }
    }

    /// The memory in use, in bytes.
    pub(super) fn size(&self) -> usize {
        match self {
            Keys::Whole { best, .. } => best.capacity() * size_of::<i128>(),
            Keys::Rows { converter, best } => {
                let row = best.iter().flatten().next().map_or(0, |row| row.as_ref().len());
                converter.size() + best.capacity() * (size_of::<Option<OwnedRow>>() + row)
            }
        }
    }
}

fn is_whole(of: &DataType) -> bool {
    let unsigned = matches!(of, DataType::UInt8 | DataType::UInt16 | DataType::UInt32);
    of.is_signed_integer() || unsigned || matches!(of, DataType::Timestamp(..) | DataType::Date32)
}

/// Keys as integers, of which the least comes first.
fn whole(column: &ArrayRef, option: SortOptions) -> Result<Vec<i128>> {
    let numbers = match column.data_type() {
        // A date is a number of days in an Int32.
        DataType::Date32 => cast(&cast(column, &DataType::Int32)?, &DataType::Int64)?,
        _ => cast(column, &DataType::Int64)?,
    };
    let numbers = numbers.as_primitive::<Int64Type>();
    let key = |value: i64| i128::from(if option.descending { !value } else { value });
    let null = if option.nulls_first { i128::MIN } else { NULL_LAST };
    Ok(match numbers.null_count() {
        0 => numbers.values().iter().map(|value| key(*value)).collect(),
        _ => numbers.iter().map(|value| value.map_or(null, key)).collect(),
    })
}
