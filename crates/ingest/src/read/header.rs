//! Assigns the fields of a file to the columns of its layout, by the file's header or by position.

use base::{nearest, quoted_list};

use super::cell::Cell;
use super::fault::{Fault, FaultKind, Faults};
use crate::layout::{Column, ExtraColumns, Layout};

/// Which field of the rows has which column.
#[derive(Debug)]
pub struct Header {
    /// The field index of each column; `None` of an optional one that the file lacks.
    pub places: Vec<Option<usize>>,
    /// The number of fields of a row.
    pub width: usize,
    /// The indexes of fields without a name, which must be empty in every row.
    nameless: Vec<usize>,
}

impl Header {
    /// By position, for a file without a header.
    pub fn by_position(layout: &Layout) -> Header {
        let width = layout.columns.len();
        Header { places: (0..width).map(Some).collect(), width, nameless: Vec::new() }
    }

    /// By the names of a header; `None`, with faults added, where a column is missing.
    pub fn by_name(names: &[String], layout: &Layout, line: u64, faults: &mut Faults) -> Option<Header> {
        let names: Vec<&str> = names.iter().map(|name| name.trim().trim_start_matches('\u{feff}')).collect();
        let places: Vec<Option<usize>> =
            layout.columns.iter().map(|column| place(column, &names, layout, line, faults)).collect();
        if layout.extra_columns == ExtraColumns::Refuse {
            for (_, name) in
                names.iter().enumerate().filter(|(at, name)| !name.is_empty() && !places.contains(&Some(*at)))
            {
                let hint = match missing_near(name, layout, &places) {
                    Some(column) => format!("is it {column:?}? Then add it to that column's `header`"),
                    None => "add it to the layout, or set `extra_columns` to \"ignore\"".to_owned(),
                };
                faults
                    .add(Fault::at(FaultKind::Header, line, name, "only columns of the layout", hint).in_column(name));
            }
        }
        let nameless = names.iter().enumerate().filter(|(_, name)| name.is_empty()).map(|(at, _)| at).collect();
        let is_whole = places.iter().zip(&layout.columns).all(|(place, column)| place.is_some() || column.optional);
        is_whole.then_some(Header { places, width: names.len(), nameless })
    }

    /// The cells of the layout's columns. A row may lack fields at its end.
    pub fn chosen<'a>(&self, cells: &[Cell<'a>]) -> Vec<Cell<'a>> {
        let cell = |place: &Option<usize>| place.and_then(|at| cells.get(at).cloned()).unwrap_or(Cell::Empty);
        self.places.iter().map(cell).collect()
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

fn place(column: &Column, names: &[&str], layout: &Layout, line: u64, faults: &mut Faults) -> Option<usize> {
    let is_it = |name: &&str| column.headers.iter().any(|header| header == name);
    let all: Vec<usize> = (0..names.len()).filter(|at| is_it(&names[*at])).collect();
    let expected = match column.headers.as_slice() {
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
                Fault::at(FaultKind::Header, line, &text, expected, hint_missing(column, names, layout))
                    .in_column(&column.name),
            );
        }
    }
    None
}

fn hint_missing(column: &Column, names: &[&str], layout: &Layout) -> String {
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
    match column.headers.iter().find_map(|header| nearest(header, free.clone())) {
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
