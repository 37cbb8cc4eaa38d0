//! Layouts: descriptions of a producer's files, parsed from TOML: the file format, the columns, their
//! units and the values that they may have. A [`Layout`] is always valid; no file of data is read here.

mod columns;
mod document;
pub mod library;
mod lookup;
mod origin;
mod parse;
mod section;
mod wide;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use chrono_tz::Tz;
use regex::Regex;

pub(crate) use crate::number::{Number, NumberFormat};
pub use base::Problem;
pub use document::{Document, Points, Shape, Syntax, ValuePath};
pub use origin::{Stamp, TextSource};
pub use wide::{Wide, WideTime};

/// The JSON schema of layouts, for editors.
pub const JSON_SCHEMA: &str = include_str!("schema.json");

/// The description of a producer's files.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The file format.
    pub format: Format,
    /// The columns to read, at least one, in the order of the layout's text.
    pub columns: Vec<Column>,
    /// Indexes of `columns` whose values together are unique among the rows; empty where that is not checked.
    pub key: Vec<usize>,
    /// Whether a file may have columns that the layout does not name.
    pub extra_columns: ExtraColumns,
    /// The indexes of the columns that say what a file is about, such as its month and its metering points.
    pub subject: Vec<usize>,
    /// Lines with totals.
    pub trailers: Vec<Trailer>,
    /// The fields of a row that are rows of their own, if any.
    pub wide: Option<Wide>,
    /// The time series that the rows must form without gaps, if any.
    pub series: Option<Series>,
    /// What happens to files with faults.
    pub policy: FaultPolicy,
}

/// A file format with its settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// Lines of separated fields.
    Csv(Csv),
    /// A sheet of a workbook: XLSX, XLSB, XLS or ODS, by the file's content.
    Xlsx(Xlsx),
    /// One array of objects.
    Json,
    /// JSON or XML whose rows are below the document's root.
    Document(Document),
    /// One object per line.
    Ndjson,
    /// A Parquet file.
    Parquet,
}

/// The settings of CSV.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Csv {
    /// The ASCII character between fields.
    pub separator: u8,
    /// The encoding of the text.
    pub encoding: Encoding,
    /// Whether the first line has the columns' names; otherwise fields are read in the layout's order.
    pub header: bool,
    /// The lines before the header.
    pub preamble: Preamble,
    /// What a comment line begins with.
    pub comment: Option<String>,
}

/// The lines around the header that are no rows of values.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Preamble {
    /// How many lines to skip at the file's beginning.
    pub skip_lines: u64,
    /// After them, lines are skipped up to the one that begins with this text, which is the header.
    pub skip_to: Option<String>,
    /// How many lines to skip after the header, such as one with units.
    pub skip_after_header: u64,
}

/// The encoding of a text file. A byte order mark takes precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// UTF-8 where the file is valid UTF-8, or is damaged UTF-8; otherwise Windows-1252.
    Auto,
    /// UTF-8.
    Utf8,
    /// Windows-1252, also for files that are called ISO 8859-1: it has the same letters and more.
    Windows1252,
}

/// The settings of an Excel workbook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Xlsx {
    /// The sheet to read; `None` means the first one.
    pub sheet: Option<String>,
    /// Whether the first row has the columns' names.
    pub header: bool,
    /// The rows before the header.
    pub preamble: Preamble,
    /// What the first cell of a comment row begins with.
    pub comment: Option<String>,
}

/// A column of a layout.
#[derive(Debug, Clone)]
pub struct Column {
    /// Its name in the rows that are read.
    pub name: String,
    /// Its possible names in the file, of which a file must have one.
    pub headers: Vec<String>,
    /// Where its texts are, if not in a field of the row.
    pub source: TextSource,
    /// What part of a text is the value: the first group of the expression.
    pub extract: Option<Regex>,
    /// The possible names of the field with the time of day, where the other field has only the date.
    pub time_headers: Vec<String>,
    /// The type of its values.
    pub kind: Type,
    /// Of durations that are written as numbers: how many seconds their unit has.
    pub(crate) duration_unit: Option<u32>,
    /// Whether a row without a value is a fault.
    pub required: bool,
    /// Whether a file may lack the column: then no row has a value in it.
    pub optional: bool,
    /// Texts that mean that there is no value.
    pub empty: Vec<String>,
    /// What each value's text must match.
    pub pattern: Option<Regex>,
    /// How its numbers are written.
    pub(crate) number_format: NumberFormat,
    /// What the file's numbers are multiplied by, to be in the column's unit.
    pub(crate) factor: Option<Number>,
    /// The file's numbers are the average power over this time, and the column's are the energy: times hours.
    pub power_over: Option<Step>,
    /// Whether digits that the column can't hold are rounded, half away from zero; otherwise they are faults.
    pub(crate) round: bool,
    /// Which end of its step a time is.
    pub stamp: Stamp,
    /// The least value, in the column's unit.
    pub(crate) least: Option<Number>,
    /// The greatest value, in the column's unit.
    pub(crate) most: Option<Number>,
}

