//! The size of the generated database, and its seed.

use chrono::NaiveDate;

use crate::calendar::{DAY_S, unix_midnight};

/// What [`crate::create`] and [`crate::fill`] generate. All calls on one database must get the same scale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scale {
    /// The seed of the random numbers.
    pub seed: u64,
    /// The first day of the history, in UTC. The history must end before now: later rows have the server's clock in
    /// `updated_at`, which must be after that of the history's rows.
    pub start: NaiveDate,
    /// The days of history, which is also how long the platform keeps its 10-minute series.
    pub days: u32,
    /// The number of sites, each with one 10-minute series.
    pub sites: u32,
    /// The number of 1-second series.
    pub fast_series: u32,
    /// The hours of 1-second series before the end of the history, which is also how long the platform keeps them.
    pub fast_hours: u32,
    /// The days with forecasts before the end of the history.
    pub forecast_days: u32,
}

impl Scale {
    /// The scale of the demo: 5.5 million rows.
    pub fn demo() -> Self {
        Self {
            seed: 20_250_201,
            // With a spring, for negative prices, and with the change from 60 to 15 minutes on 2025-10-01.
            start: NaiveDate::from_ymd_opt(2025, 2, 1).unwrap_or_default(),
            days: 270,
            sites: 40,
            fast_series: 5,
            fast_hours: 6 * 24,
            forecast_days: 80,
        }
    }

    /// The scale of tests: about 20,000 rows.
    pub fn tiny() -> Self {
        Self { days: 14, sites: 4, fast_series: 2, fast_hours: 1, forecast_days: 2, ..Self::demo() }
    }

    /// The start of a day, counted from the start of the history.
    pub(crate) fn day_start(&self, day: u32) -> i64 {
        unix_midnight(self.start) + i64::from(day) * DAY_S
    }

    /// The end of the history.
    pub(crate) fn end(&self) -> i64 {
        self.day_start(self.days)
    }
}
