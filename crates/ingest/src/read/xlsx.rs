//! One sheet of a workbook, cell by cell.

use std::fs::File;
use std::io::{BufReader, Seek};

use calamine::{DataRef, Reader, Xlsx as Workbook, XlsxError};

use super::cell::Cell;
use super::fault::{Fault, What};
use super::heading::Heading;
use super::table::Table;
use crate::error::During;
use crate::layout::{Trailer, Xlsx};
use crate::nearest::list;
use crate::{Kind, Result};

/// Unpacked. The texts of a workbook are kept in memory, so that a small file can't be allowed to grow without end.
const UNPACKED_BYTES_MAX: u64 = 1 << 30;

/// 2^53: beyond it a sheet can't tell a whole number from the next.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

pub fn read(file: File, format: &Xlsx, table: &mut Table<'_>) -> Result<()> {
    if let Some(fault) = too_large(&file)? {
        table.faults.add(fault);
        return Ok(());
    }
    match Workbook::new(BufReader::new(file)) {
        Ok(mut workbook) => sheet(&mut workbook, format, table),
        Err(error) => {
            table.faults.add(unreadable(0, &error));
            Ok(())
        }
    }
}

/// Of every file in the archive by its own account; what holds more than it says ends as an unreadable one.
fn too_large(file: &File) -> Result<Option<Fault>> {
    let mut again = file.try_clone().during(Kind::FixSetup, "read the file")?;
    // What is no archive is told by who reads it.
    let size = zip::ZipArchive::new(BufReader::new(&mut again)).ok().and_then(|archive| archive.decompressed_size());
    again.rewind().during(Kind::FixSetup, "read the file")?;
    let expected = format!("a workbook of less than {} GiB unpacked", UNPACKED_BYTES_MAX >> 30);
    let is_too_large = size.is_some_and(|size| size > u128::from(UNPACKED_BYTES_MAX));
    Ok(is_too_large.then(|| Fault::of_file(What::Unreadable, expected, "have it written as CSV")))
}

fn unreadable(line: u64, error: &XlsxError) -> Fault {
    let hint = match error {
        XlsxError::Password => "it is locked with a password: have it saved without",
        _ => "does it open in a spreadsheet? An .xls must be saved as .xlsx",
    };
    Fault::at(What::Unreadable, line, &error.to_string(), "a workbook (.xlsx)", hint)
}

fn sheet(workbook: &mut Workbook<BufReader<File>>, format: &Xlsx, table: &mut Table<'_>) -> Result<()> {
    let names = workbook.sheet_names();
    let asked = format.sheet.as_ref().or(names.first());
    let Some(name) = asked.filter(|name| names.contains(name)) else {
        let expected = format!("a sheet {:?}", format.sheet.as_deref().unwrap_or_default());
        let hint = format!("the workbook has {}", list(names.iter().map(String::as_str)));
        table.faults.add(Fault::of_file(What::Header, expected, hint));
        return Ok(());
    };
    let mut cells = match workbook.worksheet_cells_reader(name) {
        Ok(cells) => cells,
        Err(error) => {
            table.faults.add(unreadable(0, &error));
            return Ok(());
        }
    };
    let mut rows = Rows { format, heading: (!format.header).then(|| Heading::none(table.layout)) };
    let (mut line, mut row): (u64, Vec<Cell<'_>>) = (0, Vec::new());
    loop {
        let cell = match cells.next_cell() {
            Ok(Some(cell)) => cell,
            Ok(None) => break,
            Err(error) => {
                table.faults.add(unreadable(line, &error));
                return Ok(());
            }
        };
        let (at_row, at_column) = cell.get_position();
        if u64::from(at_row) + 1 != line {
            if !rows.take(line, &row, table)? {
                return Ok(());
            }
            row.clear();
            line = u64::from(at_row) + 1;
        }
        let at = at_column as usize;
        row.resize(row.len().max(at + 1), Cell::Empty);
        row[at] = value(cell.get_value());
    }
    if rows.take(line, &row, table)? && rows.heading.is_none() {
        table.faults.add(Fault::of_file(What::Header, "a row with the columns' names", "the sheet is empty"));
    }
    Ok(())
}

struct Rows<'a> {
    format: &'a Xlsx,
    heading: Option<Heading>,
}

impl Rows<'_> {
    /// False where the reading ends here.
    fn take(&mut self, line: u64, cells: &[Cell<'_>], table: &mut Table<'_>) -> Result<bool> {
        if line <= self.format.skip_lines || cells.iter().all(Cell::is_blank) {
            return Ok(true);
        }
        let first = cells.first().map(Cell::shown).unwrap_or_default();
        if let Some(at) = table.trailer(|trailer: &Trailer| first.starts_with(&trailer.starts_with)) {
            table.say_total(at, line, cells);
            return Ok(true);
        }
        if self.format.comment.as_ref().is_some_and(|comment| first.starts_with(comment.as_str())) {
            return Ok(true);
        }
        let Some(heading) = &self.heading else {
            let names: Vec<String> = cells.iter().map(Cell::shown).collect();
            self.heading = Heading::of(&names, table.layout, line, &mut table.faults);
            return Ok(self.heading.is_some());
        };
        if let Some(fault) = heading.misfit(line, cells) {
            table.misfit(fault);
            return Ok(true);
        }
        // Empty cells at a row's end are not written.
        let chosen: Vec<Cell<'_>> =
            heading.places.iter().map(|at| cells.get(*at).cloned().unwrap_or(Cell::Empty)).collect();
        table.row(line, &chosen).map(|()| true)
    }
}

fn value<'a>(value: &DataRef<'a>) -> Cell<'a> {
    match value {
        DataRef::Empty => Cell::Empty,
        DataRef::Int(whole) => Cell::Exact(crate::number::Number::whole(i128::from(*whole))),
        DataRef::Float(number) if number.abs() >= WHOLE_MAX => {
            Cell::Wrong(number.to_string(), "a text: a sheet does not keep all digits of a number as long as this")
        }
        DataRef::Float(number) => Cell::Shown(*number),
        DataRef::String(text) => Cell::Text(text.clone().into()),
        DataRef::SharedString(text) => Cell::Text((*text).into()),
        DataRef::Bool(value) => Cell::Bool(*value),
        DataRef::DateTime(at) if at.is_duration() => seconds(at.as_f64()),
        DataRef::DateTime(at) => match at.as_datetime() {
            Some(at) => Cell::Local(at),
            None => Cell::Wrong(at.as_f64().to_string(), "a date that the calendar has"),
        },
        DataRef::DateTimeIso(text) | DataRef::DurationIso(text) => Cell::Text(text.clone().into()),
        DataRef::Error(error) => Cell::Wrong(error.to_string(), "a value, and the sheet has an error here"),
    }
}

/// Of a length of time in days.
fn seconds(days: f64) -> Cell<'static> {
    let seconds = days * 86_400.0;
    let whole = seconds.round();
    if (seconds - whole).abs() > 1e-3 || whole.abs() > 1e15 {
        return Cell::Wrong(format!("{seconds} s"), "a whole number of seconds");
    }
    Cell::Seconds(whole as i64)
}
