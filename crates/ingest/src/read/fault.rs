//! The faults of a data file: each with its place, what was expected and a hint. Faults are kept up to a
//! bound, so that memory is bounded too, and counted beyond it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringBuilder, UInt64Builder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::error::ErrorContext;
use crate::{Kind, Result};

/// How many faults of rows are kept; all are counted.
pub const FAULTS_KEPT_MAX: usize = 1000;
const TEXT_CHARS_MAX: usize = 200;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultKind {
    /// The file is not in its format, or is truncated.
    Unreadable,
    /// A column is missing, occurs twice, or is unknown.
    Header,
    /// A row with too many or too few fields.
    Fields,
    /// Bytes that are not a text in the file's encoding.
    Encoding,
    /// No value where one is required.
    Missing,
    /// A text that is not a value of the column's type.
    Form,
    /// A number with another decimal mark, or with other groups of digits.
    DecimalMark,
    /// More digits than the column has.
    Digits,
    /// A number outside of the column's range.
    Range,
    /// A text that does not match the column's pattern.
    Pattern,
    /// None of the words of the column.
    Word,
    /// A row that is the same as an earlier one.
    DoubledRow,
    /// A row with the key of an earlier one, and other values.
    DoubledKey,
    /// A local time that the clocks skip in spring.
    SkippedHour,
    /// A local time that occurs twice in autumn, without anything that tells which one is meant.
    AmbiguousHour,
    /// A gap in a series.
    MissingSteps,
    /// Rows of a series that overlap, or are not a whole number of steps apart.
    OverlappingSteps,
    /// A total that differs from that of the rows.
    Total,
    /// The line with the totals is missing, occurs twice, or has an invalid number.
    Trailer,
}

impl FaultKind {
    /// The kind in words, as `ingest.faults` has it.
    pub fn as_str(self) -> &'static str {
        match self {
            FaultKind::Unreadable => "unreadable",
            FaultKind::Header => "header",
            FaultKind::Fields => "fields",
            FaultKind::Encoding => "encoding",
            FaultKind::Missing => "missing value",
            FaultKind::Form => "form",
            FaultKind::DecimalMark => "decimal mark",
            FaultKind::Digits => "digits",
            FaultKind::Range => "range",
            FaultKind::Pattern => "pattern",
            FaultKind::Word => "word",
            FaultKind::DoubledRow => "doubled row",
            FaultKind::DoubledKey => "doubled key",
            FaultKind::SkippedHour => "skipped hour",
            FaultKind::AmbiguousHour => "ambiguous hour",
            FaultKind::MissingSteps => "missing steps",
            FaultKind::OverlappingSteps => "overlapping steps",
            FaultKind::Total => "total",
            FaultKind::Trailer => "trailer",
        }
    }

    /// Whether the fault is not of a single row, or nothing tells which of two rows is right: such a fault quarantines
    /// the file under every policy.
    pub fn is_of_file(self) -> bool {
        use FaultKind::{DoubledKey, Header, MissingSteps, OverlappingSteps, Total, Trailer, Unreadable};
        matches!(self, Unreadable | Header | DoubledKey | MissingSteps | OverlappingSteps | Total | Trailer)
    }
}

/// One thing that is wrong in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What kind of fault it is.
    pub kind: FaultKind,
    /// The line from 1, as an editor counts, or the row of a sheet or of Parquet; 0 for the whole file.
    pub line: u64,
    /// The column's name in the file, where the fault is of one column.
    pub column: Option<String>,
    /// The text that is wrong, shortened; may be empty.
    pub text: String,
    /// What was expected, in words.
    pub expected: String,
    /// What to do about it; may be empty.
    pub hint: String,
}

impl Fault {
    /// A fault of the whole file.
    pub fn of_file(kind: FaultKind, expected: impl Into<String>, hint: impl Into<String>) -> Fault {
        Fault::at(kind, 0, "", expected, hint)
    }

    /// A fault at a line.
    pub fn at(kind: FaultKind, line: u64, text: &str, expected: impl Into<String>, hint: impl Into<String>) -> Fault {
        Fault { kind, line, column: None, text: shortened(text), expected: expected.into(), hint: hint.into() }
    }

    /// The fault with the column that it is in.
    #[must_use]
    pub fn in_column(mut self, column: &str) -> Fault {
        self.column = Some(column.to_owned());
        self
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(TEXT_CHARS_MAX) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}: ", self.line)?;
        }
        if let Some(column) = &self.column {
            write!(f, "column {column:?}: ")?;
        }
        if !self.text.is_empty() {
            write!(f, "{:?}: ", self.text)?;
        }
        write!(f, "expected {}", self.expected)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, "; {}", self.hint) }
    }
}

/// The faults of one file.
#[derive(Debug, Default)]
pub struct Faults {
    kept: Vec<Fault>,
    counts: BTreeMap<FaultKind, u64>,
}

impl Faults {
    /// Adds a fault; beyond the bound it is only counted.
    pub fn add(&mut self, fault: Fault) {
        *self.counts.entry(fault.kind).or_default() += 1;
        // A fault of the whole file is kept even after a thousand faults of rows.
        if self.kept.len() < FAULTS_KEPT_MAX || (fault.kind.is_of_file() && self.kept.len() < 2 * FAULTS_KEPT_MAX) {
            self.kept.push(fault);
        }
    }

    /// How many there are of each kind.
    pub fn counts(&self) -> &BTreeMap<FaultKind, u64> {
        &self.counts
    }

    /// How many there are.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// The kept ones, and how many there are of each kind.
    pub fn into_kept(self) -> (Vec<Fault>, BTreeMap<FaultKind, u64>) {
        (self.kept, self.counts)
    }
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("what", DataType::Utf8, false),
        Field::new("line", DataType::UInt64, false),
        Field::new("column_name", DataType::Utf8, true),
        Field::new("text", DataType::Utf8, false),
        Field::new("expected", DataType::Utf8, false),
        Field::new("hint", DataType::Utf8, false),
    ]))
}

/// Faults as rows: `what`, `line`, `column_name`, `text`, `expected`, `hint`.
///
/// # Errors
/// Only `Bug`.
pub fn to_batch(faults: &[Fault]) -> Result<RecordBatch> {
    let mut line = UInt64Builder::new();
    let mut texts: [StringBuilder; 5] = Default::default();
    for fault in faults {
        line.append_value(fault.line);
        texts[0].append_value(fault.kind.as_str());
        texts[1].append_option(fault.column.as_ref());
        texts[2].append_value(&fault.text);
        texts[3].append_value(&fault.expected);
        texts[4].append_value(&fault.hint);
    }
    let [kind, column, text, expected, hint] = texts.map(|mut builder| Arc::new(builder.finish()) as ArrayRef);
    let arrays = vec![kind, Arc::new(line.finish()) as ArrayRef, column, text, expected, hint];
    RecordBatch::try_new(schema(), arrays).during(Kind::Bug, "make rows of faults")
}
