//! Environment variables that are not set. Each is an error only of the part of the warehouse that names it: a query of
//! the lake needs no password of a source.

use std::fmt;

use super::Problem;

/// A value made from texts with `${VARIABLES}`, or the variables that are not set.
pub type OrUnset<T> = Result<T, UnsetVariables>;

/// The variables of a part that are not set, each with its place in the file; at least one.
/// `Display` writes a line for each.
#[derive(Debug, Clone)]
pub struct UnsetVariables(pub Vec<Problem>);

impl fmt::Display for UnsetVariables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(Problem::to_string).collect();
        f.write_str(&lines.join("\n  "))
    }
}

impl std::error::Error for UnsetVariables {}
