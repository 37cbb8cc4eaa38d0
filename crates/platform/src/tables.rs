//! Writes the tables that grow: the rows of a range of days, in the order in which a platform would have written them.

use std::ops::Range;

use tokio_postgres::Client;

use crate::calendar::{DAY_S, STEP_S, STEPS_PER_DAY, instant_text};
use crate::copy::{BINARY, Lines, Progress, Rows};
use crate::fast::FastHour;
use crate::market::{ZONES, prices, tension};
use crate::output::{Outage, Output};
use crate::readings::{Reading, SiteDay};
use crate::{Result, Scale, forecasts, registry};

/// The table of the 10-minute series.
pub(crate) const MEASURED: &str = "platform.measurements_10min";
/// The table of the 1-second series.
pub(crate) const SECONDS: &str = "platform.measurements_1s";
/// The table of forecasts.
pub(crate) const FORECASTS: &str = "platform.forecasts";
/// The table of day-ahead prices.
pub(crate) const PRICES: &str = "platform.market_prices";
/// The table of the signal of tension.
pub(crate) const TENSION: &str = "platform.system_tension";
/// The table of outages.
pub(crate) const AVAILABILITIES: &str = "platform.availabilities";

/// The value of `updated_at`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stamp {
    /// The time at which the platform would have written the row.
    History,
    /// The server's clock, by the column's default.
    Now,
}

impl Stamp {
    fn columns(self, columns: &str) -> String {
        match self {
            Self::History => format!("{columns}, updated_at"),
            Self::Now => columns.to_owned(),
        }
    }
}

/// What all functions that write rows need.
#[derive(Clone, Copy)]
pub(crate) struct WriteContext<'a> {
    /// The connection.
    pub client: &'a Client,
    /// The scale of the database.
    pub scale: &'a Scale,
    /// The output of the sites.
    pub output: &'a Output,
    /// The value of `updated_at`.
    pub stamp: Stamp,
    /// Called with the rows sent so far.
    pub progress: Progress<'a>,
}

/// Writes the 10-minute series of these days, with the corrections made before their end. Returns the number of rows,
/// as do the functions below.
pub(crate) async fn measured(context: WriteContext<'_>, days: Range<u32>) -> Result<u64> {
    let columns = context.stamp.columns("series_id, ts, power_kw, energy_wh, quality");
    let mut rows = Rows::begin(context.client, MEASURED, &columns, BINARY, context.progress).await?;
    for day in days.clone() {
        let plants = context.output.plants.iter();
        let known: Vec<_> = plants
            .map(|plant| (plant, SiteDay::new(context.scale, context.output, plant, day).readings_on(days.end)))
            .collect();
        for step in 0..STEPS_PER_DAY {
            for (plant, (readings, corrected_on)) in &known {
                let reading = readings[step];
                let series_id = registry::measured_series(plant.site.id);
                rows.row(if context.stamp == Stamp::History { 6 } else { 5 });
                measured_row(&mut rows, series_id, reading);
                if context.stamp == Stamp::History {
                    let is_late = reading.quality == crate::readings::Quality::Corrected;
                    let written_at = match corrected_on.filter(|_| is_late) {
                        Some(day) => context.scale.day_start(day) + 8 * 3_600 + i64::from(plant.site.id),
                        None => reading.at + STEP_S + 5 + i64::from(plant.site.id % 50),
                    };
                    rows.instant(written_at, i64::from(plant.site.id) * 7_919 % 1_000_000);
                }
            }
            rows.send_if_full().await?;
        }
    }
    rows.finish().await
}

fn measured_row(rows: &mut Rows<'_>, series_id: i32, reading: Reading) {
    rows.i32(series_id);
    rows.instant(reading.at, 0);
    match reading.power_kw {
        Some(power_kw) => rows.f64(power_kw),
        None => rows.null(),
    }
    match reading.energy_wh {
        Some(energy_wh) => rows.i64(energy_wh),
        None => rows.null(),
    }
    rows.text(reading.quality.label());
}

/// Writes the 1-second series between two starts of hours.
pub(crate) async fn seconds(context: WriteContext<'_>, from: i64, to: i64) -> Result<u64> {
    let mut rows = Rows::begin(context.client, SECONDS, "series_id, ts, value", BINARY, context.progress).await?;
    let fast = || context.output.plants.iter().take(context.scale.fast_series as usize);
    for hour in (from..to).step_by(3_600) {
        let new = |plant| FastHour::new(context.scale, context.output, plant, hour);
        let mut units: Vec<_> = fast().map(|plant| (registry::fast_series(plant.site.id), new(plant))).collect();
        for second in 0..3_600 {
            for (series_id, unit) in &mut units {
                rows.row(3);
                rows.i32(*series_id);
                rows.instant(hour + second, 0);
                rows.f32(unit.power_kw(second));
            }
            rows.send_if_full().await?;
        }
    }
    rows.finish().await
}

