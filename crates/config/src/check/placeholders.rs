//! Placeholders such as `{period}` in queries and texts, which are replaced by a run's values when it starts.

use std::ops::Range;

use base::suggestion;

use super::super::problem::FileProblems;

/// The placeholders of queries and parameters of runs.
pub const RUN_PLACEHOLDERS: [&str; 4] = ["period", "from", "to", "as_of"];
/// The placeholders of controls.
pub const CONTROL_PLACEHOLDERS: [&str; 5] = ["period", "from", "to", "as_of", "tolerance"];

/// The placeholders of a text with their offsets: words of lower-case letters and `_` in braces.
fn placeholders(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.match_indices('{').filter_map(|(at, _)| {
        let rest = &text[at + 1..];
        let word = &rest[..rest.find('}')?];
        let is_word = !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        is_word.then_some((at, word))
    })
}

/// Reports placeholders that are not in `known`, all at the place `at`.
pub fn check(text: &str, known: &[&str], at: Range<usize>, report: &mut FileProblems<'_>) {
    for (_, word) in placeholders(text).filter(|(_, word)| !known.contains(word)) {
        report.add(at.clone(), format!("unknown placeholder {{{word}}}"), suggestion("placeholder", word, known));
    }
}

/// The placeholders of the queries of predictions.
pub const PREDICTION_PLACEHOLDERS: [&str; 5] = ["period", "from", "to", "as_of", "issued_at"];

/// Checks the query of a prediction: its placeholders, and its SQL with sample values.
pub fn check_prediction_query(query: &str, at: Range<usize>, report: &mut FileProblems<'_>) {
    check_query_with(query, &PREDICTION_PLACEHOLDERS, at, report);
}

/// Checks a query of a run: its placeholders, and its SQL with sample values.
pub fn check_query(query: &str, at: Range<usize>, report: &mut FileProblems<'_>) {
    check_query_with(query, &RUN_PLACEHOLDERS, at, report);
}

fn check_query_with(query: &str, known: &[&str], at: Range<usize>, report: &mut FileProblems<'_>) {
    check(query, known, at.clone(), report);
    if let Err(error) = sql::references(&fill(query, &|word| sample(word).to_owned())) {
        report.add(at, base::chain(&error), None);
    }
}

/// Replaces each placeholder by the value that the function gives for its word.
pub fn fill(text: &str, value: &dyn Fn(&str) -> String) -> String {
    let (mut filled, mut done) = (String::with_capacity(text.len()), 0);
    for (at, word) in placeholders(text) {
        filled.push_str(&text[done..at]);
        filled.push_str(&value(word));
        done = at + word.len() + 2;
    }
    filled.push_str(&text[done..]);
    filled
}

/// A sample value for a placeholder, of the form that a run's value has.
pub fn sample(word: &str) -> &'static str {
    match word {
        "tolerance" => "0",
        "period" => "2000-01",
        _ => "2000-01-01T00:00:00Z",
    }
}

/// Whether the text has the placeholder.
pub fn has(text: &str, word: &str) -> bool {
    placeholders(text).any(|(_, found)| found == word)
}
