//! What several sections of a layout look up in the same way: columns by their names, and regular expressions.

use std::ops::Range;

use base::{Problems, nearest};
use regex::Regex;
use toml::Spanned;

use super::Column;

/// Parses the regular expression of a key.
pub fn regular_expression(key: &str, text: &Spanned<String>, report: &mut Problems<'_>) -> Option<Regex> {
    match Regex::new(text.get_ref()) {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            let last = error.to_string().lines().last().unwrap_or_default().trim().to_owned();
            report.add(text.span(), format!("{key:?}: not a regular expression: {last}"), None);
            None
        }
    }
}

/// The index of a column that another section names; a missing one is reported.
pub fn column_index(columns: &[Column], name: &Spanned<String>, report: &mut Problems<'_>) -> Option<usize> {
    let at = columns.iter().position(|column| column.name == *name.get_ref());
    if at.is_none() {
        report_missing(columns, name.get_ref(), name.span(), report);
    }
    at
}

fn report_missing(columns: &[Column], name: &str, span: Range<usize>, report: &mut Problems<'_>) {
    let near = nearest(name, columns.iter().map(|column| column.name.as_str()));
    report.add(span, format!("there is no column {name:?}"), near.map(|near| format!("nearest: {near:?}")));
}
