//! Proposes a layout for rows of fields: finds the header, and what each column is.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{NaiveTime, TimeDelta};
use regex::Regex;

use super::Proposal;
use super::column::{ColumnFit, Fit, Marks, NamedColumn, fit, marks};
use super::sample::{Table, usual_width};
use super::toml_text::{LayoutText, column_name, list, quoted};
use crate::read::Cell;

/// A day has at least so many hours.
const HOURS_MIN: usize = 23;
const STEPS_S: [i64; 8] = [60, 300, 600, 900, 1800, 3600, 7200, 86_400];

/// Proposes a layout for a table; none where it has no rows.
pub fn propose(table: Table, name: &str) -> Option<Proposal> {
    let Table { format, separator, rows } = table;
    let width = if separator.is_some() { usual_width(&rows).0 } else { rows.iter().map(Vec::len).max()? };
    let header_at = rows.iter().position(|row| is_header(row, width, separator.is_some()));
    let mut text = LayoutText::default();
    text.line(format.trim_end());
    let (names, mut first) = match header_at {
        Some(at) => (
            rows[at].iter().map(|cell| cell.shown().trim().trim_start_matches('\u{feff}').to_owned()).collect(),
            at + 1,
        ),
        None => ((1..=width).map(|at| format!("field {at}")).collect::<Vec<_>>(), 0),
    };
    match header_at {
        None => text.doubtful("header = false", "No line looks like a header: fields are read in this order."),
        Some(0) => {}
        Some(at) => preamble(&rows[..at], &names, &mut text),
    }
    if rows.get(first).is_some_and(|row| header_at.is_some() && is_unit_row(row)) {
        text.line("skip_after_header = 1");
        first += 1;
    }
    let rows = without_trailers(rows.get(first..)?, width, separator.is_some(), &mut text);
    if rows.is_empty() {
        return None;
    }
    let column = |(at, header): (usize, &String)| {
        let values = rows.iter().map(|row| row.get(at).cloned().unwrap_or(Cell::Empty)).collect();
        NamedColumn { header: header.clone(), values }
    };
    let columns: Vec<NamedColumn> = names.iter().enumerate().filter(|(_, name)| !name.is_empty()).map(column).collect();
    let mut columns = without_repeated_names(columns, &mut text);
    let texts = rows
        .iter()
        .flat_map(|row| row.iter())
        .filter_map(|cell| if let Cell::Text(text) = cell { Some(text.as_ref()) } else { None });
    let marks = marks(texts, separator);
    let wide = wide(&mut columns);
    Some(finish(text, columns, marks, wide, name))
}

/// Proposes the columns of a format without fields, whose first lines are `format`.
pub fn propose_columns(format: &str, columns: Vec<NamedColumn>, name: &str) -> Proposal {
    let mut text = LayoutText::default();
    text.line(format.trim_end());
    finish(text, columns, Marks { decimal: '.', has_spaces: false, is_proven: true }, None, name)
}

fn is_header(row: &[Cell<'_>], width: usize, is_csv: bool) -> bool {
    let filled = row.iter().filter(|cell| !cell.is_blank()).count();
    let is_wide_enough = if is_csv { row.len() == width } else { filled * 2 >= width };
    let is_name = |cell: &&Cell<'_>| match cell {
        Cell::Text(text) => {
            let text = text.trim();
            let is_value =
                fit(&[Cell::Text(text.to_owned().into())], Marks { decimal: ',', has_spaces: false, is_proven: false });
            // Hours of a wide file are numbers or times of day.
            matches!(is_value.fit, Fit::Text | Fit::TimeOfDay) || (text.len() <= 2 && text.parse::<u8>().is_ok())
        }
        _ => false,
    };
    is_wide_enough && filled > 0 && row.iter().filter(|cell| !cell.is_blank()).filter(is_name).count() * 5 >= filled * 4
}

