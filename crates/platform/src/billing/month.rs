//! The months of the billing, in local time in France, and their quarters of an hour.

use chrono::NaiveDate;

use crate::calendar::{DAY_S, paris, unix_midnight};

/// A quarter of an hour in seconds.
pub(crate) const QUARTER_S: i64 = 900;

/// A month of local time in France.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Month {
    /// Such as `2026-03`.
    pub name: &'static str,
    /// Its start, in seconds since 1970.
    pub from: i64,
    /// Its end, in seconds since 1970.
    pub to: i64,
}

impl Month {
    /// The month of a name such as `2026-03`.
    pub fn new(name: &'static str) -> Option<Month> {
        let first = NaiveDate::parse_from_str(&format!("{name}-01"), "%Y-%m-%d").ok()?;
        let after = first.checked_add_months(chrono::Months::new(1))?;
        Some(Month { name, from: local_midnight(first), to: local_midnight(after) })
    }

    /// The starts of the quarters of an hour in the month.
    pub fn quarters(&self) -> impl Iterator<Item = i64> + use<> {
        let (from, count) = (self.from, (self.to - self.from) / QUARTER_S);
        (0..count).map(move |at| from + at * QUARTER_S)
    }

    /// The instant that is this long after the month's end.
    pub fn later(&self, days: i64, hours: i64) -> i64 {
        self.to + days * DAY_S + hours * 3_600
    }
}

/// The instant at which a day begins in France.
pub(crate) fn local_midnight(day: NaiveDate) -> i64 {
    let local = unix_midnight(day);
    let summer = local - 7_200;
    if paris(summer) == local { summer } else { local - 3_600 }
}
