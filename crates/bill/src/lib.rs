//! A producer's monthly statement, with lines, volumes, prices and a chart, as an HTML page, as a workbook, as values of
//! a page that is typeset, and as e-invoices by EN 16931.
//!
//! The page is rendered from a template and a file of labels that belong to the user, so that texts and
//! design can change without a new build of the program. Amounts are shown exactly as entered; only
//! sums of whole cents and mean prices are computed here. No file is read or written.

mod error;

mod number;

mod company;
mod content;
mod einvoice;
mod labels;
mod line;
mod part;

mod chart;
mod page;
mod printed;
mod workbook;

#[cfg(test)]
mod tests;

pub use company::{Company, is_siret};
pub use content::{DayEnergy, ReplacedStatement, Statement, StatementHeader};
pub use einvoice::{EInvoice, InvoiceTerms, Syntax, cancelled, einvoices};
pub use error::{Error, Kind, Result};
pub use labels::Labels;
pub use line::StatementLine;
pub use page::{check_template, page};
pub use printed::{PrintedDocument, PrintedTerms, printed, printed_cancellation};
pub use workbook::workbook;
