//! Makes a row of each field of a line that has several values, such as one for each hour of a day.

use chrono::{NaiveTime, TimeDelta};

use super::cell::{Cell, joined};
use super::fault::{Fault, FaultKind, Faults};
use super::row_checker::RowChecker;
use super::timestamp::{ParsedTime, day_start, parse_date, parse_time, resolve};
use super::value::is_empty;
use crate::Result;
use crate::layout::{Layout, Type, Wide, WideTime};

/// The fields of a file that are rows of their own.
#[derive(Debug)]
pub struct WideFields {
    /// The index of each field, the time in its header, and whether an earlier one has the same time: in files with the
    /// time of day, those are the hour that the clocks show twice.
    fields: Vec<(usize, String, bool)>,
}

impl WideFields {
    /// Finds them in the header; `None`, with a fault added, where there is none.
    pub fn find(wide: &Wide, names: &[&str], line: u64, faults: &mut Faults) -> Option<WideFields> {
        let mut fields: Vec<(usize, String, bool)> = Vec::new();
        for (at, name) in names.iter().enumerate() {
            let Some(time) = wide.headers.captures(name).and_then(|found| found.get(1)) else { continue };
            let is_repeated = fields.iter().any(|(_, before, _)| before == time.as_str());
            fields.push((at, time.as_str().to_owned(), is_repeated));
        }
        if fields.is_empty() {
            let text = names.iter().copied().take(20).collect::<Vec<_>>().join(" ");
            let expected = format!("columns whose names match {:?}", wide.headers.as_str());
            faults.add(Fault::at(FaultKind::Header, line, &text, expected, "compare `headers` of [wide]"));
            return None;
        }
        Some(WideFields { fields })
    }

    /// Whether the field of this index is one of them.
    pub fn has(&self, field: usize) -> bool {
        self.fields.iter().any(|(at, ..)| *at == field)
    }

    /// Passes a row for each field to the checker. `chosen` are the cells of the line's columns.
    ///
    /// # Errors
    /// Those of [`RowChecker::row`].
    pub fn add_rows<'a>(
        &self,
        line: u64,
        cells: &[Cell<'a>],
        mut chosen: Vec<Cell<'a>>,
        checker: &mut RowChecker<'_>,
    ) -> Result<()> {
        let layout = checker.layout;
        let Some(wide) = &layout.wide else { return Ok(()) };
        let day = chosen[wide.time].clone();
        for (at, header, is_repeated) in &self.fields {
            let value = cells.get(*at).cloned().unwrap_or(Cell::Empty);
            let time = time_of(&day, header, wide);
            // Hours that a day does not have are empty fields.
            if is_empty(&layout.columns[wide.value], &value) && (*is_repeated || !exists(&time, layout, wide)) {
                continue;
            }
            chosen[wide.time] = time;
            chosen[wide.value] = value;
            checker.row(line, &chosen)?;
        }
        Ok(())
    }
}

/// The time of a field as a cell of the time's column.
fn time_of<'a>(day: &Cell<'a>, header: &str, wide: &Wide) -> Cell<'a> {
    let WideTime::Position { first, step, day: format, zone } = &wide.shows else {
        return joined(day.clone(), Cell::Text(header.to_owned().into()));
    };
    let date = match day {
        Cell::Date(date) => Some(*date),
        Cell::Local(at) if at.time() == NaiveTime::MIN => Some(at.date()),
        Cell::Text(text) => parse_date(text.trim(), format.as_deref()),
        _ => None,
    };
    let Some(date) = date else { return Cell::Invalid(day.shown(), "a day") };
    let (start, end) = (day_start(date, zone.zone), date.succ_opt().and_then(|next| day_start(next, zone.zone)));
    let position: Option<i32> = header.trim().parse().ok();
    let passed = position
        .and_then(|position| position.checked_sub(i32::try_from(*first).ok()?))
        .filter(|position| *position >= 0)
        .and_then(|position| TimeDelta::from_std(*step).ok()?.checked_mul(position));
    match (start, passed, end) {
        (Some(start), Some(passed), Some(end)) if start + passed < end => {
            Cell::Instant((start + passed).timestamp_micros())
        }
        _ => Cell::Invalid(format!("{date}, step {header}"), "a step that the day has"),
    }
}

/// Whether there is such a time on that day.
fn exists(time: &Cell<'_>, layout: &Layout, wide: &Wide) -> bool {
    let Type::Timestamp { format, zone } = &layout.columns[wide.time].kind else { return true };
    let local = match time {
        Cell::Invalid(..) => return false,
        Cell::Local(at) => Some(*at),
        Cell::Text(text) => match parse_time(text, format.as_deref()) {
            Some(ParsedTime::Local(at)) => Some(at),
            _ => None,
        },
        _ => None,
    };
    let (Some(local), Some(zone)) = (local, zone) else { return true };
    !matches!(resolve(local, *zone), Err(error) if error.kind == FaultKind::SkippedHour)
}
