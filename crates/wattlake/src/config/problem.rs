//! What is wrong in a file, and where: collected, so that one run of `wattlake check` shows everything.
//! Texts are quoted as they stand in the file, never with their variables filled in.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::Unset;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Relative to the warehouse.
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    pub what: String,
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file.display(), self.line, self.column, self.what)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
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
    unset: Vec<Variable>,
}

/// One that is not set.
struct Variable {
    /// The keys that lead to its text.
    path: Vec<String>,
    at: usize,
    problem: Problem,
    /// A part of the warehouse has it as its own problem.
    is_taken: bool,
}

impl<'a> Report<'a> {
    pub fn new(file: &Path, text: &'a str) -> Report<'a> {
        Report { file: file.to_owned(), text, found: Vec::new(), unset: Vec::new() }
    }

    pub fn add(&mut self, span: Range<usize>, what: impl Into<String>, hint: impl Into<Option<String>>) {
        let problem = self.problem(span.start, what.into(), hint.into());
        self.found.push((span.start, problem));
    }

    /// A variable that is not set, in the text that the keys of `path` lead to.
    pub fn add_unset(&mut self, path: &[String], span: Range<usize>, what: String, hint: String) {
        let problem = self.problem(span.start, what, Some(hint));
        self.unset.push(Variable { path: path.to_owned(), at: span.start, problem, is_taken: false });
    }

    /// Hands the unset variables of a part to it, chosen by the keys that lead to them. Those that nobody takes are
    /// problems of the whole file.
    pub fn take_unset(&mut self, is_of_part: impl Fn(&[String]) -> bool) -> Option<Unset> {
        let mut taken = Vec::new();
        for variable in self.unset.iter_mut().filter(|variable| is_of_part(&variable.path)) {
            variable.is_taken = true;
            taken.push((variable.at, variable.problem.clone()));
        }
        // In the order of the file, not of the keys.
        taken.sort_by_key(|(at, _)| *at);
        let taken: Vec<Problem> = taken.into_iter().map(|(_, problem)| problem).collect();
        (!taken.is_empty()).then_some(Unset(taken))
    }

    /// Those under the keys that lead to a part.
    pub fn take_unset_under(&mut self, keys: &[&str]) -> Option<Unset> {
        self.take_unset(|path| path.len() >= keys.len() && path.iter().zip(keys).all(|(key, wanted)| key == wanted))
    }

    /// What parts have taken.
    pub fn taken(&self) -> impl Iterator<Item = Problem> {
        self.unset.iter().filter(|variable| variable.is_taken).map(|variable| variable.problem.clone())
    }

    fn problem(&self, at: usize, what: String, hint: Option<String>) -> Problem {
        let (line, column) = position(self.text, at);
        Problem { file: self.file.clone(), line, column, what, hint }
    }

    /// True where something within the span was found wrong already: a second finding would only confuse.
    pub fn covers(&self, span: &Range<usize>) -> bool {
        let unset = self.unset.iter().map(|variable| &variable.at);
        self.found.iter().map(|(at, _)| at).chain(unset).any(|at| span.contains(at))
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

    /// In the order of the file, without what parts have taken.
    pub fn finish(mut self) -> Vec<Problem> {
        let left = self.unset.into_iter().filter(|variable| !variable.is_taken);
        self.found.extend(left.map(|variable| (variable.at, variable.problem)));
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
