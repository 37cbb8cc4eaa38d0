//! Reads CSV. `csv-core` splits the lines into fields; skipped lines, comments and trailers between the
//! rows are recognized here.

use std::fs::File;
use std::io::Read;

use csv_core::ReadRecordResult;

use super::cell::Cell;
use super::encoding::{self, TextEncoding};
use super::fault::{Fault, FaultKind};
use super::header::Header;
use super::row_checker::RowChecker;
use crate::error::ErrorContext;
use crate::layout::Csv;
use crate::{Kind, Result};

const PIECE_BYTES: usize = 256 << 10;
/// A longer record is refused: it probably has a quote that is not closed.
const RECORD_BYTES_MAX: usize = 4 << 20;
/// How much of a line before the header is read.
const PREAMBLE_LINE_BYTES_MAX: usize = 4096;
const SEPARATOR_LINE: &[u8] = b"sep=";

/// Reads all rows of a CSV file.
pub fn read(file: File, format: &Csv, checker: &mut RowChecker<'_>) -> Result<()> {
    let opened = encoding::open(file, format.encoding)?;
    let encoding = opened.encoding;
    let mut records = Records::new(opened.bytes, format.separator);
    if !preamble(&mut records, format, encoding, checker)? {
        return Ok(());
    }
    let comment = format.comment.as_ref().map(|comment| encoding.encode(comment));
    let trailers: Vec<Vec<u8>> = checker.layout.trailers.iter().map(|one| encoding.encode(&one.starts_with)).collect();
    let longest = trailers.iter().chain(&comment).map(Vec::len).max().unwrap_or_default();
    let mut header = (!format.header).then(|| Header::by_position(checker.layout));
    let mut ends_with_separator = None;
    while records.skip_to_line(longest)? {
        let trailer = trailers.iter().position(|begins| records.ahead().starts_with(begins));
        if trailer.is_none() && comment.as_ref().is_some_and(|comment| records.ahead().starts_with(comment)) {
            records.skip_line()?;
            continue;
        }
        let line = records.line;
        let expected = match records.next()? {
            RecordEnd::Complete => None,
            RecordEnd::TooLong => Some(format!("a line of less than {} MiB", RECORD_BYTES_MAX >> 20)),
            RecordEnd::UnclosedQuote => {
                Some("a closing quote for the one opened on this line; the file ends without it".to_owned())
            }
        };
        if let Some(expected) = expected {
            let hint = "does a text of this line contain a quote? It must be written twice";
            checker.faults.add(Fault::at(FaultKind::Unreadable, line, "", expected, hint));
            return Ok(());
        }
        let cells: Vec<Cell<'_>> = records.fields().map(|field| encoding.cell(field)).collect();
        match (trailer, &header) {
            (Some(at), _) => checker.add_trailer(at, line, &cells),
            (None, Some(header)) => {
                // Some programs end each line with a separator, but not the header. In one line of many, it is a fault.
                let has_more = cells.len() == header.width + 1 && cells.last().is_some_and(Cell::is_blank);
                let is_usual = *ends_with_separator.get_or_insert(has_more);
                let cells = if has_more && is_usual { &cells[..header.width] } else { &cells[..] };
                row(header, line, &records, cells, checker)?;
            }
            (None, None) => {
                let names: Vec<String> = cells.iter().map(Cell::shown).collect();
                let Some(found) = Header::by_name(&names, checker.layout, line, &mut checker.faults) else {
                    return Ok(());
                };
                for _ in 0..format.preamble.skip_after_header {
                    records.skip_to_line(0)?;
                    let (line, _) = (records.line, records.next()?);
                    let cells: Vec<Cell<'_>> = records.fields().map(|field| encoding.cell(field)).collect();
                    if let Some(fault) = found.skipped_row(line, &cells, checker) {
                        checker.faults.add(fault);
                        return Ok(());
                    }
                }
                header = Some(found);
            }
        }
    }
    if header.is_none() {
        checker.faults.add(Fault::of_file(FaultKind::Header, "a line with the columns' names", "the file is empty"));
    }
    Ok(())
}

