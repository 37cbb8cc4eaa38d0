//! Generates the files of a monthly billing: the declarations of producers, with typical faults, and the aggregator's
//! own tables of contracts, meters, prices, sources and curtailment orders. Needs no PostgreSQL.
//!
//! The files are consistent: a producer declares what its meter has measured, the meter measures what the plant
//! generates under the weather and the curtailment orders, and orders are given at negative prices. The months from
//! December 2025 to May 2026 contain a clock change, a turn of the year and a spring with negative prices.

mod energy;
mod faults;
mod month;
mod portfolio;
mod prices;
mod production;
mod production_row;
mod reference;
mod sheet;

#[cfg(test)]
mod tests;

use chrono::{DateTime, NaiveDate, Utc};

use crate::output::Output;
use crate::{Result, Scale};

use energy::SiteEnergy;
use month::Month;
use portfolio::{Agreement, agreements};
use prices::Prices;

/// A file. A later one of the same name is its next version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its name with the folder, such as `production/PRD0001-2026-03.csv` or `reference/prices-2026-03.csv`.
    pub name: String,
    /// Its content.
    pub bytes: Vec<u8>,
    /// The instant from which it can be fetched.
    pub available_at: DateTime<Utc>,
}

/// The months with files. Each is billed after its end.
pub const MONTHS: [&str; 6] = ["2025-12", "2026-01", "2026-02", "2026-03", "2026-04", "2026-05"];

/// All files that are available before `until`, in the order of their instants. The same seed generates the same bytes.
pub fn files(seed: u64, until: DateTime<Utc>) -> Result<Vec<File>> {
    let data = BillingData::new(seed);
    let mut files = reference::files(&data);
    files.extend(production::files(&data)?);
    files.retain(|file| file.available_at < until);
    files.sort_by(|a, b| (a.available_at, &a.name).cmp(&(b.available_at, &b.name)));
    Ok(files)
}

/// The data of all files.
pub(crate) struct BillingData {
    /// The contracts with producers.
    pub agreements: Vec<Agreement>,
    /// The months of [`MONTHS`].
    pub months: Vec<Month>,
    /// The prices of all months.
    pub prices: Prices,
    /// The energy of each agreement, in the order of `agreements`.
    pub energies: Vec<SiteEnergy>,
}

impl BillingData {
    fn new(seed: u64) -> BillingData {
        let months: Vec<Month> = MONTHS.iter().filter_map(|name| Month::new(name)).collect();
        let scale = Scale {
            seed,
            // A week before the first month, so that forecasts and reservoirs have a past.
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
        let energies = agreements.iter().map(|one| SiteEnergy::new(&scale, &output, one, &prices)).collect();
        BillingData { agreements, months, prices, energies }
    }
}

/// The instant as a date and time.
pub(crate) fn instant(at: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(at, 0).unwrap_or_default()
}

/// The instant in ISO 8601, in UTC.
pub(crate) fn instant_text(at: i64) -> String {
    instant(at).format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// 123 as "1.23".
pub(crate) fn hundredths(value: i64) -> String {
    let sign = if value < 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", value.abs() / 100, value.abs() % 100)
}
