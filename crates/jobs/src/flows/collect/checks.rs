//! What a layout can't see in an answer: values of something else than was asked for, of the future, of another unit, and
//! of a clock that is wrong.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use arrow::util::display::array_value_to_string;
use base::text;
use chrono::{DateTime, Utc};

use super::rows::{Columns, KNOWN_AT, WindowRows, instants};
use super::versions::NewVersions;

/// The fewest known values with which units are compared.
const UNIT_VALUES_MIN: usize = 10;
/// The fewest values that must be found again at other times.
const CLOCK_VALUES_MIN: usize = 12;
/// The fewest where all of them are: where a run asks for few values again.
const CLOCK_VALUES_FEW: usize = 5;
/// The share of values that must be others than at their own times.
const CLOCK_OTHER: f64 = 0.5;
/// The share of values that must be those of the other time.
const CLOCK_FOUND: f64 = 0.9;
/// The errors of a clock that are looked for, in hours: a zone that is not the one of the layout.
const CLOCK_HOURS: [i64; 4] = [1, -1, 2, -2];

/// Why an answer is quarantined with rows of something else than was asked for: a column with the name of a part of the
/// item must have its value, or begin with it, as the code of a station does with that of its site.
pub fn other_item(whole: &RecordBatch, item: &BTreeMap<String, String>) -> Result<Option<String>> {
    for (part, asked) in item {
        let Some(column) = whole.column_by_name(part) else { continue };
        let texts = cast(column, &DataType::Utf8)?;
        let other = texts.as_string::<i32>().iter().flatten().find(|text| !text.starts_with(asked.as_str()));
        if let Some(other) = other {
            return Ok(Some(format!("it has rows of {part} {other:?}, and was asked for {asked:?}")));
        }
    }
    Ok(None)
}

/// Why an answer with a value of the future is quarantined.
pub fn future(columns: &Columns, rows: &WindowRows, whole: &RecordBatch, ahead_micros: i64) -> Result<Option<String>> {
    let times = columns.times(whole)?;
    let future = (0..whole.num_rows()).find(|row| times.value(*row) > rows.received(*row).saturating_add(ahead_micros));
    Ok(future.map(|row| {
        let shown = |micros: i64| DateTime::<Utc>::from_timestamp_micros(micros).unwrap_or_default().to_rfc3339();
        let (time, received) = (shown(times.value(row)), shown(rows.received(row)));
        format!("it has a value of {time}, and arrived at {received}: is the partner's clock right? `ahead` allows values of the future")
    }))
}

/// Why an answer is quarantined whose new and revised values, `changed`, are many times those of `before`.
pub fn unit(columns: &Columns, changed: &RecordBatch, before: &RecordBatch, jump_max: f64) -> Result<Option<String>> {
    for name in &columns.values {
        let (Some(now), Some(then)) = (median(changed, name, 1)?, median(before, name, UNIT_VALUES_MIN)?) else {
            continue;
        };
        let ratio = now / then;
        if then > 0.0 && now > 0.0 && !(1.0 / jump_max..=jump_max).contains(&ratio) {
            let times = if ratio > 1.0 { ratio } else { 1.0 / ratio };
            let way = if ratio > 1.0 { "greater" } else { "smaller" };
            return Ok(Some(format!(
                "values of {name:?} are about {} times {way} than before: has the unit changed? `jump_max` is {jump_max}",
                text::count(times.round() as u64)
            )));
        }
    }
    Ok(None)
}

/// The median of the absolute values of a column of numbers; `None` where there are fewer than `least`.
fn median(batch: &RecordBatch, name: &str, least: usize) -> Result<Option<f64>> {
    let Some(column) = batch.column_by_name(name).filter(|column| column.data_type().is_numeric()) else {
        return Ok(None);
    };
    let numbers = cast(column, &DataType::Float64)?;
    let mut numbers: Vec<f64> = numbers.as_primitive::<Float64Type>().iter().flatten().map(f64::abs).collect();
    if numbers.len() < least {
        return Ok(None);
    }
    numbers.sort_unstable_by(f64::total_cmp);
    Ok(Some(numbers[numbers.len() / 2]))
}

/// Why an answer is quarantined that has another value than a page before it for the same key.
pub fn contradiction(columns: &Columns, whole: &RecordBatch, new: &NewVersions) -> Result<Option<String>> {
    let Some((first, second)) = new.contradiction else { return Ok(None) };
    let shown = |row: usize, names: &[String]| -> Result<String> {
        let texts = names.iter().map(|name| {
            let column = whole.column_by_name(name).with_context(|| format!("the rows have no column {name:?}"))?;
            Ok(format!("{name} {}", array_value_to_string(column, row)?))
        });
        Ok(texts.collect::<Result<Vec<_>>>()?.join(", "))
    };
    let (key, one, other) =
        (shown(second, &columns.key)?, shown(first, &columns.values)?, shown(second, &columns.values)?);
    Ok(Some(format!("two pages have other values for {key}: {one}; and {other}")))
}

/// Why an answer is quarantined that has known values at other times than before.
pub fn clock(columns: &Columns, whole: &RecordBatch, before: &RecordBatch) -> Result<Option<String>> {
    let (series, values, times) = (columns.series_of(before)?, columns.values_of(before)?, columns.times(before)?);
    let known_at = instants(before, KNOWN_AT)?;
    let mut newest: HashMap<(&[u8], i64), (i64, usize)> = HashMap::new();
    for row in 0..before.num_rows() {
        let kept = newest.entry((series.row(row).data(), times.value(row))).or_insert((i64::MIN, row));
        if known_at.value(row) >= kept.0 {
            *kept = (known_at.value(row), row);
        }
    }
    let (new_series, new_values, new_times) =
        (columns.series_of(whole)?, columns.values_of(whole)?, columns.times(whole)?);
    // How many rows have a value known at another time, and how many of them are equal to it.
    let compared = |shift: i64| {
        let (mut found, mut equal) = (0_usize, 0_usize);
        for row in 0..whole.num_rows() {
            let at = (new_series.row(row).data(), new_times.value(row) - shift);
            if let Some((_, before)) = newest.get(&at) {
                found += 1;
                equal += usize::from(values.row(*before).data() == new_values.row(row).data());
            }
        }
        (found, equal)
    };
    let (found, equal) = compared(0);
    let other = found - equal;
    if other < CLOCK_VALUES_FEW || (other as f64) < CLOCK_OTHER * found as f64 {
        return Ok(None);
    }
    for hours in CLOCK_HOURS {
        let (found, equal) = compared(hours * 3_600_000_000);
        let is_found = match found >= CLOCK_VALUES_MIN {
            true => equal as f64 >= CLOCK_FOUND * found as f64,
            false => found >= CLOCK_VALUES_FEW && equal == found,
        };
        if is_found {
            let way = if hours > 0 { "later" } else { "earlier" };
            let hours = text::quantity(hours.unsigned_abs(), "hour");
            return Ok(Some(format!(
                "{equal} of {found} values are those known already, {hours} {way}: is the partner's clock or zone right? \
                 `clock_check = false` accepts them"
            )));
        }
    }
    Ok(None)
}