/// Says which lines are before the header, and which of their texts may be wanted.
fn preamble(before: &[Vec<Cell<'_>>], names: &[String], text: &mut LayoutText) {
    match names.first().filter(|name| !name.is_empty()) {
        Some(first) => text.line(&format!("skip_to = {}", quoted(first))),
        None => text.doubtful(
            &format!("skip_lines = {}", before.len()),
            "Empty lines before the header count as lines: compare the number.",
        ),
    }
    for row in before.iter().take(10) {
        let line: Vec<String> = row.iter().map(Cell::shown).filter(|text| !text.trim().is_empty()).collect();
        let line = line.join(" ; ");
        if !line.is_empty() && !line.starts_with("sep=") {
            text.line(&format!("#   before the header: {}", line.replace(char::is_control, " ")));
        }
    }
    text.doubt("A text of these lines becomes a column by source = \"preamble\" and extract = '...(...)'.".to_owned());
}

fn is_unit_row(row: &[Cell<'_>]) -> bool {
    let units = ["kwh", "wh", "mwh", "kw", "w", "mw", "v", "a", "%", "°c", "eur/mwh", "€/mwh", "hz", "var", "kvar"];
    let is_unit = |cell: &Cell<'_>| {
        let text = cell.shown().trim().to_lowercase();
        (text.starts_with('[') && text.ends_with(']'))
            || (text.starts_with('(') && text.ends_with(')'))
            || units.contains(&text.as_str())
    };
    row.iter().any(is_unit) && row.iter().all(|cell| cell.is_blank() || is_unit(cell))
}

/// Leaves out lines of totals and notes at the end, and says how they are skipped.
fn without_trailers<'a>(
    rows: &'a [Vec<Cell<'static>>],
    width: usize,
    is_csv: bool,
    text: &mut LayoutText,
) -> Vec<&'a Vec<Cell<'static>>> {
    let begins = |row: &Vec<Cell<'static>>| row.first().map(Cell::shown).unwrap_or_default().trim().to_owned();
    let is_total = |row: &Vec<Cell<'static>>| {
        let first = begins(row).to_lowercase();
        first.starts_with('#') || ["total", "somme", "sum"].iter().any(|word| first.starts_with(word))
    };
    let mut found: BTreeSet<String> = BTreeSet::new();
    let mut kept = Vec::with_capacity(rows.len());
    for row in rows {
        if is_total(row) {
            let first = begins(row);
            let word: String = first.chars().take_while(|c| c.is_alphanumeric() || *c == '#').collect();
            found.insert(word);
        } else if is_csv && (row.len() < width.min(2) || (row.len() != width && row.len() == 1)) {
            text.doubt(format!("A line is no row, and will be a fault: {:?}", begins(row)));
        } else if row.iter().any(|cell| !cell.is_blank()) {
            kept.push(row);
        }
    }
    // A shorter beginning is that of the longer ones, too.
    let words: Vec<&String> = found
        .iter()
        .filter(|word| !found.iter().any(|other| other != *word && word.starts_with(other.as_str())))
        .filter(|word| !word.is_empty())
        .collect();
    if !words.is_empty() {
        let tables: Vec<String> =
            words.iter().map(|word| format!("{{ starts_with = {}, required = false }}", quoted(word))).collect();
        let line = format!("trailers = [{}]", tables.join(", "));
        text.doubtful(&line, "Lines of totals are skipped; `count` and `sums` would compare them with the rows.");
    }
    kept
}

fn without_repeated_names(columns: Vec<NamedColumn>, text: &mut LayoutText) -> Vec<NamedColumn> {
    let mut seen = BTreeSet::new();
    // The repeated hour of a file with a field for each hour.
    let is_clock = |name: &str| {
        fit(&[Cell::Text(name.to_owned().into())], Marks { decimal: '.', has_spaces: false, is_proven: true }).fit
            == Fit::TimeOfDay
    };
    columns
        .into_iter()
        .filter(|column| {
            let is_new = seen.insert(column.header.clone()) || is_clock(&column.header);
            if !is_new {
                text.doubt(format!("Two columns are called {:?}; a file with both is refused.", column.header));
            }
            is_new
        })
        .collect()
}

/// A field for each hour.
struct WideFit {
    headers: &'static str,
    is_position: bool,
    first: u32,
    step_s: i64,
}

/// Takes the columns of a wide file together as one.
fn wide(columns: &mut Vec<NamedColumn>) -> Option<WideFit> {
    for (headers, is_position) in [(r"^[Hh]?(\d{1,2})$", true), (r"^(\d{1,2}:\d{2})$", false)] {
        let pattern = Regex::new(headers).ok()?;
        let labels: Vec<String> = columns
            .iter()
            .filter_map(|column| Some(pattern.captures(&column.header)?.get(1)?.as_str().to_owned()))
            .collect();
        if labels.len() < HOURS_MIN {
            continue;
        }
        let first = u32::from(!labels.iter().any(|label| label == "0" || label == "00"));
        let distinct: BTreeSet<&String> = labels.iter().collect();
        let step_s = match distinct.len() {
            0..=25 => 3600,
            26..=50 => 1800,
            _ => 900,
        };
        let at = columns.iter().position(|column| pattern.is_match(&column.header))?;
        let mut values = Vec::new();
        columns.retain(|column| {
            let is_one = pattern.is_match(&column.header);
            if is_one {
                values.extend(column.values.iter().cloned());
            }
            !is_one
        });
        columns.insert(at.min(columns.len()), NamedColumn { header: "value".to_owned(), values });
        return Some(WideFit { headers, is_position, first, step_s });
    }
    None
}

