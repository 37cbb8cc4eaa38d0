//! What is wrong in a file of data, where it stands and how to correct it. Faults are collected up to a
//! bound and counted beyond it: one bad file never fills the memory, and never hides how bad it is.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringBuilder, UInt64Builder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::error::During;
use crate::{Kind, Result};

/// Kept with their texts; all are counted.
pub const FAULTS_KEPT_MAX: usize = 1000;
const TEXT_CHARS_MAX: usize = 200;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum What {
    /// The file is not of its format, or breaks off.
    Unreadable,
    /// A column is not there, twice, or unknown.
    Header,
    /// A row with too many or too few fields.
    Fields,
    /// Bytes that are no text in the file's encoding.
    Encoding,
    /// No value where one must be.
    Missing,
    /// A text that is no value of the column's type.
    Form,
    /// A number with another decimal mark, or with other groups of digits.
    DecimalMark,
    /// More digits than the column keeps.
    Digits,
    Range,
    Pattern,
    /// None of the words that it may be.
    Word,
    /// All of a row again.
    DoubledRow,
    /// A row's key again, with other values.
    DoubledKey,
    /// A local time that the clocks skip in spring.
    SkippedHour,
    /// A local time that comes twice in autumn, and nothing tells which is meant.
    AmbiguousHour,
    /// A hole in a series.
    MissingSteps,
    /// Rows of a series that overlap, or begin off its steps.
    OverlappingSteps,
    /// The rows don't add up to what the file says.
    Total,
    /// The line with the totals is not there, or twice.
    Trailer,
}

impl What {
    pub fn as_str(self) -> &'static str {
        match self {
            What::Unreadable => "unreadable",
            What::Header => "header",
            What::Fields => "fields",
            What::Encoding => "encoding",
            What::Missing => "missing value",
            What::Form => "form",
            What::DecimalMark => "decimal mark",
            What::Digits => "digits",
            What::Range => "range",
            What::Pattern => "pattern",
            What::Word => "word",
            What::DoubledRow => "doubled row",
            What::DoubledKey => "doubled key",
            What::SkippedHour => "skipped hour",
            What::AmbiguousHour => "ambiguous hour",
            What::MissingSteps => "missing steps",
            What::OverlappingSteps => "overlapping steps",
            What::Total => "total",
            What::Trailer => "trailer",
        }
    }

    /// True where no one row can be blamed, or nothing tells which of two is right: whatever the policy, the file is set aside.
    pub fn is_of_file(self) -> bool {
        use What::{DoubledKey, Header, MissingSteps, OverlappingSteps, Total, Trailer, Unreadable};
        matches!(self, Unreadable | Header | DoubledKey | MissingSteps | OverlappingSteps | Total | Trailer)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub what: What,
    /// From 1, as an editor counts (a row, for a sheet and for Parquet); 0 for the whole file.
    pub line: u64,
    /// As the file calls it.
    pub column: Option<String>,
    /// As it is written, shortened.
    pub text: String,
    pub expected: String,
    /// What to do about it; may be empty.
    pub hint: String,
}

impl Fault {
    pub fn of_file(what: What, expected: impl Into<String>, hint: impl Into<String>) -> Fault {
        Fault::at(what, 0, "", expected, hint)
    }

    pub fn at(what: What, line: u64, text: &str, expected: impl Into<String>, hint: impl Into<String>) -> Fault {
        Fault { what, line, column: None, text: shortened(text), expected: expected.into(), hint: hint.into() }
    }

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

/// All faults of one file.
#[derive(Debug, Default)]
pub struct Faults {
    kept: Vec<Fault>,
    counts: BTreeMap<What, u64>,
}

impl Faults {
    pub fn add(&mut self, fault: Fault) {
        *self.counts.entry(fault.what).or_default() += 1;
        // What is wrong with the whole file is told even after a thousand rows.
        if self.kept.len() < FAULTS_KEPT_MAX || (fault.what.is_of_file() && self.kept.len() < 2 * FAULTS_KEPT_MAX) {
            self.kept.push(fault);
        }
    }

    pub fn counts(&self) -> &BTreeMap<What, u64> {
        &self.counts
    }

    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    pub fn into_kept(self) -> (Vec<Fault>, BTreeMap<What, u64>) {
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
/// None that is not ours.
pub fn to_batch(faults: &[Fault]) -> Result<RecordBatch> {
    let mut line = UInt64Builder::new();
    let mut texts: [StringBuilder; 5] = Default::default();
    for fault in faults {
        line.append_value(fault.line);
        texts[0].append_value(fault.what.as_str());
        texts[1].append_option(fault.column.as_ref());
        texts[2].append_value(&fault.text);
        texts[3].append_value(&fault.expected);
        texts[4].append_value(&fault.hint);
    }
    let [what, column, text, expected, hint] = texts.map(|mut builder| Arc::new(builder.finish()) as ArrayRef);
    let arrays = vec![what, Arc::new(line.finish()) as ArrayRef, column, text, expected, hint];
    RecordBatch::try_new(schema(), arrays).during(Kind::Bug, "make rows of faults")
}
