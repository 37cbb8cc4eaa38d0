//! What is wrong in a file, and where: collected, so that one run of `wattlake check` shows everything.
//! Texts are quoted as they stand in the file, never with their variables filled in.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Relative to the warehouse.
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    pub what: String,
    pub mend: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file.display(), self.line, self.column, self.what)?;
        match &self.mend {
            Some(mend) => write!(f, "; {mend}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Problem {}

/// The problems of one file.
pub struct Report<'a> {
    file: PathBuf,
    text: &'a str,
    found: Vec<(usize, Problem)>,
}

impl<'a> Report<'a> {
    pub fn new(file: &Path, text: &'a str) -> Report<'a> {
        Report { file: file.to_owned(), text, found: Vec::new() }
    }

    pub fn add(&mut self, span: Range<usize>, what: impl Into<String>, mend: impl Into<Option<String>>) {
        let (line, column) = position(self.text, span.start);
        let problem = Problem { file: self.file.clone(), line, column, what: what.into(), mend: mend.into() };
        self.found.push((span.start, problem));
    }

    /// True where something within the span was found wrong already: a second finding would only confuse.
    pub fn covers(&self, span: &Range<usize>) -> bool {
        self.found.iter().any(|(at, _)| span.contains(at))
    }

    /// A value as it stands in the file.
    pub fn written(&self, span: &Range<usize>) -> &'a str {
        match self.text.get(span.clone()) {
            Some(text) if !text.contains('\n') => text,
            _ => "a text of several lines",
        }
    }

    /// Line and column, for a finding that has to wait until other files are read.
    pub fn place(&self, span: &Range<usize>) -> (usize, usize) {
        position(self.text, span.start)
    }

    pub fn text(&self) -> &'a str {
        self.text
    }

    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// In the order of the file.
    pub fn finish(mut self) -> Vec<Problem> {
        self.found.sort_by_key(|(at, _)| *at);
        self.found.into_iter().map(|(_, problem)| problem).collect()
    }
}

fn position(text: &str, offset: usize) -> (usize, usize) {
    let mut end = offset.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let before = &text[..end];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}
