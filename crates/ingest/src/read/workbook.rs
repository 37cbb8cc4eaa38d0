//! Recognizes what the rows of a sheet are: those before the header, comments, trailers, and rows of values.

use std::fs::File;

use super::cell::Cell;
use super::fault::{Fault, FaultKind};
use super::header::Header;
use super::row_checker::RowChecker;
use super::sheet;
use crate::Result;
use crate::layout::{Trailer, Xlsx};

/// 1900-01-02: an earlier time of a workbook is a time of day.
const FIRST_DAY: i64 = -2_208_902_400;

/// Reads all rows of a sheet.
pub fn read(file: File, format: &Xlsx, checker: &mut RowChecker<'_>) -> Result<()> {
    let (mut rows, mut is_over) = (Rows::new(format, checker), false);
    let fault = sheet::rows(file, format.sheet.as_deref(), &mut |line, cells| {
        let goes_on = rows.add(line, cells, checker)?;
        is_over = !goes_on;
        Ok(goes_on)
    })?;
    match fault {
        Some(fault) => checker.faults.add(fault),
        None if !is_over => rows.finish(checker),
        None => {}
    }
    Ok(())
}

/// Recognizes what the rows of a sheet are.
struct Rows<'a> {
    format: &'a Xlsx,
    header: Option<Header>,
    /// The texts of the rows before the header; `None` once they are over.
    preamble: Option<Vec<String>>,
    /// How many rows after the header are still to be skipped.
    skip: u64,
}

impl<'a> Rows<'a> {
    fn new(format: &'a Xlsx, checker: &RowChecker<'_>) -> Rows<'a> {
        let header = (!format.header).then(|| Header::by_position(checker.layout));
        Rows { format, header, preamble: Some(Vec::new()), skip: format.preamble.skip_after_header }
    }

    /// Whether the row is one before the header.
    fn is_preamble(&mut self, line: u64, cells: &[Cell<'_>]) -> bool {
        let Some(rows) = &mut self.preamble else { return false };
        let is_before = line <= self.format.preamble.skip_lines
            || self.format.preamble.skip_to.as_ref().is_some_and(|header| {
                let first = cells.iter().find(|cell| !cell.is_blank()).map(Cell::shown).unwrap_or_default();
                !first.trim_start().starts_with(header.as_str())
            });
        if is_before {
            rows.push(cells.iter().map(Cell::shown).filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" ; "));
        }
        is_before
    }

    /// Adds the fault of a sheet without a header.
    fn finish(&self, checker: &mut RowChecker<'_>) {
        if self.header.is_some() {
            return;
        }
        let fault = match &self.format.preamble.skip_to {
            Some(header) if self.preamble.is_some() => {
                let expected = format!("a header that begins with {header:?}");
                Fault::of_file(FaultKind::Header, expected, "compare `skip_to` of the layout")
            }
            _ => Fault::of_file(FaultKind::Header, "a row with the columns' names", "the sheet is empty"),
        };
        checker.faults.add(fault);
    }

    /// Adds a row of the sheet; false where the rest of it is not to be read.
    fn add(&mut self, line: u64, cells: &[Cell<'_>], checker: &mut RowChecker<'_>) -> Result<bool> {
        if cells.iter().all(Cell::is_blank) || self.is_preamble(line, cells) {
            return Ok(true);
        }
        if let Some(before) = self.preamble.take()
            && !checker.preamble(&before)
        {
            return Ok(false);
        }
        if let Some(header) = self.header.as_ref().filter(|_| self.format.header && self.skip > 0) {
            self.skip -= 1;
            let fault = header.skipped_row(line, cells, checker);
            let goes_on = fault.is_none();
            fault.into_iter().for_each(|fault| checker.faults.add(fault));
            return Ok(goes_on);
        }
        let first = cells.first().map(Cell::shown).unwrap_or_default();
        if let Some(at) = checker.trailer(|trailer: &Trailer| first.starts_with(&trailer.starts_with)) {
            checker.add_trailer(at, line, cells);
            return Ok(true);
        }
        if self.format.comment.as_ref().is_some_and(|comment| first.starts_with(comment.as_str())) {
            return Ok(true);
        }
        let Some(header) = &self.header else {
            let names: Vec<String> = cells.iter().map(header_text).collect();
            self.header = Header::by_name(&names, checker.layout, line, &mut checker.faults);
            return Ok(self.header.is_some());
        };
        if let Some(fault) = header.stray_value(line, cells) {
            checker.reject_row(fault);
            return Ok(true);
        }
        // Workbooks leave out empty cells at the end of a row.
        header.add_rows(line, cells, checker).map(|()| true)
    }
}

/// A column's name; of a time of day, such as those of hours, as `00:00`.
fn header_text(cell: &Cell<'_>) -> String {
    match cell {
        Cell::Local(at) if at.and_utc().timestamp() < FIRST_DAY => at.format("%H:%M").to_string(),
        cell => cell.shown(),
    }
}