/// Writes the settings of the file and its columns.
fn finish(
    mut text: LayoutText,
    columns: Vec<NamedColumn>,
    marks: Marks,
    wide: Option<WideFit>,
    file: &str,
) -> Proposal {
    let fits: Vec<(String, ColumnFit)> =
        columns.iter().map(|one| (one.header.clone(), fit(&one.values, marks))).collect();
    if marks.decimal == ',' {
        text.line("decimal = \",\"");
    }
    if marks.has_spaces {
        text.line("thousands = \" \"");
    }
    if !marks.is_proven {
        text.doubt(format!("Numbers as 1{m}234: is {m:?} the decimal mark, or between thousands?", m = marks.decimal));
    }
    let needs_zone = wide.is_some()
        || fits.iter().any(|(_, one)| matches!(one.fit, Fit::Time { has_offset: false, .. } | Fit::Date(_)));
    if needs_zone {
        text.doubtful("zone = \"Europe/Paris\"", "Times have no offset: which time zone are they in?");
        text.doubtful("ambiguous = \"in-order\"", "In autumn, is the repeated hour there twice, in its order?");
    }
    let plan = ColumnPlan::new(&columns, &fits, wide.as_ref());
    if let Some(key) = plan.key(&columns, &fits) {
        text.line(&format!("key = {}", list(key.iter().map(String::as_str))));
    } else {
        text.doubt("No columns together are unique: set `key` to those that identify a row.".to_owned());
    }
    if let Some(digits) = digits_of_name(file).filter(|digits| !has_value(&columns, digits)) {
        text.line("\n[columns.prm]");
        text.line("source = \"file-name\"");
        text.line(&format!("extract = '(?:^|\\D)(\\d{{{}}})(?:\\D|$)'", digits.len()));
        text.doubtful("type = \"text\"", &format!("The file's name has {digits}: is it the metering point?"));
    }
    for at in 0..fits.len() {
        plan.write(at, &fits, wide.as_ref(), &mut text);
    }
    if let Some(wide) = &wide {
        plan.write_wide(wide, &fits, &mut text);
    }
    Proposal { layout: text.text, doubts: text.doubts }
}

fn digits_of_name(name: &str) -> Option<String> {
    let file = name.rsplit('/').next().unwrap_or(name);
    let pattern = Regex::new(r"(?:^|\D)(\d{14})(?:\D|$)").ok()?;
    Some(pattern.captures(file)?.get(1)?.as_str().to_owned())
}

fn has_value(columns: &[NamedColumn], text: &str) -> bool {
    columns.iter().any(|column| column.values.first().is_some_and(|cell| cell.shown().trim() == text))
}

/// What the columns are for.
struct ColumnPlan {
    names: Vec<String>,
    /// The column of the rows' time.
    time: Option<usize>,
    /// The column of its time of day.
    clock: Option<usize>,
    /// The step in seconds.
    step_s: Option<i64>,
    /// Whether the times are probably ends of steps.
    is_end: bool,
    /// Columns whose values identify a series.
    series: Vec<usize>,
}

impl ColumnPlan {
    fn new(columns: &[NamedColumn], fits: &[(String, ColumnFit)], wide: Option<&WideFit>) -> ColumnPlan {
        let find = |is: &dyn Fn(&Fit) -> bool| fits.iter().position(|(_, one)| is(&one.fit));
        let is_date = |fit: &Fit| matches!(fit, Fit::Date(_));
        let clock = find(&|fit| *fit == Fit::TimeOfDay).filter(|_| find(&is_date).is_some());
        let time = find(&|fit| matches!(fit, Fit::Time { .. }));
        let time = time.or_else(|| find(&is_date).filter(|_| clock.is_some() || wide.is_some()));
        let mut names: Vec<String> = fits.iter().map(|(header, _)| column_name(header)).collect();
        if let Some(time) = time {
            names[time] = "starts_at".to_owned();
        }
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for name in &mut names {
            let count = seen.entry(name.clone()).or_default();
            *count += 1;
            if *count > 1 {
                *name = format!("{name}_{count}");
            }
        }
        let series = (0..fits.len())
            .filter(|at| matches!(fits[*at].1.fit, Fit::Text | Fit::Digits(_)) && fits[*at].1.is_full)
            .filter(|at| {
                let values: BTreeSet<String> = columns[*at].values.iter().map(Cell::shown).collect();
                matches!(fits[*at].1.fit, Fit::Digits(_))
                    || (values.len() > 1 && values.len() * 4 <= columns[*at].values.len())
            })
            .collect();
        let times = time.filter(|_| clock.is_none()).map(|at| fits[at].1.times.as_slice()).unwrap_or_default();
        let step_s = step_of(times);
        let is_end = step_s.is_some_and(|step| are_ends(times, step));
        ColumnPlan { names, time, clock, step_s, is_end, series }
    }

