//! Whether the steps of each series follow one another, over whole local days or months: a day of 23
//! or 25 hours has its own number of them.

use std::collections::HashMap;

use chrono::{DateTime, Datelike, Days, Months, NaiveDate};
use chrono_tz::Tz;

use super::fault::{Fault, Faults, What};
use super::instant::day_start;
use super::keys;
use crate::Result;
use crate::layout::{Covers, Series};

/// Microseconds since 1970, and of its step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Span {
    start: i64,
    step: i64,
    line: u64,
}

struct One {
    /// For messages: `prm 30000000000042`.
    name: String,
    spans: Vec<Span>,
}

#[derive(Default)]
pub struct Spans {
    series: HashMap<u128, One>,
    rows: usize,
    /// Rows whose time is not known: each may be the one that is missing elsewhere.
    unread: u64,
}

struct Hole {
    from: i64,
    to: i64,
    step: i64,
    line: u64,
}

impl Spans {
    /// # Errors
    /// `FixSetup` beyond [`keys::ROWS_MAX`].
    pub fn add(&mut self, series: u128, name: impl FnOnce() -> String, start: i64, step: i64, line: u64) -> Result<()> {
        if self.rows >= keys::ROWS_MAX {
            return Err(keys::too_many("[series]"));
        }
        self.rows += 1;
        let one = self.series.entry(series).or_insert_with(|| One { name: name(), spans: Vec::new() });
        one.spans.push(Span { start, step, line });
        Ok(())
    }

    pub fn add_unread(&mut self) {
        self.unread += 1;
    }

    /// At the end of the file.
    pub fn check(self, layout: &Series, faults: &mut Faults) {
        let mut holes = Vec::new();
        let mut all: Vec<One> = self.series.into_values().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        for mut one in all {
            one.spans.sort_unstable();
            holes.extend(one.holes(layout, faults).into_iter().map(|hole| (one.name.clone(), hole)));
        }
        let missing: i64 = holes.iter().map(|(_, hole)| hole.missing()).sum();
        // Rows that are there and can't be read are told already.
        if missing.unsigned_abs() > self.unread {
            for (name, hole) in holes {
                faults.add(hole.fault(&name, layout.zone));
            }
        }
    }
}

impl One {
    fn holes(&self, layout: &Series, faults: &mut Faults) -> Vec<Hole> {
        let (Some(first), Some(last)) = (self.spans.first(), self.spans.last()) else { return Vec::new() };
        let Some((mut cursor, end)) = bounds(first.start, last.start, layout) else { return Vec::new() };
        let mut holes = Vec::new();
        for span in &self.spans {
            let off = (span.start - cursor).rem_euclid(span.step) != 0;
            if span.start < cursor || off {
                faults.add(overlap(span, cursor, &self.name, layout.zone));
            } else if span.start > cursor {
                holes.push(Hole { from: cursor, to: span.start, step: span.step, line: span.line });
            }
            cursor = cursor.max(span.start + span.step);
        }
        if cursor < end {
            holes.push(Hole { from: cursor, to: end, step: last.step, line: last.line });
        }
        holes
    }
}

/// Of the days or months in which the rows lie.
fn bounds(first: i64, last: i64, layout: &Series) -> Option<(i64, i64)> {
    let day = |at: i64| Some(local(at, layout.zone)?.date_naive());
    let (from, to): (NaiveDate, NaiveDate) = match layout.covers {
        Covers::Days => (day(first)?, day(last)?.checked_add_days(Days::new(1))?),
        Covers::Months => (day(first)?.with_day(1)?, day(last)?.with_day(1)?.checked_add_months(Months::new(1))?),
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
        format!("a row from {} on{name}: the one before lasts until then", shown(cursor, zone))
    } else {
        format!("a row at a whole number of steps of {} after {}{name}", iso(span.step), shown(cursor, zone))
    };
    Fault::at(What::OverlappingSteps, span.line, &shown(span.start, zone), expected, "is the step the right one?")
}

/// A step as it is written.
fn iso(micros: i64) -> String {
    let seconds = micros / 1_000_000;
    if seconds % 60 == 0 { format!("PT{}M", seconds / 60) } else { format!("PT{seconds}S") }
}

impl Hole {
    fn missing(&self) -> i64 {
        (self.to - self.from).div_euclid(self.step).max(1)
    }

    fn fault(&self, name: &str, zone: Tz) -> Fault {
        let text = format!("{} to {}", shown(self.from, zone), shown(self.to, zone));
        let expected = format!("{} more rows of {}{name}", self.missing(), iso(self.step));
        Fault::at(What::MissingSteps, self.line, &text, expected, self.hint(zone))
    }

    /// The day on which the clocks change is the usual reason.
    fn hint(&self, zone: Tz) -> String {
        let hours = |date: NaiveDate| {
            let next = date.checked_add_days(Days::new(1))?;
            Some((day_start(next, zone)? - day_start(date, zone)?).num_hours())
        };
        let Some(date) = local(self.from, zone).map(|at| at.date_naive()) else { return String::new() };
        let to = local(self.to - 1, zone).map(|at| at.date_naive());
        match hours(date).filter(|hours| *hours != 24 && to == Some(date)) {
            Some(hours) => format!("{date} has {hours} hours in {zone}: ask for a file that has them all"),
            None => "ask for the rows, or for a file that has them".to_owned(),
        }
    }
}
