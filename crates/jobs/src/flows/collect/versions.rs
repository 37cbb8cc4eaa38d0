//! Compares the rows of answers with the versions that the table has: which of them are new, and from when they were
//! known. No version is ever changed.

use std::collections::HashMap;

use anyhow::Result;
use arrow::array::RecordBatch;

use super::rows::{Columns, KNOWN_AT, WindowRows, instants};

/// The rows to add.
#[derive(Debug, Default)]
pub struct NewVersions {
    /// The indexes of the rows.
    pub rows: Vec<u32>,
    /// From when each row was known, in microseconds; of all rows, also of those that are not added.
    pub known_at: Vec<i64>,
    /// How many of them are of a key that the table has.
    pub revised: usize,
    /// Two rows with the same key and other values: of two pages, since a layout refuses them in one.
    pub contradiction: Option<(usize, usize)>,
}

/// When values were known that the table does not have yet.
pub struct Knowledge {
    /// When the partner was asked for all of this item before, in microseconds: what was not there then was not known.
    pub asked_at: Option<i64>,
    /// Up to where the first run, which has not ended yet, has been answered.
    pub asked_to: i64,
    /// From where on it was asked for before, where the window begins earlier: what is earlier is history too.
    pub asked_from: i64,
    /// When it was asked for the first time: what was known before, and was not asked for until now, is history.
    pub first_asked_at: i64,
    /// How long after its time a value of the history was known.
    pub history_known_after: Option<i64>,
    /// The column with the partner's instant.
    pub stamp: Option<String>,
}

/// A version that the table has.
struct Version {
    known_at: i64,
    row: usize,
}

/// The rows that are other than the newest version of their key. Rows with the same key must have the same values; the
/// last one is added.
///
/// # Errors
/// A column is missing or has another type.
pub fn compare(
    columns: &Columns,
    rows: &WindowRows,
    whole: &RecordBatch,
    before: &RecordBatch,
    knowledge: &Knowledge,
) -> Result<NewVersions> {
    let (key_before, values_before) = (columns.keys(before)?, columns.values_of(before)?);
    let known_before = instants(before, KNOWN_AT)?;
    let mut newest: HashMap<&[u8], Version> = HashMap::new();
    for row in 0..before.num_rows() {
        let version = Version { known_at: known_before.value(row), row };
        let kept = newest.entry(key_before.row(row).data()).or_insert(Version { known_at: i64::MIN, row });
        if version.known_at >= kept.known_at {
            *kept = version;
        }
    }
    let (keys, values, times) = (columns.keys(whole)?, columns.values_of(whole)?, columns.times(whole)?);
    let stamps = knowledge.stamp.as_ref().map(|name| instants(whole, name)).transpose()?;
    let mut last: HashMap<&[u8], usize> = HashMap::new();
    let mut new = NewVersions::default();
    for row in 0..whole.num_rows() {
        if let Some(other) = last.insert(keys.row(row).data(), row)
            && values.row(other).data() != values.row(row).data()
        {
            new.contradiction.get_or_insert((other, row));
        }
    }
    for row in 0..whole.num_rows() {
        let known = newest.get(keys.row(row).data());
        let stamp =
            stamps.as_ref().and_then(|stamps| arrow::array::Array::is_valid(stamps, row).then(|| stamps.value(row)));
        let at = match known {
            // It was another one until now, whatever the partner says.
            Some(version) => rows.received(row).max(version.known_at + 1),
            None => knowledge.known_at(times.value(row), stamp, rows.received(row)),
        };
        new.known_at.push(at);
        let is_last = last.get(keys.row(row).data()) == Some(&row);
        let is_other = known.is_none_or(|version| values_before.row(version.row).data() != values.row(row).data());
        if is_last && is_other {
            new.rows.push(u32::try_from(row)?);
            new.revised += usize::from(known.is_some());
        }
    }
    Ok(new)
}

impl Knowledge {
    /// From when the first version of a value was known.
    fn known_at(&self, time: i64, stamp: Option<i64>, received: i64) -> i64 {
        let asked_at = self.asked_at.or((time < self.asked_to).then_some(self.first_asked_at));
        let asked_at = asked_at.filter(|_| time >= self.asked_from);
        let history = self.history_known_after.map(|after| time.saturating_add(after));
        let history = history.filter(|at| asked_at.is_none() && *at < self.first_asked_at);
        let known = match (stamp, history) {
            (Some(stamp), _) => stamp.max(asked_at.unwrap_or(i64::MIN)),
            (None, Some(history)) => history,
            (None, None) => received,
        };
        known.min(received)
    }
}
