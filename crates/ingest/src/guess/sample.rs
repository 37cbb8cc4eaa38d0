//! The beginning of a file, as cells.

use std::fs::File;
use std::io::{Read, Seek};

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::column::NamedColumn;
use crate::error::ErrorContext;
use crate::layout::{Encoding, Syntax};
use crate::read::{Cell, decoded, parquet_cells, sheet_rows};
use crate::{Kind, Result};

/// How much of a text is looked at.
const TEXT_BYTES_MAX: u64 = 4 << 20;
/// How much of a document is read: it can't be understood in part.
const DOCUMENT_BYTES_MAX: u64 = 64 << 20;
/// The most rows that are looked at.
pub const ROWS_MAX: usize = 5_000;

/// What a file has.
pub enum Sample {
    /// Rows of fields.
    Table(Table),
    /// A document of nested values.
    Document(String, Syntax),
    /// Columns with types of their own.
    Columns(Vec<NamedColumn>),
}

/// Rows of fields, before it is known which of them is the header.
pub struct Table {
    /// The format and its separator, as lines of a layout.
    pub format: String,
    /// The separator of CSV.
    pub separator: Option<char>,
    /// The rows, each with its fields.
    pub rows: Vec<Vec<Cell<'static>>>,
}

/// Reads the beginning of a file.
pub fn read(mut file: File) -> Result<Sample> {
    let mut begins = Vec::new();
    (&mut file).take(8).read_to_end(&mut begins).during(Kind::FixSetup, "read the file")?;
    file.rewind().during(Kind::FixSetup, "read the file")?;
    if begins.starts_with(b"PAR1") {
        return parquet(file);
    }
    if begins.starts_with(b"PK\x03\x04") || begins.starts_with(&[0xd0, 0xcf, 0x11, 0xe0]) {
        let mut rows = Vec::new();
        sheet_rows(file, None, &mut |_, cells| {
            rows.push(cells.iter().map(Cell::to_owned_cell).collect());
            Ok(rows.len() < ROWS_MAX)
        })?;
        return Ok(Sample::Table(Table { format: "format = \"xlsx\"\n".to_owned(), separator: None, rows }));
    }
    let first = begins.iter().find(|byte| !byte.is_ascii_whitespace() && !matches!(byte, 0xef | 0xbb | 0xbf));
    let is_document = first.is_some_and(|byte| matches!(byte, b'<' | b'{' | b'['));
    let text = decoded(file, Encoding::Auto, if is_document { DOCUMENT_BYTES_MAX } else { TEXT_BYTES_MAX })?;
    match text.trim_start().chars().next() {
        Some('<') => Ok(Sample::Document(text, Syntax::Xml)),
        Some('{' | '[') => Ok(Sample::Document(text, Syntax::Json)),
        _ => Ok(Sample::Table(csv(&text))),
    }
}

fn parquet(file: File) -> Result<Sample> {
    let context = || "read the Parquet file";
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).during(Kind::FixInput, context())?;
    let names: Vec<String> = builder.schema().fields().iter().map(|field| field.name().clone()).collect();
    let mut columns: Vec<NamedColumn> =
        names.into_iter().map(|header| NamedColumn { header, values: Vec::new() }).collect();
    let reader = builder.with_batch_size(ROWS_MAX).with_limit(ROWS_MAX).build().during(Kind::FixInput, context())?;
    for batch in reader {
        let batch = batch.during(Kind::FixInput, context())?;
        for (column, array) in columns.iter_mut().zip(batch.columns()) {
            column.values.extend(parquet_cells(array));
        }
    }
    Ok(Sample::Columns(columns))
}

/// Splits a text by the separator that gives most lines the same number of fields.
fn csv(text: &str) -> Table {
    // The last line may be cut off.
    let whole =
        if text.len() as u64 >= TEXT_BYTES_MAX { text.rsplit_once('\n').map_or(text, |(text, _)| text) } else { text };
    // The line by which spreadsheet programs tell the separator.
    let told = whole.trim_start_matches('\u{feff}').strip_prefix("sep=").and_then(|rest| rest.chars().next());
    let (whole, separators) = match told.filter(char::is_ascii_punctuation) {
        Some(separator) => (whole.split_once('\n').map_or("", |(_, rest)| rest), vec![separator]),
        None => (whole, vec![';', '\t', ',', '|']),
    };
    let best = separators.into_iter().map(|separator| (separator, split(whole, separator)));
    let best = best.max_by_key(|(separator, rows)| {
        let (width, lines) = usual_width(rows);
        // A decimal comma splits most lines alike, too; of two separators, the other one is right.
        (lines * usize::from(width > 1), usize::from(*separator != ','), width)
    });
    let (separator, rows) = best.unwrap_or((',', Vec::new()));
    let shown = if separator == '\t' { "\\t".to_owned() } else { separator.to_string() };
    Table { format: format!("format = \"csv\"\nseparator = \"{shown}\"\n"), separator: Some(separator), rows }
}

fn split(text: &str, separator: char) -> Vec<Vec<Cell<'static>>> {
    let delimiter = u8::try_from(separator).unwrap_or(b',');
    let mut reader = csv_core::ReaderBuilder::new().delimiter(delimiter).build();
    let (mut rows, mut input) = (Vec::new(), text.as_bytes());
    let (mut fields, mut ends) = (vec![0; 1 << 20], vec![0; 1 << 14]);
    while !input.is_empty() && rows.len() < ROWS_MAX {
        let (result, used, _, count) = reader.read_record(input, &mut fields, &mut ends);
        input = &input[used..];
        if !matches!(result, csv_core::ReadRecordResult::Record | csv_core::ReadRecordResult::InputEmpty) {
            break;
        }
        let starts = std::iter::once(0).chain(ends[..count].iter().copied());
        let cell = |(start, end): (usize, &usize)| {
            Cell::Text(String::from_utf8_lossy(&fields[start..*end]).into_owned().into())
        };
        rows.push(starts.zip(&ends[..count]).map(cell).collect());
    }
    rows
}

/// The most frequent number of fields, and how many rows have it.
pub fn usual_width(rows: &[Vec<Cell<'static>>]) -> (usize, usize) {
    let mut counts = std::collections::BTreeMap::new();
    for row in rows {
        *counts.entry(row.len()).or_insert(0) += 1;
    }
    counts.into_iter().max_by_key(|(width, count)| (*count, *width)).unwrap_or_default()
}
