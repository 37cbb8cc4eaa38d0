//! Environment variables that are not set. Each is an error of the part of the warehouse that names it, and only of
//! that part: who asks the lake needs no password of a source.

use std::fmt;

use super::Problem;

/// What is made of texts with `${VARIABLES}` in them: a value, or the variables that it lacks.
pub type Filled<T> = Result<T, Unset>;

/// The variables that a part lacks, each with its place in the file. Never empty.
#[derive(Debug, Clone)]
pub struct Unset(pub Vec<Problem>);

impl fmt::Display for Unset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(Problem::to_string).collect();
        f.write_str(&lines.join("\n  "))
    }
}

impl std::error::Error for Unset {}
