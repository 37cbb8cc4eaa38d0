//! `{period}` and its kin in queries and texts: what a run is for, filled in when it begins.

use std::ops::Range;

use super::super::nearest::advice;
use super::super::problem::Report;

pub const OF_RUNS: [&str; 4] = ["period", "from", "to", "as_of"];
pub const OF_CONTROLS: [&str; 5] = ["period", "from", "to", "as_of", "tolerance"];

/// What stands in braces and may be meant as a hole: a word of small letters.
fn holes(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.match_indices('{').filter_map(|(at, _)| {
        let rest = &text[at + 1..];
        let word = &rest[..rest.find('}')?];
        let is_word = !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        is_word.then_some((at, word))
    })
}

pub fn check(text: &str, known: &[&str], at: Range<usize>, report: &mut Report<'_>) {
    for (_, word) in holes(text).filter(|(_, word)| !known.contains(word)) {
        report.add(at.clone(), format!("nothing is known as {{{word}}}"), advice("word", word, known));
    }
}

/// A query of a run: its holes, and whether it can be read.
pub fn check_query(query: &str, at: Range<usize>, report: &mut Report<'_>) {
    check(query, &OF_RUNS, at.clone(), report);
    if let Err(error) = sql::references(&fill(query, &|word| sample(word).to_owned())) {
        report.add(at, crate::report::chain(&error), None);
    }
}

pub fn fill(text: &str, value: &dyn Fn(&str) -> String) -> String {
    let (mut filled, mut done) = (String::with_capacity(text.len()), 0);
    for (at, word) in holes(text) {
        filled.push_str(&text[done..at]);
        filled.push_str(&value(word));
        done = at + word.len() + 2;
    }
    filled.push_str(&text[done..]);
    filled
}

/// Of the form that a run's own value will have.
pub fn sample(word: &str) -> &'static str {
    match word {
        "tolerance" => "0",
        "period" => "2000-01",
        _ => "2000-01-01T00:00:00Z",
    }
}

/// Whether the text asks for it.
pub fn has(text: &str, word: &str) -> bool {
    holes(text).any(|(_, found)| found == word)
}
