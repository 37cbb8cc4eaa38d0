//! How much to make up, and from which seed.

use chrono::NaiveDate;

use crate::calendar::{DAY_S, unix_midnight};

/// What [`crate::create`] and [`crate::fill`] make. Give the same scale to all calls on one database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scale {
    pub seed: u64,
    /// First day of the history, UTC. The history must end before now: rows written live bear
    /// the server's clock in `updated_at`, and must come after those of the history.
    pub start: NaiveDate,
    /// Of history; also how long the platform keeps its 10-minute series.
    pub days: u32,
    /// One 10-minute series each.
    pub sites: u32,
    /// Units measured each second.
    pub fast_series: u32,
    /// Hours of 1-second series, up to the end of the history; also how long they are kept.
    pub fast_hours: u32,
    /// Days with forecasts, up to the end of the history.
    pub forecast_days: u32,
}

impl Scale {
    /// 5.5 million rows.
    pub fn demo() -> Self {
        Self {
            seed: 20_250_201,
            // Holds a spring, for negative prices, and 2025-10-01, when prices go from 60 to 15 minutes.
            start: NaiveDate::from_ymd_opt(2025, 2, 1).unwrap_or_default(),
            days: 270,
            sites: 40,
            fast_series: 5,
            fast_hours: 6 * 24,
            forecast_days: 80,
        }
    }

    /// About 20,000 rows.
    pub fn tiny() -> Self {
        Self { days: 14, sites: 4, fast_series: 2, fast_hours: 1, forecast_days: 2, ..Self::demo() }
    }

    /// The start of a day of the history, or of a day after it.
    pub(crate) fn day_start(&self, day: u32) -> i64 {
        unix_midnight(self.start) + i64::from(day) * DAY_S
    }

    /// The end of the history.
    pub(crate) fn end(&self) -> i64 {
        self.day_start(self.days)
    }
}
