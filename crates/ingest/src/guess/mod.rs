//! Proposes a layout for a file that has none yet. A proposal is a text to be read by a user: what the file does not prove
//! is a doubt, beside its line and in a list.

mod column;
mod document;
mod sample;
mod table;
mod toml_text;

#[cfg(test)]
mod tests;

use std::fs::File;

use crate::{Error, Kind, Result};
use sample::Sample;

/// A proposed layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// The layout in TOML, with its doubts as comments.
    pub layout: String,
    /// What a user should check, each a sentence.
    pub doubts: Vec<String>,
}

/// Proposes a layout from the beginning of a file of this name. It blocks.
///
/// # Errors
/// `FixInput` where no rows are found; `FixSetup` where the file can't be read.
pub fn propose(file: File, name: &str) -> Result<Proposal> {
    let proposal = match sample::read(file)? {
        Sample::Table(table) => table::propose(table, name),
        Sample::Document(text, syntax) => document::propose(&text, syntax, name),
        Sample::Columns(columns) => Some(table::propose_columns("format = \"parquet\"\n", columns, name)),
    };
    proposal.ok_or_else(|| {
        let hint = "rows are lines with separated fields, rows of a sheet, or objects of JSON or XML";
        Error::new(Kind::FixInput, format!("guess a layout for {name}: no rows are found in it")).hint(hint)
    })
}
