//! Reads JSON: objects with a value for each column, in an array or one per line. Numbers keep all digits.

use std::borrow::Cow;
use std::cell::Cell as Shared;
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::marker::PhantomData;
use std::rc::Rc;

use base::nearest;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::cell::Cell;
use super::fault::{Fault, FaultKind};
use super::row_checker::RowChecker;
use crate::error::ErrorContext;
use crate::layout::{Column, ExtraColumns, TextSource};
use crate::{Error, Kind, Result};

const OBJECT_BYTES_MAX: usize = 4 << 20;

/// Reads a file with one object per line.
pub fn read_lines(file: File, checker: &mut RowChecker<'_>) -> Result<()> {
    let mut input = BufReader::with_capacity(256 << 10, file);
    let (mut text, mut line) = (Vec::new(), 0);
    loop {
        text.clear();
        let mut bounded = (&mut input).take(OBJECT_BYTES_MAX as u64);
        let read = bounded.read_until(b'\n', &mut text).during(Kind::FixSetup, "read the file")?;
        if read == 0 {
            return Ok(());
        }
        line += 1;
        if read >= OBJECT_BYTES_MAX {
            let expected = format!("a line of less than {} MiB", OBJECT_BYTES_MAX >> 20);
            checker.faults.add(Fault::at(
                FaultKind::Unreadable,
                line,
                "",
                expected,
                "is the file one array? Then its format is \"json\"",
            ));
            return Ok(());
        }
        let mark: &[u8] = if line == 1 { b"\xef\xbb\xbf" } else { b"" };
        let object = text.strip_prefix(mark).unwrap_or(&text);
        match std::str::from_utf8(object) {
            Ok(object) if object.trim().is_empty() => {}
            Ok(object) => row(object.trim(), line, checker)?,
            Err(_) => {
                let lossy = String::from_utf8_lossy(object);
                checker.reject_row(Fault::at(FaultKind::Encoding, line, &lossy, "UTF-8", "JSON must be in UTF-8"));
            }
        }
    }
}

/// Reads a file with one array of objects, one object at a time.
pub fn read_array(file: File, checker: &mut RowChecker<'_>) -> Result<()> {
    let mut input = Lines { input: BufReader::with_capacity(256 << 10, file), line: 1 };
    input.skip_byte_order_mark()?;
    let line = Rc::new(Shared::new(1));
    let pending = Rc::new(Shared::new(0));
    let counter = LineCounter { lines: input, line: Rc::clone(&line), pending: Rc::clone(&pending) };
    let mut failed = None;
    let mut parser = serde_json::Deserializer::from_reader(counter);
    let mut each = |object: Box<RawValue>| {
        pending.set(0);
        let text = object.get();
        let inside = text.bytes().filter(|byte| *byte == b'\n').count() as u64;
        row(text, line.get().saturating_sub(inside).max(1), checker).map_err(|error| failed = Some(error)).is_ok()
    };
    let read = parser.deserialize_seq(Objects(&mut each)).and_then(|()| parser.end());
    if let Some(error) = failed {
        return Err(error);
    }
    match read {
        Ok(()) => Ok(()),
        Err(error) if error.io_error_kind() == Some(std::io::ErrorKind::FileTooLarge) => {
            let expected = format!("objects of less than {} MiB", OBJECT_BYTES_MAX >> 20);
            checker.faults.add(Fault::at(
                FaultKind::Unreadable,
                line.get(),
                "",
                expected,
                "is the file one array of objects?",
            ));
            Ok(())
        }
        Err(error) if error.is_io() => Err(Error::new(Kind::FixSetup, "read the file").because(error)),
        Err(error) => {
            let hint = if error.is_eof() { "was the file truncated? Request it again" } else { "" };
            let fault =
                Fault::at(FaultKind::Unreadable, error.line() as u64, &error.to_string(), "one array of objects", hint);
            checker.faults.add(fault);
            Ok(())
        }
    }
}

