//! Rows from a file, by its layout. What is wrong does not end the reading: each fault is collected
//! with its place, what was expected and how to correct it, and the file gets a verdict at its end.
//! Nothing is guessed and nothing is rounded; nothing is kept between two readings of a file.

mod cell;
mod fault;
mod instant;
mod value;

mod batch;
mod keys;
mod spans;
mod totals;
mod verdict;

mod heading;
mod table;

mod csv;
mod encoding;
mod json;
mod parquet;
mod xlsx;

#[cfg(test)]
pub(crate) mod tests;

use std::fs::File;

use arrow::array::{RecordBatch, UInt64Array};

use crate::Result;
use crate::layout::{Format, Layout};

pub use fault::{FAULTS_KEPT_MAX, Fault, What, to_batch as faults_to_batch};
pub(crate) use instant::duration_seconds;
pub use verdict::{Report, Verdict};

/// Rows without a fault.
#[derive(Debug, Clone)]
pub struct Rows {
    /// Of [`Layout::schema`].
    pub batch: RecordBatch,
    /// Where each stands in the file: its line, or its row in a sheet or in Parquet, from 1.
    pub lines: UInt64Array,
}

pub type Sink<'a> = &'a mut dyn FnMut(Rows) -> Result<()>;

/// All rows of a file, from its beginning, in batches. They may be kept only where the report's
/// verdict is [`Verdict::Accept`], which is known after the last of them: so either write them where
/// nobody reads before a commit, or read once with a sink that keeps nothing, and then again.
/// It blocks: not for a thread of an asynchronous runtime.
///
/// # Errors
/// Those of `each`; `FixSetup` where the file can't be read from this machine's disk, or has more rows
/// than can be compared. What is wrong with the file itself is no error but a fault.
pub fn read(file: File, layout: &Layout, each: Sink<'_>) -> Result<Report> {
    let mut table = table::Table::new(layout, each);
    match &layout.format {
        Format::Csv(format) => csv::read(file, format, &mut table)?,
        Format::Xlsx(format) => xlsx::read(file, format, &mut table)?,
        Format::Json => json::read_array(file, &mut table)?,
        Format::Ndjson => json::read_lines(file, &mut table)?,
        Format::Parquet => parquet::read(file, &mut table)?,
    }
    table.finish()
}
