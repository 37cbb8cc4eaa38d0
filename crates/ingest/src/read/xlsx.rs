//! Reads one sheet of an Excel workbook, cell by cell.

use std::fs::File;
use std::io::{BufReader, Seek};

use base::quoted_list;
use calamine::{DataRef, Reader, Xlsx as Workbook, XlsxError};

use super::cell::Cell;
use super::fault::{Fault, FaultKind};
use super::header::Header;
use super::row_checker::RowChecker;
use crate::error::ErrorContext;
use crate::layout::{Trailer, Xlsx};
use crate::{Kind, Result};

/// The largest workbook, unpacked. Its texts are kept in memory, so a small archive must not unpack to any size.
const UNPACKED_BYTES_MAX: u64 = 1 << 30;

/// 2^53: beyond it a sheet does not keep all digits of a whole number.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// Reads all rows of a sheet.
pub fn read(file: File, format: &Xlsx, checker: &mut RowChecker<'_>) -> Result<()> {
    if let Some(fault) = too_large(&file)? {
        checker.faults.add(fault);
        return Ok(());
    }
    match Workbook::new(BufReader::new(file)) {
        Ok(mut workbook) => sheet(&mut workbook, format, checker),
        Err(error) => {
            checker.faults.add(unreadable(0, &error));
            Ok(())
        }
    }
}

/// The fault of a workbook that is too large, by the sizes that the archive states. A file with more bytes than stated
/// is unreadable.
fn too_large(file: &File) -> Result<Option<Fault>> {
    let mut again = file.try_clone().during(Kind::FixSetup, "read the file")?;
    // A file that is not an archive is reported when the workbook is opened.
    let size = zip::ZipArchive::new(BufReader::new(&mut again)).ok().and_then(|archive| archive.decompressed_size());
    again.rewind().during(Kind::FixSetup, "read the file")?;
    let expected = format!("a workbook of less than {} GiB unpacked", UNPACKED_BYTES_MAX >> 30);
    let is_too_large = size.is_some_and(|size| size > u128::from(UNPACKED_BYTES_MAX));
    Ok(is_too_large.then(|| Fault::of_file(FaultKind::Unreadable, expected, "save it as CSV")))
}

fn unreadable(line: u64, error: &XlsxError) -> Fault {
    let hint = match error {
        XlsxError::Password => "the workbook has a password: save it without one",
        _ => "does a spreadsheet program open it? An .xls file must be saved as .xlsx",
    };
    Fault::at(FaultKind::Unreadable, line, &error.to_string(), "a workbook (.xlsx)", hint)
}

fn sheet(workbook: &mut Workbook<BufReader<File>>, format: &Xlsx, checker: &mut RowChecker<'_>) -> Result<()> {
    let names = workbook.sheet_names();
    let wanted = format.sheet.as_ref().or(names.first());
    let Some(name) = wanted.filter(|name| names.contains(name)) else {
        let expected = format!("a sheet {:?}", format.sheet.as_deref().unwrap_or_default());
        let hint = format!("the workbook has {}", quoted_list(names.iter().map(String::as_str)));
        checker.faults.add(Fault::of_file(FaultKind::Header, expected, hint));
        return Ok(());
    };
    let mut cells = match workbook.worksheet_cells_reader(name) {
        Ok(cells) => cells,
        Err(error) => {
            checker.faults.add(unreadable(0, &error));
            return Ok(());
        }
    };
    let mut rows = Rows { format, header: (!format.header).then(|| Header::by_position(checker.layout)) };
    let (mut line, mut row): (u64, Vec<Cell<'_>>) = (0, Vec::new());
    loop {
        let cell = match cells.next_cell() {
            Ok(Some(cell)) => cell,
            Ok(None) => break,
            Err(error) => {
                checker.faults.add(unreadable(line, &error));
                return Ok(());
            }
        };
        let (at_row, at_column) = cell.get_position();
        if u64::from(at_row) + 1 != line {
            if !rows.add(line, &row, checker)? {
                return Ok(());
            }
            row.clear();
            line = u64::from(at_row) + 1;
        }
        let at = at_column as usize;
        row.resize(row.len().max(at + 1), Cell::Empty);
        row[at] = value(cell.get_value());
    }
    if rows.add(line, &row, checker)? && rows.header.is_none() {
        checker.faults.add(Fault::of_file(FaultKind::Header, "a row with the columns' names", "the sheet is empty"));
    }
    Ok(())
}

struct Rows<'a> {
    format: &'a Xlsx,
    header: Option<Header>,
}

impl Rows<'_> {
    /// Adds a row of the sheet; false where the rest of it is not to be read.
    fn add(&mut self, line: u64, cells: &[Cell<'_>], checker: &mut RowChecker<'_>) -> Result<bool> {
        if line <= self.format.skip_lines || cells.iter().all(Cell::is_blank) {
            return Ok(true);
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
            let names: Vec<String> = cells.iter().map(Cell::shown).collect();
            self.header = Header::by_name(&names, checker.layout, line, &mut checker.faults);
            return Ok(self.header.is_some());
        };
        if let Some(fault) = header.stray_value(line, cells) {
            checker.reject_row(fault);
            return Ok(true);
        }
        // Workbooks leave out empty cells at the end of a row.
        checker.row(line, &header.chosen(cells)).map(|()| true)
    }
}

fn value<'a>(value: &DataRef<'a>) -> Cell<'a> {
    match value {
        DataRef::Empty => Cell::Empty,
        DataRef::Int(whole) => Cell::Exact(crate::number::Number::whole(i128::from(*whole))),
        DataRef::Float(number) if number.abs() >= WHOLE_MAX => {
            Cell::Invalid(number.to_string(), "a text: a sheet does not keep all digits of such a long number")
        }
        DataRef::Float(number) => Cell::Displayed(*number),
        DataRef::String(text) => Cell::Text(text.clone().into()),
        DataRef::SharedString(text) => Cell::Text((*text).into()),
        DataRef::Bool(value) => Cell::Bool(*value),
        DataRef::DateTime(at) if at.is_duration() => seconds(at.as_f64()),
        DataRef::DateTime(at) => match at.as_datetime() {
            Some(at) => Cell::Local(at),
            None => Cell::Invalid(at.as_f64().to_string(), "a valid date"),
        },
        DataRef::DateTimeIso(text) | DataRef::DurationIso(text) => Cell::Text(text.clone().into()),
        DataRef::Error(error) => Cell::Invalid(error.to_string(), "a value, found an error of the sheet"),
    }
}

/// A duration of so many days.
fn seconds(days: f64) -> Cell<'static> {
    let seconds = days * 86_400.0;
    let whole = seconds.round();
    if (seconds - whole).abs() > 1e-3 || whole.abs() > 1e15 {
        return Cell::Invalid(format!("{seconds} s"), "a whole number of seconds");
    }
    Cell::Seconds(whole as i64)
}
