//! Reads the rows of a file by its layout. A fault does not end the reading: faults are collected, each
//! with its place, what was expected and a hint, and at the end of the file there is a verdict.
//! Values are never guessed and never rounded; no state is kept between two readings of a file.

mod cell;
mod derived;
mod fault;
mod timestamp;
mod value;

mod batch;
mod keys;
mod series;
mod totals;
mod verdict;

mod header;
mod row_checker;
mod wide;

mod csv;
mod document;
mod encoding;
mod json;
mod parquet;
mod sheet;
mod workbook;

#[cfg(test)]
pub(crate) mod tests;

use std::fs::File;

use arrow::array::{RecordBatch, UInt64Array};

use crate::Result;
use crate::layout::{Format, Layout};

pub(crate) use cell::{Cell, shown_digits};
pub(crate) use document::{Tree, with_tree};
pub(crate) use encoding::decoded;
pub(crate) use parquet::cells as parquet_cells;
pub(crate) use sheet::rows as sheet_rows;
pub(crate) use timestamp::{ParsedTime, parse_date, parse_end, parse_time, split_abbreviation};

pub use fault::{FAULTS_KEPT_MAX, Fault, FaultKind, to_batch as faults_to_batch};
pub(crate) use timestamp::duration_seconds;
pub use verdict::{ReadReport, Verdict};

/// A batch of rows without faults.
#[derive(Debug, Clone)]
pub struct Rows {
    /// The values, in the schema of [`Layout::schema`].
    pub batch: RecordBatch,
    /// The place of each row in the file, from 1: its line, or its row in a sheet or in Parquet.
    pub lines: UInt64Array,
}

/// What each batch of rows is passed to.
pub type Sink<'a> = &'a mut dyn FnMut(Rows) -> Result<()>;

/// Reads all rows of a file from its beginning, in batches. `name` is the file's name at its source, from which columns
/// may have their values. The rows may be kept only where the report's
/// verdict is [`Verdict::Accept`], which is known after the last batch: either write them where nothing
/// is visible before a commit, or read once with a sink that keeps nothing, and then again.
/// It blocks, so it must not run on a thread of an asynchronous runtime.
///
/// # Errors
/// An error of `each`; `FixSetup` where the file can't be read from disk. Anything wrong with the file's content is not an
/// error but a fault of the report.
pub fn read(file: File, name: &str, layout: &Layout, each: Sink<'_>) -> Result<ReadReport> {
    let mut checker = row_checker::RowChecker::new(layout, name, each);
    let read = match &layout.format {
        Format::Csv(format) => csv::read(file, format, &mut checker),
        Format::Xlsx(format) => workbook::read(file, format, &mut checker),
        Format::Json => json::read_array(file, &mut checker),
        Format::Document(format) => document::read(file, format, &mut checker),
        Format::Ndjson => json::read_lines(file, &mut checker),
        Format::Parquet => parquet::read(file, &mut checker),
    };
    match read {
        Err(_) if checker.has_too_many_rows() => {}
        read => read?,
    }
    checker.finish()
}
