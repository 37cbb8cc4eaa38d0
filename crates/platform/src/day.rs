//! Simulates a day after the history: new rows, late corrections, and the purge of old rows.

use tokio_postgres::Client;

use crate::calendar::{DAY_S, instant_text};
use crate::error::ErrorContext;
use crate::market::{ZONES, prices};
use crate::output::Output;
use crate::readings::{CORRECTION_DAYS_MAX, SiteDay};
use crate::tables::{self, Stamp, WriteContext};
use crate::{Result, Scale, registry, schema};

/// The changes of a simulated day.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The changes of each table.
    pub tables: Vec<TableChanges>,
}

/// The changes of one table, as numbers of rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableChanges {
    /// The table's name with its schema.
    pub table: String,
    /// Rows that were inserted.
    pub inserted: u64,
    /// Rows that were updated with corrected values.
    pub corrected: u64,
    /// Rows that were deleted because of their age.
    pub purged: u64,
}

impl Changes {
    /// The changes of a table, with zeros where it did not change.
    pub fn of(&self, table: &str) -> TableChanges {
        let found = self.tables.iter().find(|t| t.table == table).cloned();
        found.unwrap_or_else(|| TableChanges { table: table.to_owned(), ..Default::default() })
    }
}

/// Simulates the day `day_index` after the history, where 0 is the first; days must be simulated in their order.
/// Inserts new rows, whose `updated_at` is the server's clock, corrects rows of up to five days before, and deletes
/// rows of the 1-second series that are older than `fast_hours`, and of the 10-minute series that are older than
/// `days`.
///
/// Each statement is a transaction of its own.
///
/// # Errors
/// Where the day was simulated before, which changes nothing, and where the connection fails.
pub async fn simulate_day(client: &Client, scale: &Scale, day_index: u32) -> Result<Changes> {
    let today = scale.days + day_index;
    let (start, end) = (scale.day_start(today), scale.day_start(today + 1));
    let output = Output::new(scale, day_index + 1);
    let context = WriteContext { client, scale, output: &output, stamp: Stamp::Now, progress: &|_, _| {} };
    schema::extend(client, start, end).await?;

    let measured = TableChanges {
        table: tables::MEASURED.into(),
        inserted: tables::measured(context, today..today + 1).await?,
        corrected: correct_measured(context, today).await?,
        purged: purge(client, tables::MEASURED, tables::measured_kept_from(scale, end)).await?,
    };
    let fast_from = tables::seconds_kept_from(scale, end).max(start);
    let seconds = TableChanges {
        table: tables::SECONDS.into(),
        inserted: tables::seconds(context, fast_from, end).await?,
        corrected: 0,
        purged: purge(client, tables::SECONDS, tables::seconds_kept_from(scale, end)).await?,
    };
    let forecasts = TableChanges {
        table: tables::FORECASTS.into(),
        inserted: tables::forecasts(context, today..today + 1).await?,
        ..Default::default()
    };
    let prices = TableChanges {
        table: tables::PRICES.into(),
        inserted: tables::market_prices(context, today..today + 1).await?,
        corrected: correct_prices(context, today).await?,
        purged: 0,
    };
    let availabilities = TableChanges {
        table: tables::AVAILABILITIES.into(),
        inserted: tables::availabilities(context, today..today + 1).await?,
        corrected: correct_availabilities(context, start, end).await?,
        purged: 0,
    };
    let tension = TableChanges {
        table: tables::TENSION.into(),
        inserted: tables::system_tension(context, today..today + 1).await?,
        ..Default::default()
    };
    Ok(Changes { tables: vec![measured, seconds, forecasts, prices, availabilities, tension] })
}

/// Corrects bad readings of the days before.
async fn correct_measured(context: WriteContext<'_>, today: u32) -> Result<u64> {
    let (mut series, mut instants, mut powers, mut energies) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for day in today.saturating_sub(CORRECTION_DAYS_MAX)..today {
        for plant in &context.output.plants {
            for reading in SiteDay::new(context.scale, context.output, plant, day).corrections(today) {
                series.push(registry::measured_series(plant.site.id));
                instants.push(reading.at as f64);
                powers.push(reading.power_kw);
                energies.push(reading.energy_wh);
            }
        }
    }
    const SQL: &str = "update platform.measurements_10min m \
        set power_kw = c.power_kw, energy_wh = c.energy_wh, quality = 'corrected', updated_at = now() \
        from unnest($1::int[], $2::double precision[], $3::double precision[], $4::bigint[]) \
             as c(series_id, at, power_kw, energy_wh) \
        where m.series_id = c.series_id and m.ts = to_timestamp(c.at)";
    let done = context.client.execute(SQL, &[&series, &instants, &powers, &energies]).await;
    done.during("correct platform.measurements_10min")
}

/// Corrects the last four prices of yesterday in one zone.
async fn correct_prices(context: WriteContext<'_>, today: u32) -> Result<u64> {
    let zone = &ZONES[today as usize % ZONES.len()];
    let yesterday = prices(context.scale, context.output, zone, today - 1);
    let late = yesterday.iter().rev().take(4);
    let (instants, values): (Vec<f64>, Vec<String>) =
        late.map(|p| (p.delivery_start as f64, tables::cents_text(p.cents + 137))).unzip();
    const SQL: &str = "update platform.market_prices p \
        set price_eur_mwh = c.price::numeric, updated_at = now() \
        from unnest($1::double precision[], $2::text[]) as c(at, price) \
        where p.zone = $3::text and p.delivery_start = to_timestamp(c.at)";
    let done = context.client.execute(SQL, &[&instants, &values, &zone.code]).await;
    done.during("correct platform.market_prices")
}

/// Corrects the end of outages of earlier days that end today.
async fn correct_availabilities(context: WriteContext<'_>, start: i64, end: i64) -> Result<u64> {
    let mut corrected = 0;
    for plant in &context.output.plants {
        for outage in plant.outages.iter().filter(|o| o.from < start && o.to > start && o.to <= end) {
            let units: Vec<i32> =
                (1..=plant.site.units).map(|rank| registry::unit_id(plant.site.id, rank) as i32).collect();
            let during = format!("[{},{})", instant_text(outage.from), instant_text(outage.to));
            const SQL: &str = "update platform.availabilities \
                set during = $1::text::tstzrange, updated_at = now() \
                where unit_id = any($2) and lower(during) = lower($1::text::tstzrange)";
            let done = context.client.execute(SQL, &[&during, &units]).await;
            corrected += done.during("correct platform.availabilities")?;
        }
    }
    Ok(corrected)
}

async fn purge(client: &Client, table: &str, before: i64) -> Result<u64> {
    let sql = format!("delete from {table} where ts < '{}'", instant_text(before));
    client.execute(&sql, &[]).await.during(format!("purge {table}"))
}

const _: () = assert!(DAY_S % 3_600 == 0, "a day's 1-second series begins with an hour");