    /// Columns whose values together are unique in the sample.
    fn key(&self, columns: &[NamedColumn], fits: &[(String, ColumnFit)]) -> Option<Vec<String>> {
        let rows = columns.iter().map(|column| column.values.len()).min().unwrap_or_default();
        let is_unique = |of: &[usize]| {
            let mut seen = BTreeSet::new();
            (0..rows).all(|row| seen.insert(of.iter().map(|at| columns[*at].values[row].shown()).collect::<Vec<_>>()))
        };
        let times: Vec<usize> = self.time.into_iter().chain(self.clock).collect();
        let all: Vec<usize> = self.series.iter().copied().chain(times.iter().copied()).collect();
        let candidates = [times, all];
        // The hour that is there twice has the same text twice.
        let chosen = candidates.into_iter().filter(|key| !key.is_empty()).find(|key| is_unique(key));
        let chosen = chosen.or_else(|| {
            (0..fits.len()).map(|at| vec![at]).find(|key| {
                let one = &fits[key[0]].1;
                one.is_full && matches!(one.fit, Fit::Digits(_) | Fit::Text | Fit::Integer) && is_unique(key)
            })
        })?;
        let mut names: Vec<String> = Vec::new();
        for at in self.series.iter().filter(|at| matches!(fits[**at].1.fit, Fit::Digits(_))).chain(&chosen) {
            if Some(*at) != self.clock && !names.contains(&self.names[*at]) {
                names.push(self.names[*at].clone());
            }
        }
        Some(names)
    }

    fn write(&self, at: usize, fits: &[(String, ColumnFit)], wide: Option<&WideFit>, text: &mut LayoutText) {
        if Some(at) == self.clock {
            return;
        }
        let (header, fit) = &fits[at];
        text.line(&format!("\n[columns.{}]", self.names[at]));
        if *header != self.names[at] {
            text.line(&format!("header = {}", quoted(header)));
        }
        match &fit.fit {
            Fit::Text => text.line("type = \"text\""),
            Fit::Empty => text.doubtful("type = \"text\"", "No row of the sample has a value."),
            Fit::Digits(count) => {
                text.line("type = \"text\"");
                text.line(&format!("pattern = '^\\d{{{count}}}$'"));
            }
            Fit::Integer => text.line("type = \"integer\""),
            Fit::Decimal(scale) => text.line(&format!("type = \"decimal(18,{})\"", (*scale).min(18))),
            Fit::Double => text.line("type = \"double\""),
            Fit::Boolean => text.line("type = \"boolean\""),
            Fit::Duration => text.line("type = \"duration\""),
            Fit::TimeOfDay => text.line("type = \"text\""),
            Fit::Date(format) => self.write_date(at, *format, fits, wide, text),
            Fit::Time { format, is_interval, .. } => {
                text.line("type = \"timestamp\"");
                if let Some(format) = format {
                    self.write_format(format, fit.is_day_or_month, text);
                }
                if *is_interval {
                    text.line("extract = '^(.+?) - '");
                }
                if Some(at) == self.time && self.is_end {
                    let minutes = self.step_s.unwrap_or_default() / 60;
                    text.line(&format!("step = \"PT{minutes}M\""));
                    text.doubtful(
                        "stamp = \"end\"",
                        "The first time is a step after midnight: are times the ends of steps?",
                    );
                }
            }
        }
        if !fit.empty_words.is_empty() {
            let words = std::iter::once("").chain(fit.empty_words.iter().map(String::as_str));
            text.line(&format!("empty = {}", list(words)));
        }
        if fit.is_full && fit.fit != Fit::Empty {
            text.line("required = true");
        }
        unit_doubt(header, &fit.fit, self.step_s, text);
    }

