//! Assigns the fields of a file to the columns of its layout, by the file's header or by position.

use base::{nearest, quoted_list};

use super::cell::{Cell, joined};
use super::fault::{Fault, FaultKind, Faults};
use super::row_checker::RowChecker;
use super::wide::WideFields;
use crate::Result;
use crate::layout::{Column, ExtraColumns, Layout, TextSource};

/// Which field of the rows has which column.
#[derive(Debug)]
pub struct Header {
    /// The field index of each column; `None` of one that the file lacks, or whose value is in no field of its own.
    pub places: Vec<Option<usize>>,
    /// The field index of the time of day, of columns whose date and time are in two fields.
    time_places: Vec<Option<usize>>,
    /// The fields that are rows of their own.
    wide: Option<WideFields>,
    /// The number of fields of a row.
    pub width: usize,
    /// The indexes of fields without a name, which must be empty in every row.
    nameless: Vec<usize>,
}

impl Header {
    /// By position, for a file without a header.
    pub fn by_position(layout: &Layout) -> Header {
        let mut width = 0;
        let mut next = |column: &Column| {
            let is_field = column.source == TextSource::Field;
            width += usize::from(is_field);
            is_field.then(|| width - 1)
        };
        let places: Vec<Option<usize>> = layout.columns.iter().map(&mut next).collect();
        let time_places = vec![None; places.len()];
        Header { places, time_places, wide: None, width, nameless: Vec::new() }
    }

    /// By the names of a header; `None`, with faults added, where a column is missing.
    pub fn by_name(names: &[String], layout: &Layout, line: u64, faults: &mut Faults) -> Option<Header> {
        let names: Vec<&str> = names.iter().map(|name| name.trim().trim_start_matches('\u{feff}')).collect();
        let wide = match &layout.wide {
            Some(wide) => Some(WideFields::find(wide, &names, line, faults)?),
            None => None,
        };
        let places: Vec<Option<usize>> = layout
            .columns
            .iter()
            .enumerate()
            .map(|(at, column)| {
                let is_elsewhere = layout.wide.as_ref().is_some_and(|wide| wide.value == at);
                let is_field = column.source == TextSource::Field && !is_elsewhere;
                is_field.then(|| place(&column.headers, column, &names, layout, line, faults)).flatten()
            })
            .collect();
        let time_places: Vec<Option<usize>> = layout
            .columns
            .iter()
            .map(|column| {
                let headers = &column.time_headers;
                if headers.is_empty() { None } else { place(headers, column, &names, layout, line, faults) }
            })
            .collect();
        if layout.extra_columns == ExtraColumns::Refuse {
            let is_read = |at: usize| {
                let is_wide = wide.as_ref().is_some_and(|wide| wide.has(at));
                is_wide || places.contains(&Some(at)) || time_places.contains(&Some(at))
            };
            for (_, name) in names.iter().enumerate().filter(|(at, name)| !name.is_empty() && !is_read(*at)) {
                let hint = match missing_near(name, layout, &places) {
                    Some(column) => format!("is it {column:?}? Then add it to that column's `header`"),
                    None => "add it to the layout, or set `extra_columns` to \"ignore\"".to_owned(),
                };
                faults
                    .add(Fault::at(FaultKind::Header, line, name, "only columns of the layout", hint).in_column(name));
            }
        }
        // A column may be called "".
        let is_nameless = |(at, name): &(usize, &&str)| name.is_empty() && !places.contains(&Some(*at));
        let nameless = names.iter().enumerate().filter(is_nameless).map(|(at, _)| at).collect();
        let is_whole = layout.columns.iter().enumerate().all(|(at, column)| {
            let is_elsewhere = layout.wide.as_ref().is_some_and(|wide| wide.value == at);
            let has_time = column.time_headers.is_empty() || time_places[at].is_some();
            column.source != TextSource::Field || is_elsewhere || column.optional || (places[at].is_some() && has_time)
        });
        is_whole.then_some(Header { places, time_places, wide, width: names.len(), nameless })
    }