/// The type of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    /// A text.
    Text,
    /// An integer of 64 bits.
    Integer,
    /// An exact decimal.
    Decimal {
        /// All digits, 1 to 38.
        precision: u8,
        /// The digits after the decimal mark.
        scale: i8,
    },
    /// A floating-point number of 64 bits.
    Double,
    /// True or false, as one of these words, which are compared in lower case.
    Boolean {
        /// The words for true, in lower case.
        yes: Vec<String>,
        /// The words for false, in lower case.
        no: Vec<String>,
    },
    /// A date, in a format of chrono; ISO 8601 without one.
    Date {
        /// Such as `%d/%m/%Y`.
        format: Option<String>,
    },
    /// An instant, stored as microseconds in UTC.
    Timestamp {
        /// A format of chrono; ISO 8601 without one.
        format: Option<String>,
        /// How times without an offset are read; without it they are faults.
        zone: Option<Zone>,
    },
    /// An ISO 8601 duration of hours, minutes and seconds, stored in seconds.
    Duration,
    /// One of these texts.
    Enum(Vec<String>),
}

/// How times without an offset are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Zone {
    /// The time zone.
    pub zone: Tz,
    /// How a time that occurs twice in the zone is read.
    pub ambiguous: Ambiguous,
}

/// Which of the two instants a local time means in the hour that occurs twice in autumn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ambiguous {
    /// None: the time is a fault.
    Refuse,
    /// The first one, before the clocks go back.
    First,
    /// The second one, after the clocks went back.
    Second,
    /// In each series, the first such row of the file means the first instant and the next row the second.
    InOrder,
}

/// What happens to columns of a file that the layout does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtraColumns {
    /// They are faults.
    Refuse,
    /// They are not read.
    Ignore,
}

/// A line of the file with totals of its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trailer {
    /// What the line begins with.
    pub starts_with: String,
    /// Whether a file without the line has a fault.
    pub required: bool,
    /// The field with the number of rows, from 1.
    pub count: Option<usize>,
    /// The fields with sums of columns.
    pub sums: Vec<TrailerSum>,
}

/// The sum of a column in a trailer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrailerSum {
    /// The field with the sum, from 1.
    pub field: usize,
    /// The index in [`Layout::columns`] of the column that is summed, which has numbers.
    pub column: usize,
}

/// Time series that must not have gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// The index of the timestamp column.
    pub time: usize,
    /// How long a row lasts.
    pub step: Step,
    /// The indexes of the columns that identify a series.
    pub by: Vec<usize>,
    /// The time zone in which days and months begin.
    pub zone: Tz,
    /// The range that a series must cover.
    pub covers: Coverage,
}

/// How long a row of a series lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// As the duration column of this index says.
    Column(usize),
    /// Always this long.
    Fixed(Duration),
}

/// The range that a series must cover without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coverage {
    /// All local days from the first row's to the last row's.
    Days,
    /// All local months from the first row's to the last row's.
    Months,
}

/// What happens to files with faults.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FaultPolicy {
    /// Any fault quarantines the whole file.
    QuarantineFile,
    /// Only rows with faults are quarantined; the file is where they are more than this share of all rows, 0 to 1.
    /// In a layout, `policy = "aside"`.
    QuarantineRows { share_max: f64 },
}

impl Layout {
    /// Parses a layout from TOML.
    ///
    /// # Errors
    /// All problems of the text, in the order of its lines.
    pub fn parse(text: &str) -> Result<Layout, Vec<Problem>> {
        parse::parse(text)
    }

    /// The schema of the rows that are read with this layout.
    pub fn schema(&self) -> SchemaRef {
        let field = |column: &Column| Field::new(&column.name, column.kind.data_type(), !column.required);
        Arc::new(Schema::new(self.columns.iter().map(field).collect::<Vec<_>>()))
    }
}

impl Type {
    /// The Arrow type of its values.
    pub fn data_type(&self) -> DataType {
        match self {
            Type::Text | Type::Enum(_) => DataType::Utf8,
            Type::Integer | Type::Duration => DataType::Int64,
            Type::Decimal { precision, scale } => DataType::Decimal128(*precision, *scale),
            Type::Double => DataType::Float64,
            Type::Boolean { .. } => DataType::Boolean,
            Type::Date { .. } => DataType::Date32,
            Type::Timestamp { .. } => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        }
    }

    /// Whether its values can be summed and have a range.
    pub fn is_number(&self) -> bool {
        matches!(self, Type::Integer | Type::Decimal { .. } | Type::Double)
    }
}