/// Writes the forecasts that are issued on these days.
pub(crate) async fn forecasts(context: WriteContext<'_>, days: Range<u32>) -> Result<u64> {
    let columns = "series_id, issue_at, valid_at, power_kw, p10, p90";
    let mut rows = Rows::begin(context.client, FORECASTS, columns, BINARY, context.progress).await?;
    for issue_at in days.flat_map(|day| forecasts::issue_times(context.scale, day)) {
        for plant in &context.output.plants {
            for forecast in forecasts::forecasts_of(context.scale, context.output, plant, issue_at) {
                rows.row(6);
                rows.i32(registry::forecast_series(plant.site.id));
                rows.instant(issue_at, 0);
                rows.instant(forecast.valid_at, 0);
                rows.f64(forecast.power_kw);
                rows.f64(forecast.p10_kw);
                rows.f64(forecast.p90_kw);
            }
            rows.send_if_full().await?;
        }
    }
    rows.finish().await
}

/// Writes the day-ahead prices of these days.
pub(crate) async fn market_prices(context: WriteContext<'_>, days: Range<u32>) -> Result<u64> {
    let mut lines = Lines::default();
    for day in days {
        // Published around 13:00 in Paris, the day before delivery.
        let published = instant_text(context.scale.day_start(day) - 12 * 3_600);
        for zone in &ZONES {
            for price in prices(context.scale, context.output, zone, day) {
                let (at, step) = (instant_text(price.delivery_start), format!("{} minutes", price.step_min));
                let eur = cents_text(price.cents);
                match context.stamp {
                    Stamp::History => lines.push(&[&zone.code, &at, &step, &eur, &published]),
                    Stamp::Now => lines.push(&[&zone.code, &at, &step, &eur]),
                }
            }
        }
    }
    let columns = context.stamp.columns("zone, delivery_start, step, price_eur_mwh");
    lines.copy(context.client, PRICES, &columns, context.progress).await
}

/// 123 as "1.23".
pub(crate) fn cents_text(cents: i64) -> String {
    let sign = if cents < 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", cents.abs() / 100, cents.abs() % 100)
}

/// Writes the hourly signal of tension of these days.
pub(crate) async fn system_tension(context: WriteContext<'_>, days: Range<u32>) -> Result<u64> {
    let mut lines = Lines::default();
    for at in (context.scale.day_start(days.start)..context.scale.day_start(days.end)).step_by(3_600) {
        let (level, message) = tension(context.output, at);
        lines.push(&[&instant_text(at), &level, &message]);
    }
    lines.copy(context.client, TENSION, "ts, level, message", context.progress).await
}

/// Writes the outages that begin on these days. Where one ends later, it has the end that was announced first.
pub(crate) async fn availabilities(context: WriteContext<'_>, days: Range<u32>) -> Result<u64> {
    let mut lines = Lines::default();
    let (from, to) = (context.scale.day_start(days.start), context.scale.day_start(days.end));
    for plant in &context.output.plants {
        let site = &plant.site;
        for outage in plant.outages.iter().filter(|o| (from..to).contains(&o.from)) {
            let end = if outage.to <= to { outage.to } else { announced_end(outage) };
            let during = format!("[{},{})", instant_text(outage.from), instant_text(end));
            let available_kw = format!("{:.3}", outage.available_kw / f64::from(site.units));
            let written = instant_text(outage.from + 900);
            for unit in (1..=site.units).map(|rank| registry::unit_id(site.id, rank)) {
                match context.stamp {
                    Stamp::History => lines.push(&[&unit, &during, &available_kw, &outage.reason, &written]),
                    Stamp::Now => lines.push(&[&unit, &during, &available_kw, &outage.reason]),
                }
            }
        }
    }
    let columns = context.stamp.columns("unit_id, during, available_kw, reason");
    lines.copy(context.client, AVAILABILITIES, &columns, context.progress).await
}

/// The end that was announced first: earlier than the true one.
fn announced_end(outage: &Outage) -> i64 {
    outage.from + ((outage.to - outage.from) * 3 / 4).max(STEP_S)
}

/// The instant before which rows of the 1-second series are deleted at the end of a day.
pub(crate) fn seconds_kept_from(scale: &Scale, day_end: i64) -> i64 {
    day_end - i64::from(scale.fast_hours) * 3_600
}

/// The instant before which rows of the 10-minute series are deleted at the end of a day.
pub(crate) fn measured_kept_from(scale: &Scale, day_end: i64) -> i64 {
    day_end - i64::from(scale.days) * DAY_S
}
