//! Cells that are not simply a field of a row: parts of texts, and texts that a file has once, in its name or in the lines
//! before its header.

use super::cell::Cell;
use super::fault::{Fault, FaultKind, Faults};
use super::value;
use crate::layout::{Column, Layout, TextSource};

/// The texts of one file that are the same for all of its rows.
pub struct FileTexts {
    /// Whether any column needs more than its field.
    is_needed: bool,
    /// The cell of each column whose text is not in a field.
    cells: Vec<Option<Cell<'static>>>,
}

impl FileTexts {
    /// Of a file of this name.
    pub fn new(layout: &Layout, name: &str) -> FileTexts {
        let file = name.rsplit('/').next().unwrap_or(name);
        let cell = |column: &Column| match column.source {
            TextSource::Field => None,
            TextSource::FileName => Some(match column.all_extracted(file).as_slice() {
                [text] => Cell::Text(text.clone().into()),
                [] => Cell::Invalid(file.to_owned(), "a file name that `extract` of the column matches"),
                _ => Cell::Invalid(file.to_owned(), "a file name in which `extract` of the column finds one value"),
            }),
            TextSource::Preamble => Some(Cell::Empty),
        };
        let is_needed =
            layout.columns.iter().any(|column| column.source != TextSource::Field || column.extract.is_some());
        FileTexts { is_needed, cells: layout.columns.iter().map(cell).collect() }
    }

    /// Finds texts in the lines before the header; false, with a fault added, where one is not there.
    pub fn add_preamble(&mut self, layout: &Layout, lines: &[String], faults: &mut Faults) -> bool {
        let mut is_whole = true;
        for (cell, column) in self.cells.iter_mut().zip(&layout.columns) {
            if column.source != TextSource::Preamble {
                continue;
            }
            let mut found: Vec<String> = lines.iter().flat_map(|line| column.all_extracted(line)).collect();
            found.sort_unstable();
            found.dedup();
            match found.as_slice() {
                [text] => *cell = Some(Cell::Text(text.clone().into())),
                [] if column.optional => {}
                [one, other, ..] => {
                    let expected = "one value in the lines before the header";
                    let text = format!("{one} and {other}");
                    let hint = "write more of the line in `extract`, so that one of them matches";
                    faults.add(Fault::at(FaultKind::Header, 1, &text, expected, hint).in_column(&column.name));
                    is_whole = false;
                }
                [] => {
                    let pattern = column.extract.as_ref().map(regex::Regex::as_str).unwrap_or_default();
                    let expected = format!("a line before the header that matches {pattern:?}");
                    let hint = match lines.len() {
                        0 => "no line is before the header: set `skip_lines` or `skip_to`",
                        _ => "compare the lines before the header with `extract`",
                    };
                    let text = lines.join(" / ");
                    faults.add(Fault::at(FaultKind::Header, 1, &text, expected, hint).in_column(&column.name));
                    is_whole = false;
                }
            }
        }
        is_whole
    }

    /// The cells of a row with what is derived; `None` where that is nothing.
    pub fn derive<'a>(&self, layout: &Layout, cells: &[Cell<'a>]) -> Option<Vec<Cell<'a>>> {
        if !self.is_needed {
            return None;
        }
        let derived = cells.iter().zip(&self.cells).zip(&layout.columns).map(|((cell, of_file), column)| {
            match (of_file, &column.extract) {
                (Some(of_file), _) => of_file.clone(),
                (None, Some(_)) if !value::is_empty(column, cell) => part_of(column, cell),
                _ => cell.clone(),
            }
        });
        Some(derived.collect())
    }
}

fn part_of<'a>(column: &Column, cell: &Cell<'a>) -> Cell<'a> {
    match cell {
        Cell::Undecodable(_) | Cell::Invalid(..) => cell.clone(),
        cell => match column.extracted(&cell.shown()) {
            Some(text) => Cell::Text(text.into()),
            None => Cell::Invalid(cell.shown(), "a text that `extract` of the column matches"),
        },
    }
}
