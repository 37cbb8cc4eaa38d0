//! A producer's monthly statement: lines, volumes, prices and a chart, as a page to print and as a
//! workbook.
//!
//! The page is made from a template that its users own, with words from a file of labels, so that
//! neither a phrase nor a colour needs a new build. Amounts are shown as they were entered: nothing
//! is computed here but sums of whole cents. No file is read or written.

mod error;

mod number;

mod labels;
mod month;

mod chart;
mod page;
mod workbook;

#[cfg(test)]
mod tests;

pub use error::{Error, Kind, Result};
pub use labels::Labels;
pub use month::{Before, Day, Head, Line, Statement};
pub use page::{check, page};
pub use workbook::workbook;
