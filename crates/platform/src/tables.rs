//! The tables that grow: what a range of days puts into each, in the order of time, as a platform
//! would have written it.

use std::ops::Range;

use tokio_postgres::Client;

use crate::calendar::{DAY_S, STEP_S, STEPS_PER_DAY, instant_text};
use crate::copy::{BINARY, Lines, Progress, Rows};
use crate::fast::FastHour;
use crate::market::{ZONES, prices, tension};
use crate::output::{Outage, Output};
use crate::readings::{Reading, SiteDay};
use crate::{Result, Scale, forecasts, registry};

pub(crate) const MEASURED: &str = "platform.measurements_10min";
pub(crate) const SECONDS: &str = "platform.measurements_1s";
pub(crate) const FORECASTS: &str = "platform.forecasts";
pub(crate) const PRICES: &str = "platform.market_prices";
pub(crate) const TENSION: &str = "platform.system_tension";
pub(crate) const AVAILABILITIES: &str = "platform.availabilities";

/// What `updated_at` holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stamp {
    /// When the platform would have written the row, in the history.
    History,
    /// When the server does write it.
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

/// What all writers share.
#[derive(Clone, Copy)]
pub(crate) struct Pen<'a> {
    pub client: &'a Client,
    pub scale: &'a Scale,
    pub output: &'a Output,
    pub stamp: Stamp,
    pub progress: Progress<'a>,
}

