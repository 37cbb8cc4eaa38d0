//! Finds rows with equal values, by hashes of 128 bits: memory depends on the number of rows, not on their texts.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use chrono::NaiveDateTime;
use xxhash_rust::xxh3::Xxh3;

use super::value::Value;

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
    /// There are more than [`ROWS_MAX`] keys.
    pub fn insert(&mut self, key: u128, whole_row: u128, line: u64) -> Result<Option<EarlierRow>, TooManyRows> {
        let len = self.0.len();
        match self.0.entry(key) {
            Entry::Occupied(first) => {
                let (line, row) = *first.get();
                Ok(Some(EarlierRow { line, is_same: row == whole_row }))
            }
            Entry::Vacant(_) if len >= ROWS_MAX => Err(TooManyRows("`key`")),
            Entry::Vacant(free) => {
                free.insert((line, whole_row));
                Ok(None)
            }
        }
    }
}

/// A file has more rows than can be compared; the text is the setting of the layout that compares them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyRows(pub &'static str);

/// The local times of hours that occur twice, by column and series.
#[derive(Default)]
pub struct RepeatedTimes {
    times: HashMap<(usize, u128, NaiveDateTime), RepeatedTime>,
    /// The instant of the row before.
    last: HashMap<(usize, u128), i64>,
}

struct RepeatedTime {
    is_latest_first: bool,
    is_complete: bool,
}

impl RepeatedTimes {
    /// Takes note of the instant of a row.
    pub fn pass(&mut self, column: usize, series: u128, instant: i64) {
        self.last.insert((column, series), instant);
    }

    /// The instant of a local time that is one of two; `None` where both of them came before. Whether the earlier one
    /// comes first is told by the row before it.
    pub fn resolve(
        &mut self,
        column: usize,
        series: u128,
        local: NaiveDateTime,
        (first, second): (i64, i64),
    ) -> Result<Option<i64>, TooManyRows> {
        if self.times.len() >= ROWS_MAX {
            return Err(TooManyRows("`ambiguous = \"in-order\"`"));
        }
        let instant = match self.times.entry((column, series, local)) {
            Entry::Vacant(free) => {
                let is_latest_first = self.last.get(&(column, series)).is_some_and(|last| *last > second);
                free.insert(RepeatedTime { is_latest_first, is_complete: false });
                Some(if is_latest_first { second } else { first })
            }
            Entry::Occupied(mut time) => {
                let time = time.get_mut();
                let is_other = !std::mem::replace(&mut time.is_complete, true);
                is_other.then_some(if time.is_latest_first { first } else { second })
            }
        };
        if let Some(instant) = instant {
            self.pass(column, series, instant);
        }
        Ok(instant)
    }
}
