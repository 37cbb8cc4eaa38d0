//! Problems of a text that a user wrote, each with its place; collected, so that one reading shows all of them.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Something wrong at one place of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, as a user would name it; empty where the text was handed over without one.
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong, quoted as the text has it.
    pub what: String,
    /// What to write instead, where it is known.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    /// `file:line:column: what; hint`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.as_os_str().is_empty() {
            write!(f, "{}:", self.file.display())?;
        }
        write!(f, "{}:{}: {}", self.line, self.column, self.what)?;
        self.hint.iter().try_for_each(|hint| write!(f, "; {hint}"))
    }
}

impl std::error::Error for Problem {}

/// Collects the problems of one text by byte spans.
pub struct Problems<'a> {
    file: PathBuf,
    text: &'a str,
    /// By the offset that each starts at.
    all: Vec<(usize, Problem)>,
}

impl<'a> Problems<'a> {
    /// Of a text that was handed over without a file.
    pub fn new(text: &'a str) -> Problems<'a> {
        Problems::in_file(Path::new(""), text)
    }

    /// Of the text of a file.
    pub fn in_file(file: &Path, text: &'a str) -> Problems<'a> {
        Problems { file: file.to_owned(), text, all: Vec::new() }
    }

    /// Adds a problem at the start of a span.
    pub fn add(&mut self, span: Range<usize>, what: impl Into<String>, hint: impl Into<Option<String>>) {
        let problem = self.problem_at(span.start, what.into(), hint.into());
        self.all.push((span.start, problem));
    }

    /// A problem at a byte offset, without adding it.
    pub fn problem_at(&self, offset: usize, what: String, hint: Option<String>) -> Problem {
        let (line, column) = position(self.text, offset);
        Problem { file: self.file.clone(), line, column, what, hint }
    }

    /// Adds a problem that was made by [`problem_at`](Self::problem_at).
    pub fn push(&mut self, offset: usize, problem: Problem) {
        self.all.push((offset, problem));
    }

    /// Whether a problem starts within the span: a second one there would only confuse.
    pub fn covers(&self, span: &Range<usize>) -> bool {
        self.all.iter().any(|(offset, _)| span.contains(offset))
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The text that is read.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// All problems in the order of the text.
    pub fn finish(mut self) -> Vec<Problem> {
        self.all.sort_by_key(|(offset, _)| *offset);
        self.all.into_iter().map(|(_, problem)| problem).collect()
    }
}

/// Line and column of a byte offset, both from 1, the column in characters.
pub fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(offset)];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Problems, position};

    #[test]
    fn columns_are_counted_in_characters() {
        assert_eq!(position("a = 1\né = 2", 9), (2, 3));
        assert_eq!(position("é", 1), (1, 1));
        assert_eq!(position("a", 99), (1, 2));
    }

    #[test]
    fn problems_come_in_the_order_of_the_text() {
        let mut problems = Problems::in_file(Path::new("wattlake.toml"), "a = 1\nb = 2");
        problems.add(6..7, "second", "write c".to_owned());
        problems.add(0..1, "first", None);
        assert!(problems.covers(&(0..3)) && !problems.covers(&(3..6)));
        let lines: Vec<_> = problems.finish().iter().map(ToString::to_string).collect();
        assert_eq!(lines, ["wattlake.toml:1:1: first", "wattlake.toml:2:1: second; write c"]);
    }
}
