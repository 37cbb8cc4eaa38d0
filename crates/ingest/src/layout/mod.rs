//! What a table of a file looks like, as its user writes it down: how the file is written, which
//! columns it has and what their values may be. Whoever holds a [`Layout`] needs no further doubt
//! about it; nothing here opens a file of data.

mod columns;
mod problem;
mod section;
mod written;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use chrono_tz::Tz;
use regex::Regex;

pub(crate) use crate::number::{Marks, Number};
pub use problem::Problem;

#[derive(Debug, Clone)]
pub struct Layout {
    pub format: Format,
    /// At least one.
    pub columns: Vec<Column>,
    /// Places in `columns`; no two rows have the same. Empty: not looked at.
    pub key: Vec<usize>,
    pub extra_columns: Extra,
    pub trailers: Vec<Trailer>,
    pub series: Option<Series>,
    pub policy: Policy,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    Csv(Csv),
    Xlsx(Xlsx),
    /// One array of objects.
    Json,
    /// One object a line.
    Ndjson,
    Parquet,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Csv {
    /// ASCII.
    pub separator: u8,
    pub encoding: Encoding,
    pub header: bool,
    /// Before the header.
    pub skip_lines: u64,
    /// What a line that says nothing begins with.
    pub comment: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// What the byte order mark says; UTF-8 where the whole file is; else Windows-1252.
    Auto,
    Utf8,
    /// ISO 8859-1 as the world writes it, which is Windows-1252.
    Windows1252,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Xlsx {
    /// The first one without it.
    pub sheet: Option<String>,
    pub header: bool,
    pub skip_lines: u64,
    pub comment: Option<String>,
}

#[derive(Debug, Clone)]
pub struct Column {
    pub name: String,
    /// What the file may call it; the first that is there.
    pub headers: Vec<String>,
    pub kind: Type,
    /// A row without a value is a fault.
    pub required: bool,
    /// Texts that stand for no value.
    pub empty: Vec<String>,
    pub pattern: Option<Regex>,
    pub(crate) marks: Marks,
    /// What a number is multiplied by, to come to the column's unit.
    pub(crate) factor: Option<Number>,
    /// In the column's unit.
    pub(crate) least: Option<Number>,
    pub(crate) most: Option<Number>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    Text,
    Integer,
    Decimal {
        precision: u8,
        scale: i8,
    },
    Double,
    /// In small letters.
    Boolean {
        yes: Vec<String>,
        no: Vec<String>,
    },
    /// In chrono's words; ISO 8601 without it.
    Date {
        format: Option<String>,
    },
    Timestamp {
        format: Option<String>,
        zone: Option<Zone>,
    },
    /// ISO 8601, kept in seconds.
    Duration,
    Enum(Vec<String>),
}

/// For times that are written without an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Zone {
    pub zone: Tz,
    pub ambiguous: Ambiguous,
}

/// Which of the two is meant by a time of the hour that comes twice in autumn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ambiguous {
    /// It is a fault.
    Refuse,
    First,
    Second,
    /// The first one met in the file is the first, for each series of its own.
    InOrder,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extra {
    Refuse,
    Ignore,
}

/// A line that says what the rows should add up to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trailer {
    pub starts_with: String,
    /// A file without it is a fault.
    pub required: bool,
    /// The field, from 1, that has the number of rows.
    pub count: Option<usize>,
    pub sums: Vec<Sum>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sum {
    /// From 1.
    pub field: usize,
    /// A place in [`Layout::columns`], of numbers.
    pub column: usize,
}

/// Rows at a fixed step that may have no holes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// The place of a timestamp.
    pub time: usize,
    pub step: Step,
    /// The columns that tell one series from another.
    pub by: Vec<usize>,
    pub zone: Tz,
    pub covers: Covers,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The place of a duration.
    Column(usize),
    Fixed(Duration),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Covers {
    /// Every local day from its first row's to its last row's.
    Days,
    /// Every local month of them.
    Months,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Policy {
    /// Any fault sets the whole file aside.
    Quarantine,
    /// Rows with faults are set aside, as long as they are no more than this share of all.
    Aside { share_max: f64 },
}

impl Layout {
    /// # Errors
    /// All that is wrong with the text, in the order of its lines.
    pub fn parse(text: &str) -> Result<Layout, Vec<Problem>> {
        written::parse(text)
    }

    /// What the rows come as.
    pub fn schema(&self) -> SchemaRef {
        let field = |column: &Column| Field::new(&column.name, column.kind.data_type(), !column.required);
        Arc::new(Schema::new(self.columns.iter().map(field).collect::<Vec<_>>()))
    }
}

impl Type {
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

    pub fn is_number(&self) -> bool {
        matches!(self, Type::Integer | Type::Decimal { .. } | Type::Double)
    }
}
