//! Finds rows with equal values, by hashes of 128 bits: memory depends on the number of rows, not on their texts.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use chrono::NaiveDateTime;
use xxhash_rust::xxh3::Xxh3;

use super::value::Value;
use crate::{Error, Kind, Result};

/// The most rows that are compared, which take about 600 MB; more are better compared in SQL.
pub const ROWS_MAX: usize = 10_000_000;

/// The hash of a row's values in some columns; `None` where one of them could not be read.
pub fn hash(row: &[Option<Value<'_>>], unread: &[bool], places: &[usize]) -> Option<u128> {
    let mut state = Xxh3::new();
    for &at in places {
        if unread[at] {
            return None;
        }
        add(&mut state, row[at].as_ref());
    }
    Some(state.digest128())
}

/// Adds a value with its type and length, so that different rows never give the same bytes.
fn add(state: &mut Xxh3, value: Option<&Value<'_>>) {
    let mut with = |kind: u8, bytes: &[u8]| {
        state.update(&[kind]);
        state.update(&(bytes.len() as u64).to_le_bytes());
        state.update(bytes);
    };
    match value {
        None => with(0, &[]),
        Some(Value::Text(text)) => with(1, text.as_bytes()),
        Some(Value::Whole(whole)) => with(2, &whole.to_le_bytes()),
        Some(Value::Decimal(mantissa)) => with(3, &mantissa.to_le_bytes()),
        Some(Value::Double(double)) => with(4, &double.to_bits().to_le_bytes()),
        Some(Value::Boolean(value)) => with(5, &[u8::from(*value)]),
        Some(Value::Date(days)) => with(6, &days.to_le_bytes()),
        Some(Value::Instant(at)) => with(7, &at.to_le_bytes()),
        Some(Value::InOrder { local, .. }) => with(8, &local.and_utc().timestamp_micros().to_le_bytes()),
    }
}

/// An earlier row with the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EarlierRow {
    /// Its line.
    pub line: u64,
    /// Whether all of its values are the same.
    pub is_same: bool,
}

/// The keys of a file's rows.
#[derive(Default)]
pub struct RowKeys(HashMap<u128, (u64, u128)>);

impl RowKeys {
    /// Adds the key of a row, or returns the earlier row that has it.
    ///
    /// # Errors
    /// `FixSetup` for more than [`ROWS_MAX`] keys.
    pub fn insert(&mut self, key: u128, whole_row: u128, line: u64) -> Result<Option<EarlierRow>> {
        let len = self.0.len();
        match self.0.entry(key) {
            Entry::Occupied(first) => {
                let (line, row) = *first.get();
                Ok(Some(EarlierRow { line, is_same: row == whole_row }))
            }
            Entry::Vacant(_) if len >= ROWS_MAX => Err(too_many("`key`")),
            Entry::Vacant(free) => {
                free.insert((line, whole_row));
                Ok(None)
            }
        }
    }
}

/// The error for a file with more rows than can be compared; `what` is the setting that needs it.
pub fn too_many(what: &str) -> Error {
    let what = format!(
        "read the rows: there are more than {ROWS_MAX} to compare; split the file, or remove {what} from the layout"
    );
    Error::new(Kind::FixSetup, what)
}

/// Counts the local times of hours that occur twice, by column and series.
#[derive(Default)]
pub struct RepeatedTimes(HashMap<(usize, u128, NaiveDateTime), u32>);

impl RepeatedTimes {
    /// Counts a time, and returns how often it was counted before.
    pub fn count(&mut self, column: usize, series: u128, local: NaiveDateTime) -> Result<u32> {
        if self.0.len() >= ROWS_MAX {
            return Err(too_many("`ambiguous = \"in-order\"`"));
        }
        let times = self.0.entry((column, series, local)).or_default();
        *times += 1;
        Ok(*times - 1)
    }
}
