//! Files with several values in a row, such as a field for each hour of a day: parsed from `[wide]`.

use std::time::Duration;

use base::Problems;
use regex::Regex;

use super::lookup::{column_index, regular_expression};
use super::section::Section;
use super::{Column, Stamp, Step, Type, Zone};

/// The fields of a row that are rows of their own.
#[derive(Debug, Clone)]
pub struct Wide {
    /// Which headers have values; the first group of the expression is the time within the row's day.
    pub headers: Regex,
    /// The index of the column that gets a field's value.
    pub value: usize,
    /// The index of the timestamp column that gets its time; in the file this column has the day.
    pub time: usize,
    /// What the header says of the time.
    pub shows: WideTime,
}

/// How a header gives the time of its field's values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WideTime {
    /// As the time of day, which is joined with the day by a space and read in the column's format.
    Clock,
    /// As the number of the step in the local day, which has 23, 24 or 25 hours.
    Position {
        /// The number of the first step.
        first: u32,
        /// How long a step is.
        step: Duration,
        /// The format of the day.
        day: Option<String>,
        /// The zone in which the day begins.
        zone: Zone,
    },
}

/// Parses `[wide]`.
pub fn wide(mut section: Section<'_>, columns: &[Column], report: &mut Problems<'_>) -> Option<Wide> {
    let headers = section.text("headers", report);
    let (value, time) = (section.text("value", report), section.text("time", report));
    for (key, given) in [("headers", &headers), ("value", &value), ("time", &time)] {
        if given.is_none() {
            report.add(section.span(), format!("[wide] has no {key:?}"), None);
        }
    }
    let pattern = headers.as_ref().and_then(|text| regular_expression("headers", text, report));
    if let (Some(text), Some(pattern)) = (&headers, &pattern)
        && pattern.captures_len() < 2
    {
        report.add(text.span(), "\"headers\" has no group", "put brackets around the time: '^H(\\d+)$'".to_owned());
    }
    let at = |name: &Option<toml::Spanned<String>>, report: &mut Problems<'_>| {
        name.as_ref().and_then(|name| column_index(columns, name, report))
    };
    let (value_at, time_at) = (at(&value, report), at(&time, report));
    let is_position = section.word("shows", &[("clock", false), ("position", true)], report).unwrap_or(false);
    let first = section.whole("first", 0, 1, report).map_or(1, |first| u32::from(first.into_inner() != 0));
    let step = section.text("step", report);
    let day = section.text("day", report).map(toml::Spanned::into_inner);
    if !is_position && (step.is_some() || day.is_some()) {
        report.add(section.span(), "\"step\" and \"day\" of [wide] need shows = \"position\"", None);
    }
    let zone = time_at.and_then(|at| match &columns[at].kind {
        Type::Timestamp { zone, .. } => Some(*zone),
        _ => {
            let name = &columns[at].name;
            report.add(section.span(), format!("{name:?} is not a timestamp"), None);
            None
        }
    })?;
    let shows = if is_position {
        let step = step.as_ref().and_then(|step| super::origin::step_of(step, columns, report));
        let Some(Step::Fixed(step)) = step else {
            let hint = "write how long a step is: step = \"PT1H\"".to_owned();
            report.add(section.span(), "[wide] has no \"step\"", hint);
            return None;
        };
        let Some(zone) = zone else {
            let hint = "set the column's `zone`, such as \"Europe/Paris\"".to_owned();
            report.add(section.span(), "the time of [wide] has no zone, in which its days begin", hint);
            return None;
        };
        WideTime::Position { first, step, day, zone }
    } else {
        WideTime::Clock
    };
    if let Some(at) = time_at.filter(|at| is_position && columns[*at].stamp != Stamp::Start) {
        let what = format!("{:?} has stamp = \"end\", and [wide] counts the steps of a day", columns[at].name);
        report.add(section.span(), what, "leave out \"stamp\"".to_owned());
    }
    section.finish(report);
    Some(Wide { headers: pattern?, value: value_at?, time: time_at?, shows })
}