fn row(text: &str, line: u64, checker: &mut RowChecker<'_>) -> Result<()> {
    let fields: Fields<'_> = match serde_json::from_str(text) {
        Ok(fields) => fields,
        Err(error) => {
            let expected = format!("an object with a value for each column ({error})");
            checker.reject_row(Fault::at(FaultKind::Fields, line, text, expected, ""));
            return Ok(());
        }
    };
    let layout = checker.layout;
    let mut cells: Vec<Option<Cell<'_>>> = vec![None; layout.columns.len()];
    for (name, value) in &fields.0 {
        // Several columns may be parts of one value.
        let is_it =
            |column: &Column| column.source == TextSource::Field && column.headers.iter().any(|header| header == name);
        let places: Vec<usize> = (0..layout.columns.len()).filter(|at| is_it(&layout.columns[*at])).collect();
        match places.first() {
            Some(at) if cells[*at].is_none() => places.iter().for_each(|at| cells[*at] = Some(cell(value))),
            Some(_) => {
                let fault = Fault::at(FaultKind::Fields, line, name, "each column once", "");
                checker.reject_row(fault.in_column(name));
                return Ok(());
            }
            None if layout.extra_columns == ExtraColumns::Refuse => {
                let known = layout.columns.iter().flat_map(|column| column.headers.iter().map(String::as_str));
                let hint = match nearest(name, known) {
                    Some(near) => format!("nearest: {near:?}"),
                    None => "add it to the layout, or set `extra_columns` to \"ignore\"".to_owned(),
                };
                checker.reject_row(
                    Fault::at(FaultKind::Fields, line, name, "only columns of the layout", hint).in_column(name),
                );
                return Ok(());
            }
            None => {}
        }
    }
    let cells: Vec<Cell<'_>> = cells.into_iter().map(|cell| cell.unwrap_or(Cell::Empty)).collect();
    checker.row(line, &cells)
}

pub fn cell(value: &RawValue) -> Cell<'_> {
    let text = value.get();
    match text.as_bytes().first() {
        Some(b'n') => Cell::Empty,
        Some(b't' | b'f') => Cell::Bool(text == "true"),
        Some(b'"') => match serde_json::from_str::<Cow<'_, str>>(text) {
            Ok(text) => Cell::Text(text),
            Err(_) => Cell::Undecodable(text.to_owned()),
        },
        Some(b'{' | b'[') => Cell::Invalid(text.to_owned(), "one value, found several"),
        _ => Cell::Plain(text.into()),
    }
}

/// An object's fields in their order; a name may occur twice.
pub struct Fields<'a>(pub Vec<(String, &'a RawValue)>);

impl<'de> serde::Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object<'a>(PhantomData<&'a ()>);
        impl<'de> Visitor<'de> for Object<'de> {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Object(PhantomData))
    }
}

/// Passes each element of an array to a function, until that returns false.
struct Objects<'a>(&'a mut dyn FnMut(Box<RawValue>) -> bool);

impl<'de> Visitor<'de> for Objects<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        while let Some(object) = array.next_element_seed(Element)? {
            if !(self.0)(object) {
                return Err(serde::de::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}

struct Element;

impl<'de> DeserializeSeed<'de> for Element {
    type Value = Box<RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Box<RawValue>, D::Error> {
        serde::Deserialize::deserialize(deserializer)
    }
}

struct Lines {
    input: BufReader<File>,
    line: u64,
}

impl Lines {
    fn skip_byte_order_mark(&mut self) -> Result<()> {
        let begins = self.input.fill_buf().during(Kind::FixSetup, "read the file")?;
        if begins.starts_with(b"\xef\xbb\xbf") {
            self.input.consume(3);
        }
        Ok(())
    }
}

/// Counts the lines that are read; exact because serde_json reads one byte at a time.
struct LineCounter {
    lines: Lines,
    line: Rc<Shared<u64>>,
    /// Bytes read since the last object.
    pending: Rc<Shared<usize>>,
}

impl Read for LineCounter {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.lines.input.read(buffer)?;
        self.lines.line += buffer[..read].iter().filter(|byte| **byte == b'\n').count() as u64;
        self.line.set(self.lines.line);
        self.pending.set(self.pending.get() + read);
        if self.pending.get() > OBJECT_BYTES_MAX {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        Ok(read)
    }
}
