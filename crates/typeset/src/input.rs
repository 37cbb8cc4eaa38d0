//! The input of a page, and what can be wrong with it.

use std::path::Path;

use chrono::NaiveDate;
use serde_json::Value;

/// The input of a page.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The template's file, relative to the folder.
    pub name: &'a str,
    /// Its text.
    pub template: &'a str,
    /// The only folder from which the template may read.
    pub folder: Option<&'a Path>,
    /// The values, which the template reads as `json("data.json")`.
    pub data: &'a Value,
    /// The e-invoice in the syntax CII, which is embedded as `factur-x.xml`.
    pub invoice: Option<&'a [u8]>,
    /// The day of issue, which is the document's date.
    pub issued: NaiveDate,
}

/// What is wrong with a template, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Diagnostic {
    /// The file, relative to the template's folder, and the line, from 1; `None` where no place is known.
    pub place: Option<(String, usize)>,
    /// What is wrong.
    pub message: String,
    /// What may help.
    pub hints: Vec<String>,
}

impl std::fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some((file, line)) = &self.place {
            write!(f, "{file}:{line}: ")?;
        }
        f.write_str(&self.message)?;
        self.hints.iter().try_for_each(|hint| write!(f, " ({hint})"))
    }
}

/// A problem without a place.
pub(crate) fn plain(message: String) -> Diagnostic {
    Diagnostic { place: None, message, hints: Vec::new() }
}
