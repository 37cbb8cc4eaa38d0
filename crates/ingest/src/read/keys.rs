//! What rows have in common, by hashes of 128 bits, so that a file's size is bounded by rows and not by texts.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use chrono::NaiveDateTime;
use xxhash_rust::xxh3::Xxh3;

use super::value::Value;
use crate::{Error, Kind, Result};

/// About 600 MB; beyond it a file's rows are better compared in SQL.
pub const ROWS_MAX: usize = 10_000_000;

/// Of some of a row's values; `None` where one of them is not known.
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

/// Each value with its kind and its length, so that no two rows look alike to the hash.
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

/// A row that was met before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Before {
    pub line: u64,
    /// All its values were the same.
    pub is_same: bool,
}

#[derive(Default)]
pub struct Keys(HashMap<u128, (u64, u128)>);

impl Keys {
    /// # Errors
    /// `FixSetup` beyond [`ROWS_MAX`].
    pub fn meet(&mut self, key: u128, whole_row: u128, line: u64) -> Result<Option<Before>> {
        let len = self.0.len();
        match self.0.entry(key) {
            Entry::Occupied(first) => {
                let (line, row) = *first.get();
                Ok(Some(Before { line, is_same: row == whole_row }))
            }
            Entry::Vacant(_) if len >= ROWS_MAX => Err(too_many("`key`")),
            Entry::Vacant(free) => {
                free.insert((line, whole_row));
                Ok(None)
            }
        }
    }
}

pub fn too_many(what: &str) -> Error {
    let what =
        format!("read the rows: more than {ROWS_MAX} to compare; split the file, or drop {what} from the layout");
    Error::new(Kind::FixSetup, what)
}

/// How often the local times of the hours that come twice were met, by column and series.
#[derive(Default)]
pub struct Twice(HashMap<(usize, u128, NaiveDateTime), u32>);

impl Twice {
    /// How often before.
    pub fn meet(&mut self, column: usize, series: u128, local: NaiveDateTime) -> Result<u32> {
        if self.0.len() >= ROWS_MAX {
            return Err(too_many("`ambiguous = \"in-order\"`"));
        }
        let times = self.0.entry((column, series, local)).or_default();
        *times += 1;
        Ok(*times - 1)
    }
}