    /// A date: of the rows' time, with the time of day in another field or in the headers, or by itself.
    fn write_date(
        &self,
        at: usize,
        format: Option<&str>,
        fits: &[(String, ColumnFit)],
        wide: Option<&WideFit>,
        text: &mut LayoutText,
    ) {
        let is_day_or_month = fits[at].1.is_day_or_month;
        if Some(at) != self.time {
            text.line("type = \"date\"");
            if let Some(format) = format {
                self.write_format(format, is_day_or_month, text);
            }
            return;
        }
        text.line("type = \"timestamp\"");
        // Of a position in the day, the format of the day is a key of [wide].
        if wide.is_some_and(|wide| wide.is_position) {
            return;
        }
        if let Some(clock) = self.clock.filter(|_| wide.is_none()) {
            text.line(&format!("time_header = {}", quoted(&fits[clock].0)));
        }
        if let Some(format) = format {
            self.write_format(&format!("{format} %H:%M"), is_day_or_month, text);
        }
        text.doubt("Compare how the time of day is written; are times the ends of steps? Then set `stamp`.".to_owned());
    }

    fn write_format(&self, format: &str, is_day_or_month: bool, text: &mut LayoutText) {
        let line = format!("format = \"{format}\"");
        match is_day_or_month {
            true => text.doubtful(&line, "Is it the day that comes first, or the month?"),
            false => text.line(&line),
        }
    }

    fn write_wide(&self, wide: &WideFit, fits: &[(String, ColumnFit)], text: &mut LayoutText) {
        text.line("\n[wide]");
        text.line(&format!("headers = '{}'", wide.headers));
        text.line("value = \"value\"");
        let Some(time) = self.time else {
            text.doubtful("time = \"starts_at\"", "No column has the day of a row's values.");
            return;
        };
        text.line("time = \"starts_at\"");
        if wide.is_position {
            text.line("shows = \"position\"");
            text.line(&format!("first = {}", wide.first));
            if let Fit::Date(Some(format)) = &fits[time].1.fit {
                let line = format!("day = \"{format}\"");
                match fits[time].1.is_day_or_month {
                    true => text.doubtful(&line, "Is it the day that comes first, or the month?"),
                    false => text.line(&line),
                }
            }
            text.doubt("Has the day of 25 hours 25 values? Otherwise the headers are times of day.".to_owned());
            text.doubtful(&format!("step = \"PT{}M\"", wide.step_s / 60), "By the number of columns: compare it.");
        }
    }
}

/// Asks for the unit where a header names one.
fn unit_doubt(header: &str, fit: &Fit, step_s: Option<i64>, text: &mut LayoutText) {
    if !matches!(fit, Fit::Integer | Fit::Decimal(_) | Fit::Double) {
        return;
    }
    let words: BTreeSet<String> = header.split(|c: char| !c.is_alphanumeric()).map(str::to_lowercase).collect();
    let has = |unit: &str| words.contains(unit);
    if has("kw") || has("w") || has("mw") {
        let step = step_s.map_or("PT30M".to_owned(), |seconds| format!("PT{}M", seconds / 60));
        text.doubt(format!(
            "A power? power_over = \"{step}\" makes it the energy of a step, `round = true` rounds it."
        ));
    } else if has("kwh") {
        text.doubt("In kWh? factor = 1000 makes it Wh.".to_owned());
    } else if has("mwh") && !has("eur") {
        text.doubt("In MWh? factor = 1000000 makes it Wh.".to_owned());
    }
}

/// The most frequent distance of two times, where it is a usual step.
fn step_of(times: &[Option<chrono::NaiveDateTime>]) -> Option<i64> {
    let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
    for pair in times.windows(2) {
        if let [Some(a), Some(b)] = pair {
            *counts.entry((*b - *a).num_seconds().abs()).or_default() += 1;
        }
    }
    counts.remove(&0);
    let (step, _) = counts.into_iter().max_by_key(|(_, count)| *count)?;
    STEPS_S.contains(&step).then_some(step)
}

/// Whether the earliest time is a step after midnight, and midnights are there: as ends of steps are.
fn are_ends(times: &[Option<chrono::NaiveDateTime>], step_s: i64) -> bool {
    let Some(first) = times.iter().flatten().min() else { return false };
    let has_midnight = times.iter().flatten().any(|at| at.time() == NaiveTime::MIN);
    step_s < 86_400 && has_midnight && first.time() - NaiveTime::MIN == TimeDelta::seconds(step_s)
}