    /// Passes the rows of a line to the checker: one, or one for each field that is a row of its own.
    ///
    /// # Errors
    /// Those of [`RowChecker::row`].
    pub fn add_rows(&self, line: u64, cells: &[Cell<'_>], checker: &mut RowChecker<'_>) -> Result<()> {
        let chosen = self.chosen(cells);
        match &self.wide {
            None => checker.row(line, &chosen),
            Some(wide) => wide.add_rows(line, cells, chosen, checker),
        }
    }

    /// The fault of a line that the layout skips, where it is a row.
    pub fn skipped_row(&self, line: u64, cells: &[Cell<'_>], checker: &RowChecker<'_>) -> Option<Fault> {
        let text = cells.iter().map(Cell::shown).collect::<Vec<_>>().join(" ");
        let hint = "does this file lack the line with units? Then `skip_after_header` is too much";
        let is_row = self.wide.is_none() && checker.is_row(&self.chosen(cells));
        is_row.then(|| Fault::at(FaultKind::Header, line, &text, "a line that is no row after the header", hint))
    }

    /// The cells of the layout's columns. A row may lack fields at its end.
    fn chosen<'a>(&self, cells: &[Cell<'a>]) -> Vec<Cell<'a>> {
        let cell = |place: &Option<usize>| place.and_then(|at| cells.get(at).cloned()).unwrap_or(Cell::Empty);
        let chosen = self.places.iter().zip(&self.time_places).map(|(place, time)| match time {
            Some(_) => joined(cell(place), cell(time)),
            None => cell(place),
        });
        chosen.collect()
    }

    /// The fault of a row with a value in a field without a column; `None` where there is no such value.
    pub fn stray_value(&self, line: u64, cells: &[Cell<'_>]) -> Option<Fault> {
        let filled = |at: &usize| cells.get(*at).is_some_and(|cell| !cell.is_blank());
        let stray = self.nameless.iter().copied().chain(self.width..cells.len()).find(|at| filled(at))?;
        let text = cells[stray].shown();
        let expected = format!("no value in field {}, which has no name", stray + 1);
        Some(Fault::at(
            FaultKind::Fields,
            line,
            &text,
            expected,
            "does a text contain the separator without quotes around it?",
        ))
    }
}

fn place(
    headers: &[String],
    column: &Column,
    names: &[&str],
    layout: &Layout,
    line: u64,
    faults: &mut Faults,
) -> Option<usize> {
    let is_it = |name: &&str| headers.iter().any(|header| header == name);
    let all: Vec<usize> = (0..names.len()).filter(|at| is_it(&names[*at])).collect();
    let expected = match headers {
        [header] => format!("a column {header:?}"),
        headers => format!("a column of one of the names {}", quoted_list(headers.iter().map(String::as_str))),
    };
    match all.as_slice() {
        [at] => return Some(*at),
        [_, again, ..] => {
            let fault = Fault::at(FaultKind::Header, line, names[*again], format!("{expected} once"), "");
            faults.add(fault.in_column(&column.name));
        }
        [] if column.optional => {}
        [] => {
            let text = names.iter().copied().take(20).collect::<Vec<_>>().join(" ");
            faults.add(
                Fault::at(FaultKind::Header, line, &text, expected, hint_missing(headers, names, layout))
                    .in_column(&column.name),
            );
        }
    }
    None
}

fn hint_missing(headers: &[String], names: &[&str], layout: &Layout) -> String {
    if let [only] = names
        && layout.columns.len() > 1
        && let Some(mark) = [';', ',', '\t', '|'].into_iter().find(|mark| only.contains(*mark))
    {
        return format!("the line is one field with {mark:?} in it: set `separator` to it");
    }
    let free = names
        .iter()
        .copied()
        .filter(|name| !layout.columns.iter().any(|other| other.headers.iter().any(|header| header == name)));
    match headers.iter().find_map(|header| nearest(header, free.clone())) {
        Some(near) => format!("nearest: {near:?}"),
        None => String::new(),
    }
}

/// The missing column that an unknown name was probably meant for.
fn missing_near<'a>(name: &str, layout: &'a Layout, places: &[Option<usize>]) -> Option<&'a str> {
    let missing = layout.columns.iter().zip(places).filter(|(_, place)| place.is_none());
    let headers = missing.flat_map(|(column, _)| column.headers.iter().map(String::as_str));
    nearest(name, headers)
}