fn row(header: &Header, line: u64, records: &Records, cells: &[Cell<'_>], checker: &mut RowChecker<'_>) -> Result<()> {
    if cells.len() != header.width {
        checker.reject_row(field_count_fault(header.width, line, records, cells));
        return Ok(());
    }
    if let Some(fault) = header.stray_value(line, cells) {
        checker.reject_row(fault);
        return Ok(());
    }
    header.add_rows(line, cells, checker)
}

/// Reads the lines before the header; false where the rest of the file is not to be read.
fn preamble(records: &mut Records, format: &Csv, encoding: TextEncoding, checker: &mut RowChecker<'_>) -> Result<bool> {
    let mut lines = Vec::new();
    // The line by which spreadsheet programs tell the separator.
    records.skip_to_line(SEPARATOR_LINE.len())?;
    let mut left = format.preamble.skip_lines;
    if records.line == 1 && records.ahead().starts_with(SEPARATOR_LINE) {
        records.skip_line()?;
        left = left.saturating_sub(1);
    } else if records.line > 1 {
        // Empty lines at the beginning count as lines.
        left = left.saturating_sub(records.line - 1);
    }
    for _ in 0..left {
        lines.push(encoding.cell(&records.take_line()?).shown());
    }
    if let Some(header) = &format.preamble.skip_to {
        let begins = encoding.encode(header);
        loop {
            if !records.skip_to_line(begins.len() + 1)? {
                let expected = format!("a header that begins with {header:?}");
                checker.faults.add(Fault::of_file(FaultKind::Header, expected, "compare `skip_to` of the layout"));
                return Ok(false);
            }
            let ahead = records.ahead();
            if ahead.strip_prefix(b"\"").unwrap_or(ahead).starts_with(&begins) {
                break;
            }
            lines.push(encoding.cell(&records.take_line()?).shown());
        }
    }
    Ok(checker.preamble(&lines))
}

fn field_count_fault(width: usize, line: u64, records: &Records, cells: &[Cell<'_>]) -> Fault {
    let separator = char::from(records.separator).to_string();
    let text = cells.iter().map(Cell::shown).collect::<Vec<_>>().join(&separator);
    let expected = format!("{width} fields, found {}", cells.len());
    let hint = match () {
        () if records.lines_of_last() > 1 => {
            format!("a quote opened on this line is closed only on line {}", line + records.lines_of_last() - 1)
        }
        () if records.is_at_end() => "was the file truncated? Request it again".to_owned(),
        () if cells.len() > width => format!("does a text or a number contain {separator:?} without quotes around it?"),
        () => String::new(),
    };
    Fault::at(FaultKind::Fields, line, &text, expected, hint)
}

/// How the reading of a record ended.
enum RecordEnd {
    /// The record is complete.
    Complete,
    /// It is longer than [`RECORD_BYTES_MAX`].
    TooLong,
    /// The file ends within quotes.
    UnclosedQuote,
}

/// Reads the records of a file one after another, in bounded memory.
struct Records {
    input: Box<dyn Read>,
    separator: u8,
    held: Vec<u8>,
    /// How many bytes of `held` are consumed.
    at: usize,
    is_ended: bool,
    /// The line of the next byte, from 1.
    line: u64,
    after_return: bool,
    parser: csv_core::Reader,
    last: Vec<u8>,
    ends: Vec<usize>,
    bytes: usize,
    count: usize,
    last_line: u64,
}

impl Records {
    fn new(input: Box<dyn Read>, separator: u8) -> Records {
        Records {
            input,
            separator,
            held: Vec::with_capacity(PIECE_BYTES),
            at: 0,
            is_ended: false,
            line: 1,
            after_return: false,
            parser: csv_core::ReaderBuilder::new().delimiter(separator).build(),
            last: vec![0; 4096],
            ends: vec![0; 64],
            bytes: 0,
            count: 0,
            last_line: 1,
        }
    }

    fn ahead(&self) -> &[u8] {
        &self.held[self.at..]
    }

    fn fill(&mut self) -> Result<()> {
        self.held.drain(..self.at);
        self.at = 0;
        let held = self.held.len();
        self.held.resize(held + PIECE_BYTES, 0);
        let read = loop {
            match self.input.read(&mut self.held[held..]) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        let read = read.during(Kind::FixSetup, "read the file");
        self.held.truncate(held + *read.as_ref().unwrap_or(&0));
        self.is_ended = read? == 0;
        Ok(())
    }

    /// Consumes bytes and counts lines as editors do: by \n, \r\n, or \r alone.
    fn consume(&mut self, bytes: usize) {
        for &byte in &self.held[self.at..self.at + bytes] {
            if byte == b'\r' || (byte == b'\n' && !self.after_return) {
                self.line += 1;
            }
            self.after_return = byte == b'\r';
        }
        self.at += bytes;
    }

    /// Skips empty lines until more than `bytes` bytes of the next line are buffered; false at the end of the file.
    fn skip_to_line(&mut self, bytes: usize) -> Result<bool> {
        loop {
            let blank = self.ahead().iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            self.consume(blank);
            if self.is_ended || self.ahead().len() > bytes {
                return Ok(!self.ahead().is_empty());
            }
            self.fill()?;
        }
    }

    /// Skips to the end of the line; quotes have no meaning.
    fn skip_line(&mut self) -> Result<()> {
        self.take_line().map(drop)
    }

    /// Reads to the end of the line and returns its beginning; quotes have no meaning.
    fn take_line(&mut self) -> Result<Vec<u8>> {
        let mut line = Vec::new();
        loop {
            // The \n of a \r\n whose \r ended the last line.
            if self.after_return && self.ahead().first() == Some(&b'\n') {
                self.consume(1);
            }
            let length = self.ahead().iter().position(|byte| matches!(byte, b'\r' | b'\n'));
            let room = PREAMBLE_LINE_BYTES_MAX.saturating_sub(line.len());
            let text = &self.ahead()[..length.unwrap_or(self.ahead().len())];
            line.extend_from_slice(&text[..text.len().min(room)]);
            match length {
                Some(length) => {
                    self.consume(length + 1);
                    return Ok(line);
                }
                None => self.consume(self.ahead().len()),
            }
            if self.is_ended {
                return Ok(line);
            }
            self.fill()?;
        }
    }

    /// Splits the next record into its fields.
    fn next(&mut self) -> Result<RecordEnd> {
        (self.bytes, self.count, self.last_line) = (0, 0, self.line);
        let mut is_last = false;
        loop {
            // The last line may have no line end; one is added, which has no effect within quotes.
            let input = if is_last { b"\n" } else { &self.held[self.at..] };
            let output = &mut self.last[self.bytes..];
            let (result, used, written, ends) = self.parser.read_record(input, output, &mut self.ends[self.count..]);
            if !is_last {
                self.consume(used);
            }
            self.bytes += written;
            self.count += ends;
            match result {
                ReadRecordResult::Record | ReadRecordResult::End => return Ok(RecordEnd::Complete),
                ReadRecordResult::OutputFull if self.last.len() >= RECORD_BYTES_MAX => return Ok(RecordEnd::TooLong),
                ReadRecordResult::OutputFull => self.last.resize(self.last.len() * 2, 0),
                ReadRecordResult::OutputEndsFull if self.ends.len() >= RECORD_BYTES_MAX => {
                    return Ok(RecordEnd::TooLong);
                }
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::InputEmpty if is_last => return Ok(RecordEnd::UnclosedQuote),
                ReadRecordResult::InputEmpty => {
                    if !self.is_ended {
                        self.fill()?;
                    }
                    // Given no input, the parser would end the record, within quotes too.
                    is_last = self.is_ended;
                }
            }
        }
    }

    fn fields(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.count).map(|at| {
            let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
            &self.last[start..self.ends[at]]
        })
    }

    /// How many lines the last record has.
    fn lines_of_last(&self) -> u64 {
        (self.line - self.last_line).max(1)
    }

    fn is_at_end(&self) -> bool {
        self.is_ended && self.ahead().is_empty()
    }
}
