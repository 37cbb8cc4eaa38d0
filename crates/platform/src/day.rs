//! What happens after the history: a day's new rows, late corrections, and the purge that makes a
//! warehouse needed.

use tokio_postgres::Client;

use crate::calendar::{DAY_S, instant_text};
use crate::error::During;
use crate::market::{ZONES, prices};
use crate::output::Output;
use crate::readings::{CORRECTION_DAYS_MAX, SiteDay};
use crate::tables::{self, Pen, Stamp};
use crate::{Result, Scale, registry, schema};

/// What a day changed, table by table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub tables: Vec<TableChanges>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableChanges {
    /// With its schema.
    pub table: String,
    pub inserted: u64,
    /// Updated to a later, better value.
    pub corrected: u64,
    /// Deleted because of age.
    pub purged: u64,
}

impl Changes {
    /// Of one table, zeros where it did not change.
    pub fn of(&self, table: &str) -> TableChanges {
        let found = self.tables.iter().find(|t| t.table == table).cloned();
        found.unwrap_or_else(|| TableChanges { table: table.to_owned(), ..Default::default() })
    }
}

/// Lives the day `day_index` (0 is the first after the history; one after the other): new rows,
/// stamped by the server's clock; corrections of up to five days back; then all of the 1-second
/// series older than `fast_hours` and of the 10-minute series older than `days` is deleted.
/// Each table's share is a transaction of its own. A day lived twice fails before it changes anything.
pub async fn live_a_day(client: &Client, scale: &Scale, day_index: u32) -> Result<Changes> {
    let today = scale.days + day_index;
    let (start, end) = (scale.day_start(today), scale.day_start(today + 1));
    let output = Output::new(scale, day_index + 1);
    let pen = Pen { client, scale, output: &output, stamp: Stamp::Now, progress: &|_, _| {} };
    schema::extend(client, start, end).await?;

    let measured = TableChanges {
        table: tables::MEASURED.into(),
        inserted: tables::measured(pen, today..today + 1).await?,
        corrected: correct_measured(pen, today).await?,
        purged: purge(client, tables::MEASURED, tables::measured_kept_from(scale, end)).await?,
    };
    let fast_from = tables::seconds_kept_from(scale, end).max(start);
    let seconds = TableChanges {
        table: tables::SECONDS.into(),
        inserted: tables::seconds(pen, fast_from, end).await?,
        corrected: 0,
        purged: purge(client, tables::SECONDS, tables::seconds_kept_from(scale, end)).await?,
    };
    let forecasts = TableChanges {
        table: tables::FORECASTS.into(),
        inserted: tables::forecasts(pen, today..today + 1).await?,
        ..Default::default()
    };
    let prices = TableChanges {
        table: tables::PRICES.into(),
        inserted: tables::market_prices(pen, today..today + 1).await?,
        corrected: correct_prices(pen, today).await?,
        purged: 0,
    };
    let availabilities = TableChanges {
        table: tables::AVAILABILITIES.into(),
        inserted: tables::availabilities(pen, today..today + 1).await?,
        corrected: correct_availabilities(pen, start, end).await?,
        purged: 0,
    };
    let tension = TableChanges {
        table: tables::TENSION.into(),
        inserted: tables::system_tension(pen, today..today + 1).await?,
        ..Default::default()
    };
    Ok(Changes { tables: vec![measured, seconds, forecasts, prices, availabilities, tension] })
}

/// Bad readings of the days before get their true value.
async fn correct_measured(pen: Pen<'_>, today: u32) -> Result<u64> {
    let (mut series, mut instants, mut powers, mut energies) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for day in today.saturating_sub(CORRECTION_DAYS_MAX)..today {
        for plant in &pen.output.plants {
            for reading in SiteDay::new(pen.scale, pen.output, plant, day).corrections(today) {
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
    let done = pen.client.execute(SQL, &[&series, &instants, &powers, &energies]).await;
    done.during("correct platform.measurements_10min")
}

/// The exchange puts yesterday's last prices of one zone right.
async fn correct_prices(pen: Pen<'_>, today: u32) -> Result<u64> {
    let zone = &ZONES[today as usize % ZONES.len()];
    let yesterday = prices(pen.scale, pen.output, zone, today - 1);
    let late = yesterday.iter().rev().take(4);
    let (instants, values): (Vec<f64>, Vec<String>) =
        late.map(|p| (p.delivery_start as f64, tables::cents_text(p.cents + 137))).unzip();
    const SQL: &str = "update platform.market_prices p \
        set price_eur_mwh = c.price::numeric, updated_at = now() \
        from unnest($1::double precision[], $2::text[]) as c(at, price) \
        where p.zone = $3::text and p.delivery_start = to_timestamp(c.at)";
    let done = pen.client.execute(SQL, &[&instants, &values, &zone.code]).await;
    done.during("correct platform.market_prices")
}

/// Outages of earlier days that end today get their true end.
async fn correct_availabilities(pen: Pen<'_>, start: i64, end: i64) -> Result<u64> {
    let mut corrected = 0;
    for plant in &pen.output.plants {
        for outage in plant.outages.iter().filter(|o| o.from < start && o.to > start && o.to <= end) {
            let units: Vec<i32> =
                (1..=plant.site.units).map(|rank| registry::unit_id(plant.site.id, rank) as i32).collect();
            let during = format!("[{},{})", instant_text(outage.from), instant_text(outage.to));
            const SQL: &str = "update platform.availabilities \
                set during = $1::text::tstzrange, updated_at = now() \
                where unit_id = any($2) and lower(during) = lower($1::text::tstzrange)";
            let done = pen.client.execute(SQL, &[&during, &units]).await;
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
