//! Reads the cells of a sheet: of XLSX row by row, of XLSB, XLS and ODS as a whole. Which of them a file is, its content
//! tells.

use std::fs::File;
use std::io::{BufReader, Read, Seek};

use base::quoted_list;
use calamine::{Data, DataRef, Ods, Reader, Xls, Xlsb, Xlsx, XlsxError};
use chrono::NaiveDateTime;

use super::cell::{Cell, without_drift};
use super::fault::{Fault, FaultKind};
use super::timestamp::duration_seconds;
use crate::error::ErrorContext;
use crate::{Kind, Result};

/// The largest workbook, unpacked. Its texts are kept in memory, so a small archive must not unpack to any size.
const UNPACKED_BYTES_MAX: u64 = 1 << 30;
/// The same of formats whose sheets are read as a whole.
const WHOLE_SHEET_BYTES_MAX: u64 = 128 << 20;

/// 2^53: beyond it a sheet does not keep all digits of a whole number.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// What an XLS file begins with.
const COMPOUND_FILE: [u8; 8] = [0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1];

/// What the rows of a sheet are passed to, each with its number from 1; it returns false where no more are wanted.
pub type RowSink<'a> = &'a mut dyn FnMut(u64, &[Cell<'_>]) -> Result<bool>;

/// Passes the rows of a sheet, of the first one without a name, to `each`. Returns the fault of a file that can't be read.
///
/// # Errors
/// An error of `each`; `FixSetup` where the file can't be read from disk.
pub fn rows(mut file: File, sheet: Option<&str>, each: RowSink<'_>) -> Result<Option<Fault>> {
    let mut begins = Vec::new();
    (&mut file).take(8).read_to_end(&mut begins).during(Kind::FixSetup, "read the file")?;
    file.rewind().during(Kind::FixSetup, "read the file")?;
    if begins == COMPOUND_FILE {
        let bytes = file.metadata().during(Kind::FixSetup, "read the file")?.len();
        return match bytes > WHOLE_SHEET_BYTES_MAX {
            true => Ok(Some(too_large(WHOLE_SHEET_BYTES_MAX))),
            false => whole_sheet(Xls::new(BufReader::new(file)), sheet, each),
        };
    }
    let (size, names) = archive(&file)?;
    let has = |name: &str| names.iter().any(|one| one == name);
    // A sheet of these is in memory as a whole, several times as large as its text.
    let is_whole = has("xl/workbook.bin") || has("content.xml");
    let most = if is_whole { WHOLE_SHEET_BYTES_MAX } else { UNPACKED_BYTES_MAX };
    if size.is_some_and(|size| size > u128::from(most)) {
        return Ok(Some(too_large(most)));
    }
    if has("xl/workbook.bin") {
        return whole_sheet(Xlsb::new(BufReader::new(file)), sheet, each);
    }
    if has("content.xml") {
        return whole_sheet(Ods::new(BufReader::new(file)), sheet, each);
    }
    match Xlsx::new(BufReader::new(file)) {
        Ok(mut workbook) => row_by_row(&mut workbook, sheet, each),
        Err(error) => Ok(Some(unreadable(0, &error))),
    }
}

fn too_large(most: u64) -> Fault {
    let expected = format!("a workbook of less than {} MiB unpacked", most >> 20);
    Fault::of_file(FaultKind::Unreadable, expected, "save it as CSV")
}

/// The size of an archive's files by what it states, and their names. A file with more bytes than stated is unreadable;
/// one that is not an archive is reported when the workbook is opened.
fn archive(file: &File) -> Result<(Option<u128>, Vec<String>)> {
    let mut again = file.try_clone().during(Kind::FixSetup, "read the file")?;
    let archive = zip::ZipArchive::new(BufReader::new(&mut again)).ok();
    let found = archive.map(|archive| {
        let names = archive.file_names().filter_map(|name| Some(name.ok()?.into_owned()));
        (archive.decompressed_size(), names.collect())
    });
    again.rewind().during(Kind::FixSetup, "read the file")?;
    Ok(found.unwrap_or_default())
}

/// Reads a sheet that is in memory as a whole.
fn whole_sheet<R: Reader<BufReader<File>>>(
    opened: std::result::Result<R, R::Error>,
    sheet: Option<&str>,
    each: RowSink<'_>,
) -> Result<Option<Fault>>
where
    R::Error: std::fmt::Display,
{
    let not_read = |error: R::Error| {
        let hint = "does a spreadsheet program open it? Save it as .xlsx";
        Ok(Some(Fault::at(FaultKind::Unreadable, 0, &error.to_string(), "a workbook", hint)))
    };
    let mut workbook = match opened {
        Ok(workbook) => workbook,
        Err(error) => return not_read(error),
    };
    let name = match sheet_name(&workbook.sheet_names(), sheet) {
        Ok(name) => name,
        Err(fault) => return Ok(Some(*fault)),
    };
    let range = match workbook.worksheet_range(&name) {
        Ok(range) => range,
        Err(error) => return not_read(error),
    };
    let (first_row, first_column) = range.start().unwrap_or_default();
    for (at, row) in range.rows().enumerate() {
        let before = std::iter::repeat_n(Cell::Empty, first_column as usize);
        let cells: Vec<Cell<'_>> = before.chain(row.iter().map(|cell| value(&borrowed(cell)))).collect();
        if !each(u64::from(first_row) + at as u64 + 1, &cells)? {
            break;
        }
    }
    Ok(None)
}

fn borrowed(data: &Data) -> DataRef<'_> {
    match data {
        Data::Int(whole) => DataRef::Int(*whole),
        Data::Float(number) => DataRef::Float(*number),
        Data::String(text) => DataRef::SharedString(text),
        Data::Bool(value) => DataRef::Bool(*value),
        Data::DateTime(at) => DataRef::DateTime(*at),
        Data::DateTimeIso(text) => DataRef::DateTimeIso(text.clone()),
        Data::DurationIso(text) => DataRef::DurationIso(text.clone()),
        Data::Error(error) => DataRef::Error(error.clone()),
        Data::Empty => DataRef::Empty,
    }
}

/// The sheet to read, or the fault of a workbook that has no such sheet.
fn sheet_name(names: &[String], sheet: Option<&str>) -> std::result::Result<String, Box<Fault>> {
    let found = match sheet {
        Some(name) => names.iter().find(|one| *one == name),
        None => names.first(),
    };
    found.cloned().ok_or_else(|| {
        let expected = format!("a sheet {:?}", sheet.unwrap_or_default());
        let hint = format!("the workbook has {}", quoted_list(names.iter().map(String::as_str)));
        Box::new(Fault::of_file(FaultKind::Header, expected, hint))
    })
}

fn unreadable(line: u64, error: &XlsxError) -> Fault {
    let hint = match error {
        XlsxError::Password => "the workbook has a password: save it without one",
        _ => "does a spreadsheet program open it? Save it as .xlsx",
    };
    Fault::at(FaultKind::Unreadable, line, &error.to_string(), "a workbook (.xlsx)", hint)
}

fn row_by_row(workbook: &mut Xlsx<BufReader<File>>, sheet: Option<&str>, each: RowSink<'_>) -> Result<Option<Fault>> {
    let name = match sheet_name(&workbook.sheet_names(), sheet) {
        Ok(name) => name,
        Err(fault) => return Ok(Some(*fault)),
    };
    let mut cells = match workbook.worksheet_cells_reader(&name) {
        Ok(cells) => cells,
        Err(error) => return Ok(Some(unreadable(0, &error))),
    };
    let (mut line, mut row): (u64, Vec<Cell<'_>>) = (0, Vec::new());
    loop {
        let cell = match cells.next_cell() {
            Ok(Some(cell)) => cell,
            Ok(None) => break,
            Err(error) => return Ok(Some(unreadable(line, &error))),
        };
        let (at_row, at_column) = cell.get_position();
        if u64::from(at_row) + 1 != line {
            if line > 0 && !each(line, &row)? {
                return Ok(None);
            }
            row.clear();
            line = u64::from(at_row) + 1;
        }
        let at = at_column as usize;
        row.resize(row.len().max(at + 1), Cell::Empty);
        row[at] = value(cell.get_value());
    }
    each(line, &row)?;
    Ok(None)
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
            Some(at) => Cell::Local(without_drift(at)),
            None => Cell::Invalid(at.as_f64().to_string(), "a valid date"),
        },
        DataRef::DateTimeIso(text) => match text.parse::<NaiveDateTime>() {
            Ok(at) => Cell::Local(at),
            Err(_) => Cell::Text(text.clone().into()),
        },
        DataRef::DurationIso(text) => match duration_seconds(text) {
            Some(seconds) => Cell::Seconds(seconds),
            None => Cell::Text(text.clone().into()),
        },
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
