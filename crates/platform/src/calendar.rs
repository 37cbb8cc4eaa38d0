//! Calendar functions on instants, which are seconds since 1970.

use chrono::{DateTime, Datelike, NaiveDate, Weekday};

/// Seconds of a day.
pub(crate) const DAY_S: i64 = 86_400;
/// The step of weather, output and measurements, in seconds.
pub(crate) const STEP_S: i64 = 600;
/// Steps of a day.
pub(crate) const STEPS_PER_DAY: usize = (DAY_S / STEP_S) as usize;
/// The start of 2025-10-01 in Paris: from this delivery on, day-ahead prices are for 15 instead of 60 minutes.
pub(crate) const QUARTER_HOURLY_SINCE: i64 = 1_759_269_600;

/// The start of a day in UTC.
pub(crate) fn unix_midnight(date: NaiveDate) -> i64 {
    i64::from(date.num_days_from_ce() - 719_163) * DAY_S
}

/// The day of an instant in UTC.
pub(crate) fn date_of(at: i64) -> NaiveDate {
    // The default is for instants outside of chrono's range of 262,000 years.
    DateTime::from_timestamp(at, 0).unwrap_or_default().date_naive()
}

/// The instant as a text for PostgreSQL.
pub(crate) fn instant_text(at: i64) -> String {
    DateTime::from_timestamp(at, 0).unwrap_or_default().format("%Y-%m-%d %H:%M:%S+00").to_string()
}

/// A cosine over the year: 1 on `peak_day` of the year, -1 half a year later.
pub(crate) fn season(at: i64, peak_day: f64) -> f64 {
    let days = at as f64 / DAY_S as f64;
    // Counted from 1970-01-01; the error of about a day over decades does not matter here.
    ((days - peak_day) / 365.2422 * std::f64::consts::TAU).cos()
}

/// Local time in France as seconds since 1970: one hour ahead, two from the last Sunday of March
/// to that of October, at 01:00 UTC.
pub(crate) fn paris(at: i64) -> i64 {
    let year = date_of(at).year();
    let is_summer = at >= last_sunday(year, 3) + 3_600 && at < last_sunday(year, 10) + 3_600;
    at + if is_summer { 7_200 } else { 3_600 }
}

fn last_sunday(year: i32, month: u32) -> i64 {
    // March and October have 31 days.
    let last = NaiveDate::from_ymd_opt(year, month, 31).unwrap_or_default();
    unix_midnight(last) - i64::from(last.weekday().num_days_from_sunday()) * DAY_S
}

/// Whether a local time, as of [`paris`], is on a Saturday or Sunday.
pub(crate) fn is_weekend(local: i64) -> bool {
    matches!(date_of(local).weekday(), Weekday::Sat | Weekday::Sun)
}

/// The first days of the months from that of `start` to the first one after `end`.
pub(crate) fn months(start: i64, end: i64) -> Vec<NaiveDate> {
    let mut months = Vec::new();
    let mut month = date_of(start).with_day(1).unwrap_or_default();
    loop {
        months.push(month);
        if unix_midnight(month) > end {
            return months;
        }
        month = month + chrono::Months::new(1);
    }
}
