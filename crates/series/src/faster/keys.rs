//! What rows are ordered by, held for the best row of each group.

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::{SortOptions, cast};
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::arrow::row::{OwnedRow, RowConverter, Rows, SortField};
use datafusion::error::Result;
use datafusion::logical_expr::EmitTo;

/// One whole number, instant or date is compared as it is; anything else in Arrow's row form.
pub(super) enum Keys {
    Whole { option: SortOptions, best: Vec<i128> },
    Rows { converter: RowConverter, best: Vec<Option<OwnedRow>> },
}

/// Of one batch.
pub(super) enum Given {
    Whole(Vec<i128>),
    Rows(Rows),
}

/// Above all that a column can hold, NULL included: a group that has no row yet.
const NONE: i128 = i128::MAX;
const NULL_LAST: i128 = i128::MAX - 1;

impl Keys {
    pub(super) fn new(types: &[DataType], options: &[SortOptions]) -> Result<Keys> {
        if let ([of], [option]) = (types, options)
            && is_whole(of)
        {
            return Ok(Keys::Whole { option: *option, best: Vec::new() });
        }
        let fields = types.iter().zip(options).map(|(of, option)| SortField::new_with_options(of.clone(), *option));
        Ok(Keys::Rows { converter: RowConverter::new(fields.collect())?, best: Vec::new() })
    }

    pub(super) fn given(&self, columns: &[ArrayRef]) -> Result<Given> {
        match self {
            Keys::Whole { option, .. } => Ok(Given::Whole(whole(&columns[0], *option)?)),
            Keys::Rows { converter, .. } => Ok(Given::Rows(converter.convert_columns(columns)?)),
        }
    }

    pub(super) fn grow(&mut self, groups: usize) {
        match self {
            Keys::Whole { best, .. } => best.resize(groups, NONE),
            Keys::Rows { best, .. } => best.resize(groups, None),
        }
    }

    /// Holds the row's key where it comes before the group's.
    pub(super) fn beats(&mut self, given: &Given, row: usize, group: usize) -> bool {
        match (self, given) {
            (Keys::Whole { best, .. }, Given::Whole(keys)) => {
                let is_before = keys[row] < best[group];
                if is_before {
                    best[group] = keys[row];
                }
                is_before
            }
            (Keys::Rows { best, .. }, Given::Rows(keys)) => {
                let key = keys.row(row);
                let is_before = best[group].as_ref().is_none_or(|held| key < held.row());
                if is_before {
                    best[group] = Some(key.owned());
                }
                is_before
            }
            // `given` makes its own kind.
            _ => false,
        }
    }

    pub(super) fn leave(&mut self, emitted: EmitTo) {
        match self {
            Keys::Whole { best, .. } => drop(emitted.take_needed(best)),
            Keys::Rows { best, .. } => drop(emitted.take_needed(best)),
        }
    }

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

/// Numbers of which the least comes first.
fn whole(column: &ArrayRef, option: SortOptions) -> Result<Vec<i128>> {
    let numbers = match column.data_type() {
        // A date has as many days as an Int32.
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