/// With the corrections made before the last of these days ended.
pub(crate) async fn measured(pen: Pen<'_>, days: Range<u32>) -> Result<u64> {
    let columns = pen.stamp.columns("series_id, ts, power_kw, energy_wh, quality");
    let mut rows = Rows::begin(pen.client, MEASURED, &columns, BINARY, pen.progress).await?;
    for day in days.clone() {
        let plants = pen.output.plants.iter();
        let known: Vec<_> =
            plants.map(|plant| (plant, SiteDay::new(pen.scale, pen.output, plant, day).known(days.end))).collect();
        for step in 0..STEPS_PER_DAY {
            for (plant, (readings, corrected_on)) in &known {
                let reading = readings[step];
                let series_id = registry::measured_series(plant.site.id);
                rows.row(if pen.stamp == Stamp::History { 6 } else { 5 });
                measured_row(&mut rows, series_id, reading);
                if pen.stamp == Stamp::History {
                    let is_late = reading.quality == crate::readings::Quality::Corrected;
                    let written_at = match corrected_on.filter(|_| is_late) {
                        Some(day) => pen.scale.day_start(day) + 8 * 3_600 + i64::from(plant.site.id),
                        None => reading.at + STEP_S + 5 + i64::from(plant.site.id % 50),
                    };
                    rows.instant(written_at, i64::from(plant.site.id) * 7_919 % 1_000_000);
                }
            }
            rows.flow().await?;
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

/// From and to the starts of hours.
pub(crate) async fn seconds(pen: Pen<'_>, from: i64, to: i64) -> Result<u64> {
    let mut rows = Rows::begin(pen.client, SECONDS, "series_id, ts, value", BINARY, pen.progress).await?;
    let fast = || pen.output.plants.iter().take(pen.scale.fast_series as usize);
    for hour in (from..to).step_by(3_600) {
        let new = |plant| FastHour::new(pen.scale, pen.output, plant, hour);
        let mut units: Vec<_> = fast().map(|plant| (registry::fast_series(plant.site.id), new(plant))).collect();
        for second in 0..3_600 {
            for (series_id, unit) in &mut units {
                rows.row(3);
                rows.i32(*series_id);
                rows.instant(hour + second, 0);
                rows.f32(unit.power_kw(second));
            }
            rows.flow().await?;
        }
    }
    rows.finish().await
}

pub(crate) async fn forecasts(pen: Pen<'_>, days: Range<u32>) -> Result<u64> {
    let columns = "series_id, issue_at, valid_at, power_kw, p10, p90";
    let mut rows = Rows::begin(pen.client, FORECASTS, columns, BINARY, pen.progress).await?;
    for issue_at in days.flat_map(|day| forecasts::issues(pen.scale, day)) {
        for plant in &pen.output.plants {
            for forecast in forecasts::issued(pen.scale, pen.output, plant, issue_at) {
                rows.row(6);
                rows.i32(registry::forecast_series(plant.site.id));
                rows.instant(issue_at, 0);
                rows.instant(forecast.valid_at, 0);
                rows.f64(forecast.power_kw);
                rows.f64(forecast.p10_kw);
                rows.f64(forecast.p90_kw);
            }
            rows.flow().await?;
        }
    }
    rows.finish().await
}

pub(crate) async fn market_prices(pen: Pen<'_>, days: Range<u32>) -> Result<u64> {
    let mut lines = Lines::default();
    for day in days {
        // Published around 13:00 in Paris, the day before delivery.
        let published = instant_text(pen.scale.day_start(day) - 12 * 3_600);
        for zone in &ZONES {
            for price in prices(pen.scale, pen.output, zone, day) {
                let (at, step) = (instant_text(price.delivery_start), format!("{} minutes", price.step_min));
                let eur = cents_text(price.cents);
                match pen.stamp {
                    Stamp::History => lines.push(&[&zone.code, &at, &step, &eur, &published]),
                    Stamp::Now => lines.push(&[&zone.code, &at, &step, &eur]),
                }
            }
        }
    }
    let columns = pen.stamp.columns("zone, delivery_start, step, price_eur_mwh");
    lines.copy(pen.client, PRICES, &columns, pen.progress).await
}

pub(crate) fn cents_text(cents: i64) -> String {
    let sign = if cents < 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", cents.abs() / 100, cents.abs() % 100)
}

pub(crate) async fn system_tension(pen: Pen<'_>, days: Range<u32>) -> Result<u64> {
    let mut lines = Lines::default();
    for at in (pen.scale.day_start(days.start)..pen.scale.day_start(days.end)).step_by(3_600) {
        let (level, message) = tension(pen.output, at);
        lines.push(&[&instant_text(at), &level, &message]);
    }
    lines.copy(pen.client, TENSION, "ts, level, message", pen.progress).await
}

/// Those that began on these days, with the end as announced where it lies after them.
pub(crate) async fn availabilities(pen: Pen<'_>, days: Range<u32>) -> Result<u64> {
    let mut lines = Lines::default();
    let (from, to) = (pen.scale.day_start(days.start), pen.scale.day_start(days.end));
    for plant in &pen.output.plants {
        let site = &plant.site;
        for outage in plant.outages.iter().filter(|o| (from..to).contains(&o.from)) {
            let end = if outage.to <= to { outage.to } else { announced_end(outage) };
            let during = format!("[{},{})", instant_text(outage.from), instant_text(end));
            let available_kw = format!("{:.3}", outage.available_kw / f64::from(site.units));
            let written = instant_text(outage.from + 900);
            for unit in (1..=site.units).map(|rank| registry::unit_id(site.id, rank)) {
                match pen.stamp {
                    Stamp::History => lines.push(&[&unit, &during, &available_kw, &outage.reason, &written]),
                    Stamp::Now => lines.push(&[&unit, &during, &available_kw, &outage.reason]),
                }
            }
        }
    }
    let columns = pen.stamp.columns("unit_id, during, available_kw, reason");
    lines.copy(pen.client, AVAILABILITIES, &columns, pen.progress).await
}

/// Repairs take longer than was thought.
fn announced_end(outage: &Outage) -> i64 {
    outage.from + ((outage.to - outage.from) * 3 / 4).max(STEP_S)
}

/// The instant before which the 1-second series is purged when a day ends.
pub(crate) fn seconds_kept_from(scale: &Scale, day_end: i64) -> i64 {
    day_end - i64::from(scale.fast_hours) * 3_600
}

/// The same for the 10-minute series.
pub(crate) fn measured_kept_from(scale: &Scale, day_end: i64) -> i64 {
    day_end - i64::from(scale.days) * DAY_S
}
