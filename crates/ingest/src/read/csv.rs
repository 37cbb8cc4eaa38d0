//! Lines of fields. The fields of a line are found by `csv-core`; between two lines stands what is no
//! row: skipped lines, comments, totals.

use std::fs::File;
use std::io::Read;

use csv_core::ReadRecordResult;

use super::cell::Cell;
use super::encoding;
use super::fault::{Fault, What};
use super::heading::Heading;
use super::table::Table;
use crate::error::During;
use crate::layout::Csv;
use crate::{Kind, Result};

const PIECE_BYTES: usize = 256 << 10;
/// Longer, and a quote was opened that nobody closed.
const RECORD_BYTES_MAX: usize = 4 << 20;

pub fn read(file: File, format: &Csv, table: &mut Table<'_>) -> Result<()> {
    let opened = encoding::open(file, format.encoding)?;
    let text = opened.text;
    let mut records = Records::new(opened.bytes, format.separator);
    for _ in 0..format.skip_lines {
        records.skip_line()?;
    }
    let comment = format.comment.as_ref().map(|comment| text.encoded(comment));
    let trailers: Vec<Vec<u8>> = table.layout.trailers.iter().map(|one| text.encoded(&one.starts_with)).collect();
    let longest = trailers.iter().chain(&comment).map(Vec::len).max().unwrap_or_default();
    let mut heading = (!format.header).then(|| Heading::none(table.layout));
    while records.reach_line(longest)? {
        let trailer = trailers.iter().position(|begins| records.ahead().starts_with(begins));
        if trailer.is_none() && comment.as_ref().is_some_and(|comment| records.ahead().starts_with(comment)) {
            records.skip_line()?;
            continue;
        }
        let line = records.line;
        let broken = match records.next()? {
            Parted::Whole => None,
            Parted::Long => Some(format!("a line of less than {} MiB", RECORD_BYTES_MAX >> 20)),
            Parted::Open => Some("a quote to close the one that is opened on it; the file ends before".to_owned()),
        };
        if let Some(expected) = broken {
            let hint = "is a quote on it that is part of a text? It must be written twice";
            table.faults.add(Fault::at(What::Unreadable, line, "", expected, hint));
            return Ok(());
        }
        let cells: Vec<Cell<'_>> = records.fields().map(|field| text.cell(field)).collect();
        match (trailer, &heading) {
            (Some(at), _) => table.say_total(at, line, &cells),
            (None, Some(heading)) => row(heading, line, &records, &cells, table)?,
            (None, None) => {
                let names: Vec<String> = cells.iter().map(Cell::shown).collect();
                let Some(found) = Heading::of(&names, table.layout, line, &mut table.faults) else { return Ok(()) };
                heading = Some(found);
            }
        }
    }
    if heading.is_none() {
        table.faults.add(Fault::of_file(What::Header, "a line with the columns' names", "the file is empty"));
    }
    Ok(())
}

fn row(heading: &Heading, line: u64, records: &Records, cells: &[Cell<'_>], table: &mut Table<'_>) -> Result<()> {
    if cells.len() != heading.width {
        table.misfit(miscounted(heading.width, line, records, cells));
        return Ok(());
    }
    if let Some(fault) = heading.misfit(line, cells) {
        table.misfit(fault);
        return Ok(());
    }
    let chosen: Vec<Cell<'_>> = heading.places.iter().map(|at| cells[*at].clone()).collect();
    table.row(line, &chosen)
}

fn miscounted(width: usize, line: u64, records: &Records, cells: &[Cell<'_>]) -> Fault {
    let separator = char::from(records.separator).to_string();
    let text = cells.iter().map(Cell::shown).collect::<Vec<_>>().join(&separator);
    let expected = format!("{width} fields, and there are {}", cells.len());
    let hint = match () {
        () if records.lines_of_last() > 1 => {
            format!("a quote opened on it is closed on line {} only", line + records.lines_of_last() - 1)
        }
        () if records.is_at_end() => "was the file cut off? Ask for it again".to_owned(),
        () if cells.len() > width => format!("does a text, or a number, hold {separator:?} without quotes around it?"),
        () => String::new(),
    };
    Fault::at(What::Fields, line, &text, expected, hint)
}

enum Parted {
    Whole,
    /// Beyond [`RECORD_BYTES_MAX`].
    Long,
    /// The file ends within quotes.
    Open,
}

/// The lines of a file one after another, in bounded memory.
struct Records {
    input: Box<dyn Read>,
    separator: u8,
    held: Vec<u8>,
    /// What of `held` is used up.
    at: usize,
    is_ended: bool,
    /// Of what comes next, from 1.
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

    /// Lines are counted as editors do: by \n, \r\n, or \r alone.
    fn use_up(&mut self, bytes: usize) {
        for &byte in &self.held[self.at..self.at + bytes] {
            if byte == b'\r' || (byte == b'\n' && !self.after_return) {
                self.line += 1;
            }
            self.after_return = byte == b'\r';
        }
        self.at += bytes;
    }

    /// To the next line that is not empty, with this many bytes of it in sight; false at the end of the file.
    fn reach_line(&mut self, bytes: usize) -> Result<bool> {
        loop {
            let blank = self.ahead().iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            self.use_up(blank);
            if self.is_ended || self.ahead().len() > bytes {
                return Ok(!self.ahead().is_empty());
            }
            self.fill()?;
        }
    }

    /// To the end of the line, quotes or not.
    fn skip_line(&mut self) -> Result<()> {
        loop {
            // The second half of the last line's end.
            if self.after_return && self.ahead().first() == Some(&b'\n') {
                self.use_up(1);
            }
            let length = self.ahead().iter().position(|byte| matches!(byte, b'\r' | b'\n'));
            match length {
                Some(length) => {
                    self.use_up(length + 1);
                    return Ok(());
                }
                None => self.use_up(self.ahead().len()),
            }
            if self.is_ended {
                return Ok(());
            }
            self.fill()?;
        }
    }

    /// Parts the next line into its fields.
    fn next(&mut self) -> Result<Parted> {
        (self.bytes, self.count, self.last_line) = (0, 0, self.line);
        let mut is_last = false;
        loop {
            // A line that nobody ended, unless it is within quotes.
            let input = if is_last { b"\n" } else { &self.held[self.at..] };
            let output = &mut self.last[self.bytes..];
            let (result, used, written, ends) = self.parser.read_record(input, output, &mut self.ends[self.count..]);
            if !is_last {
                self.use_up(used);
            }
            self.bytes += written;
            self.count += ends;
            match result {
                ReadRecordResult::Record | ReadRecordResult::End => return Ok(Parted::Whole),
                ReadRecordResult::OutputFull if self.last.len() >= RECORD_BYTES_MAX => return Ok(Parted::Long),
                ReadRecordResult::OutputFull => self.last.resize(self.last.len() * 2, 0),
                ReadRecordResult::OutputEndsFull if self.ends.len() >= RECORD_BYTES_MAX => return Ok(Parted::Long),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::InputEmpty if is_last => return Ok(Parted::Open),
                ReadRecordResult::InputEmpty => {
                    if !self.is_ended {
                        self.fill()?;
                    }
                    // Of nothing the parser would make an end, within quotes too.
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

    /// How many lines the last record took.
    fn lines_of_last(&self) -> u64 {
        (self.line - self.last_line).max(1)
    }

    fn is_at_end(&self) -> bool {
        self.is_ended && self.ahead().is_empty()
    }
}
