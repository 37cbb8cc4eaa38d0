//! What a month's bills are made of, as files: what producers declare, with the faults that files from
//! so many hands have, and the aggregator's own tables of contracts, meters, prices, sources and
//! curtailment orders. Needs no PostgreSQL.
//!
//! It all fits together: a producer's file says what its meter measured, the meter what the plant
//! gave under the season's weather and the orders to stop, and those came when prices were negative.
//! From December 2025 to May 2026, so that there is a clock change, a turn of the year and a spring
//! with negative prices.

mod energy;
mod faults;
mod portfolio;
mod prices;
mod production;
mod reference;
mod sheet;

#[cfg(test)]
mod tests;

use chrono::{DateTime, NaiveDate, Utc};

use crate::calendar::{paris, unix_midnight};
use crate::output::Output;
use crate::{Result, Scale};

use energy::Energies;
use portfolio::{Agreement, agreements};
use prices::Prices;

/// A file and when it can first be fetched. A later one of the same name is its new version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// With its folder: `production/PRD0001-2026-03.csv`, `reference/prices-2026-03.csv`.
    pub name: String,
    pub bytes: Vec<u8>,
    pub available_at: DateTime<Utc>,
}

/// The months that there are files of; each is billed after its end.
pub const MONTHS: [&str; 6] = ["2025-12", "2026-01", "2026-02", "2026-03", "2026-04", "2026-05"];

pub(crate) const QUARTER_S: i64 = 900;

/// All files that were there before `until`, in the order in which they came.
pub fn files(seed: u64, until: DateTime<Utc>) -> Result<Vec<File>> {
    let world = World::new(seed);
    let mut files = reference::files(&world);
    files.extend(production::files(&world)?);
    files.retain(|file| file.available_at < until);
    files.sort_by(|a, b| (a.available_at, &a.name).cmp(&(b.available_at, &b.name)));
    Ok(files)
}

/// What all files are written from.
pub(crate) struct World {
    pub agreements: Vec<Agreement>,
    pub months: Vec<Month>,
    pub prices: Prices,
    /// By the place of the agreement.
    pub energies: Vec<Energies>,
}

impl World {
    fn new(seed: u64) -> World {
        let months: Vec<Month> = MONTHS.iter().filter_map(|name| Month::new(name)).collect();
        let scale = Scale {
            seed,
            // A week before the first month: forecasts and levels of reservoirs have a past.
            start: NaiveDate::from_ymd_opt(2025, 11, 24).unwrap_or_default(),
            days: 191,
            sites: 10,
            fast_series: 0,
            fast_hours: 0,
            forecast_days: 0,
        };
        let output = Output::new(&scale, 0);
        let prices = Prices::new(&scale, &output, &months);
        let agreements = agreements(&output);
        let energies = agreements.iter().map(|one| Energies::new(&scale, &output, one, &prices)).collect();
        World { agreements, months, prices, energies }
    }
}

/// A local month, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Month {
    pub name: &'static str,
    pub from: i64,
    pub to: i64,
}

impl Month {
    fn new(name: &'static str) -> Option<Month> {
        let first = NaiveDate::parse_from_str(&format!("{name}-01"), "%Y-%m-%d").ok()?;
        let after = first.checked_add_months(chrono::Months::new(1))?;
        Some(Month { name, from: local_midnight(first), to: local_midnight(after) })
    }

    pub fn quarters(&self) -> impl Iterator<Item = i64> + use<> {
        let (from, count) = (self.from, (self.to - self.from) / QUARTER_S);
        (0..count).map(move |at| from + at * QUARTER_S)
    }

    /// Days and hours after its end: when something about it comes.
    pub fn later(&self, days: i64, hours: i64) -> i64 {
        self.to + days * crate::calendar::DAY_S + hours * 3_600
    }
}

/// The instant at which a day begins in France.
pub(crate) fn local_midnight(day: NaiveDate) -> i64 {
    let local = unix_midnight(day);
    let summer = local - 7_200;
    if paris(summer) == local { summer } else { local - 3_600 }
}

pub(crate) fn instant(at: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(at, 0).unwrap_or_default()
}

/// As ISO 8601 has it, in UTC.
pub(crate) fn instant_text(at: i64) -> String {
    instant(at).format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// 123 as "1.23".
pub(crate) fn hundredths(value: i64) -> String {
    let sign = if value < 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", value.abs() / 100, value.abs() % 100)
}
