//! The words that docs/glossary.md replaces, in every text file: code, comments, messages and documentation alike.

use super::{File, Finding};

const GLOSSARY: &str = "docs/glossary.md";

/// The glossary itself, what was written about versions that had other words, what migrates from them, and the tests of
/// this rule.
const FREE: [&str; 5] = [
    GLOSSARY,
    "CHANGELOG.md",
    "crates/ledger/src/schema.rs",
    "crates/ledger/src/tests/queueing.rs",
    "crates/xtask/src/tidy/tests.rs",
];

/// Not prose.
const NOT_TEXT: [&str; 4] = [".lock", ".tsv", ".csv", ".svg"];

/// A phrase that is not to be used, and the term to use.
struct Replaced {
    phrase: String,
    term: String,
}

/// Adds each line with a word that the glossary replaces.
pub fn check(files: &[File], found: &mut Vec<Finding>) {
    let Some(glossary) = files.iter().find(|file| file.path == GLOSSARY) else { return };
    let replaced = replaced(&glossary.text);
    for file in files {
        if FREE.contains(&file.path.as_str()) || NOT_TEXT.iter().any(|end| file.path.ends_with(end)) {
            continue;
        }
        for (at, line) in file.text.lines().enumerate() {
            let line = line.to_lowercase();
            for Replaced { phrase, term } in replaced.iter().filter(|replaced| contains(&line, &replaced.phrase)) {
                found.push(file.finding(
                    "glossary",
                    at + 1,
                    format!("{phrase:?}: write {term:?}, as {GLOSSARY} has it"),
                ));
            }
        }
    }
}

/// The rows of the tables with a third column: `| term | meaning | `phrase`, `phrase` |`.
fn replaced(glossary: &str) -> Vec<Replaced> {
    let mut all = Vec::new();
    for line in glossary.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let [_, term, _, phrases, _] = cells[..] {
            let phrases = phrases.split('`').skip(1).step_by(2);
            all.extend(phrases.map(|phrase| Replaced { phrase: phrase.to_lowercase(), term: term.to_owned() }));
        }
    }
    all
}

/// True where the words stand by themselves, or are a whole identifier; a part of a longer identifier is another name.
fn contains(line: &str, phrase: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    [phrase.to_owned(), phrase.replace(' ', "_")].iter().any(|form| {
        line.match_indices(form.as_str()).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let after = line[at + form.len()..].chars().next();
            !before.is_some_and(is_word) && !after.is_some_and(is_word)
        })
    })
}
