//! The problems of one configuration file, collected, so that one run of `wattlake check` shows everything.
//! Texts are quoted as they stand in the file, never with their variables filled in.

use std::ops::Range;
use std::path::Path;

use base::{Problem, Problems};

use super::UnsetVariables;

/// Collects the problems of one file; those of unset variables can be handed to the part that needs the variable.
pub struct FileProblems<'a> {
    problems: Problems<'a>,
    unset: Vec<UnsetVariable>,
}

/// A variable that is not set.
struct UnsetVariable {
    /// The keys that lead to its text.
    path: Vec<String>,
    offset: usize,
    problem: Problem,
    /// A part of the warehouse has it as its own problem.
    is_taken: bool,
}

impl<'a> FileProblems<'a> {
    /// Of the text of a file, named relative to the warehouse.
    pub fn new(file: &Path, text: &'a str) -> FileProblems<'a> {
        FileProblems { problems: Problems::in_file(file, text), unset: Vec::new() }
    }

    /// Adds a problem at the start of a span.
    pub fn add(&mut self, span: Range<usize>, what: impl Into<String>, hint: impl Into<Option<String>>) {
        self.problems.add(span, what, hint);
    }

    /// Adds a variable that is not set, in the text that the keys of `path` lead to.
    pub fn add_unset(&mut self, path: &[String], span: Range<usize>, what: String, hint: String) {
        let problem = self.problems.problem_at(span.start, what, Some(hint));
        self.unset.push(UnsetVariable { path: path.to_owned(), offset: span.start, problem, is_taken: false });
    }

    /// Hands the unset variables of a part to it, chosen by the keys that lead to them. Those that no part takes are
    /// problems of the whole file.
    pub fn take_unset(&mut self, is_of_part: impl Fn(&[String]) -> bool) -> Option<UnsetVariables> {
        let mut taken = Vec::new();
        for variable in self.unset.iter_mut().filter(|variable| is_of_part(&variable.path)) {
            variable.is_taken = true;
            taken.push((variable.offset, variable.problem.clone()));
        }
        // In the order of the file, not of the keys.
        taken.sort_by_key(|(offset, _)| *offset);
        let taken: Vec<Problem> = taken.into_iter().map(|(_, problem)| problem).collect();
        (!taken.is_empty()).then_some(UnsetVariables(taken))
    }

    /// Hands the unset variables under the keys of a part to it.
    pub fn take_unset_under(&mut self, keys: &[&str]) -> Option<UnsetVariables> {
        self.take_unset(|path| path.len() >= keys.len() && path.iter().zip(keys).all(|(key, wanted)| key == wanted))
    }

    /// The unset variables that parts have taken.
    pub fn taken(&self) -> impl Iterator<Item = Problem> {
        self.unset.iter().filter(|variable| variable.is_taken).map(|variable| variable.problem.clone())
    }

    /// True where something within the span was found wrong already: a second finding would only confuse.
    pub fn covers(&self, span: &Range<usize>) -> bool {
        self.problems.covers(span) || self.unset.iter().any(|variable| span.contains(&variable.offset))
    }

    /// A value as written in the file, for a message.
    pub fn written(&self, span: &Range<usize>) -> &'a str {
        match self.text().get(span.clone()) {
            Some(text) if !text.contains('\n') => text,
            _ => "a text of several lines",
        }
    }

    /// Line and column, for a finding that has to wait until other files are read.
    pub fn place(&self, span: &Range<usize>) -> (usize, usize) {
        base::position(self.text(), span.start)
    }

    /// The text of the file.
    pub fn text(&self) -> &'a str {
        self.problems.text()
    }

    /// Whether nothing is wrong but unset variables.
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// In the order of the file, without what parts have taken.
    pub fn finish(mut self) -> Vec<Problem> {
        for variable in self.unset.into_iter().filter(|variable| !variable.is_taken) {
            self.problems.push(variable.offset, variable.problem);
        }
        self.problems.finish()
    }
}
