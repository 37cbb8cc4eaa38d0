//! Checks that the rows of each series follow one another without gaps or overlaps, over whole local
//! days or months: a day of 23 or 25 hours has fewer or more of them.

use std::collections::HashMap;

use chrono::{DateTime, Datelike, Days, Months, NaiveDate};
use chrono_tz::Tz;

use super::fault::{Fault, FaultKind, Faults};
use super::keys::{ROWS_MAX, TooManyRows};
use super::timestamp::day_start;
use crate::layout::{Coverage, Series};

/// The time that a row covers: its start in microseconds since 1970-01-01, UTC, and its length in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Span {
    start: i64,
    step: i64,
    line: u64,
}

struct OneSeries {
    /// For messages: ` for prm 30000000000042`.
    name: String,
    spans: Vec<Span>,
}

/// The rows of all series of a file.
#[derive(Default)]
pub struct SeriesCheck {
    series: HashMap<u128, OneSeries>,
    rows: usize,
    /// How many rows have no readable time; each may be one that seems to be missing.
    unread: u64,
}

struct Gap {
    from: i64,
    to: i64,
    step: i64,
    line: u64,
}

impl SeriesCheck {
    /// Adds a row of the series with this hash; `name` is for messages.
    ///
    /// # Errors
    /// There are more than [`ROWS_MAX`] rows.
    pub fn add(
        &mut self,
        series: u128,
        name: impl FnOnce() -> String,
        start: i64,
        step: i64,
        line: u64,
    ) -> Result<(), TooManyRows> {
        if self.rows >= ROWS_MAX {
            return Err(TooManyRows("[series]"));
        }
        self.rows += 1;
        let one = self.series.entry(series).or_insert_with(|| OneSeries { name: name(), spans: Vec::new() });
        one.spans.push(Span { start, step, line });
        Ok(())
    }

    /// Counts a row whose time or series could not be read.
    pub fn add_unread(&mut self) {
        self.unread += 1;
    }

    /// Adds the faults of all series, at the end of the file.
    pub fn check(self, layout: &Series, faults: &mut Faults) {
        let mut gaps = Vec::new();
        let mut all: Vec<OneSeries> = self.series.into_values().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        for mut one in all {
            one.spans.sort_unstable();
            gaps.extend(one.gaps(layout, faults).into_iter().map(|gap| (one.name.clone(), gap)));
        }
        let missing: i64 = gaps.iter().map(|(_, gap)| gap.missing()).sum();
        // Rows that could not be read have faults already, and may be the missing ones.
        if missing.unsigned_abs() > self.unread {
            for (name, gap) in gaps {
                faults.add(gap.fault(&name, layout.zone));
            }
        }
    }
}

impl OneSeries {
    fn gaps(&self, layout: &Series, faults: &mut Faults) -> Vec<Gap> {
        let (Some(first), Some(last)) = (self.spans.first(), self.spans.last()) else { return Vec::new() };
        let Some((mut cursor, end)) = bounds(first.start, last.start, layout) else { return Vec::new() };
        let mut gaps = Vec::new();
        for span in &self.spans {
            let off = (span.start - cursor).rem_euclid(span.step) != 0;
            if span.start < cursor || off {
                faults.add(overlap(span, cursor, &self.name, layout.zone));
            } else if span.start > cursor {
                gaps.push(Gap { from: cursor, to: span.start, step: span.step, line: span.line });
            }
            cursor = cursor.max(span.start + span.step);
        }
        if cursor < end {
            gaps.push(Gap { from: cursor, to: end, step: last.step, line: last.line });
        }
        gaps
    }
}

/// The first and last instant of the days or months that the rows are in.
fn bounds(first: i64, last: i64, layout: &Series) -> Option<(i64, i64)> {
    let day = |at: i64| Some(local(at, layout.zone)?.date_naive());
    let (from, to): (NaiveDate, NaiveDate) = match layout.covers {
        Coverage::Days => (day(first)?, day(last)?.checked_add_days(Days::new(1))?),
        Coverage::Months => (day(first)?.with_day(1)?, day(last)?.with_day(1)?.checked_add_months(Months::new(1))?),
    };
    let start = |date| day_start(date, layout.zone).map(|at| at.timestamp_micros());
    Some((start(from)?, start(to)?))
}

fn local(micros: i64, zone: Tz) -> Option<DateTime<Tz>> {
    Some(DateTime::from_timestamp_micros(micros)?.with_timezone(&zone))
}

fn shown(micros: i64, zone: Tz) -> String {
    local(micros, zone).map(|at| at.format("%Y-%m-%dT%H:%M:%S%:z").to_string()).unwrap_or_default()
}

fn overlap(span: &Span, cursor: i64, name: &str, zone: Tz) -> Fault {
    let expected = if span.start < cursor {
        format!("a row from {} on{name}, when the row before it ends", shown(cursor, zone))
    } else {
        format!("a row at a whole number of steps of {} after {}{name}", iso(span.step), shown(cursor, zone))
    };
    Fault::at(FaultKind::OverlappingSteps, span.line, &shown(span.start, zone), expected, "is the step the right one?")
}

/// A step in ISO 8601.
fn iso(micros: i64) -> String {
    let seconds = micros / 1_000_000;
    if seconds % 60 == 0 { format!("PT{}M", seconds / 60) } else { format!("PT{seconds}S") }
}

impl Gap {
    fn missing(&self) -> i64 {
        (self.to - self.from).div_euclid(self.step).max(1)
    }

    fn fault(&self, name: &str, zone: Tz) -> Fault {
        let text = format!("{} to {}", shown(self.from, zone), shown(self.to, zone));
        let expected = format!("{} more rows of {}{name}", self.missing(), iso(self.step));
        Fault::at(FaultKind::MissingSteps, self.line, &text, expected, self.hint(zone))
    }

    /// The usual reason is a day on which the clocks change.
    fn hint(&self, zone: Tz) -> String {
        let hours = |date: NaiveDate| {
            let next = date.checked_add_days(Days::new(1))?;
            Some((day_start(next, zone)? - day_start(date, zone)?).num_hours())
        };
        let Some(date) = local(self.from, zone).map(|at| at.date_naive()) else { return String::new() };
        let to = local(self.to - 1, zone).map(|at| at.date_naive());
        match hours(date).filter(|hours| *hours != 24 && to == Some(date)) {
            Some(hours) => format!("{date} has {hours} hours in {zone}: request a file with all of them"),
            None => "request a file with these rows".to_owned(),
        }
    }
}
