//! Queries that can't be checked yet, because they read tables that are not in the lake yet.

use std::cell::RefCell;
use std::collections::BTreeSet;

use jobs::unfilled_tables::UnfilledTables;
use transfer::preflight::{Finding, Severity};

/// Collects the queries that read unfilled tables, for one finding.
pub struct UnfilledQueries<'a> {
    tables: UnfilledTables<'a>,
    /// The unfilled tables found so far, and the number of queries that read them.
    found: RefCell<(BTreeSet<String>, usize)>,
}

impl<'a> UnfilledQueries<'a> {
    /// A collection without queries.
    pub fn new(tables: UnfilledTables<'a>) -> UnfilledQueries<'a> {
        UnfilledQueries { tables, found: RefCell::default() }
    }

    /// Whether a query reads unfilled tables. They are collected for [`UnfilledQueries::finding`].
    pub fn add(&self, query: &str) -> bool {
        let missing = self.tables.read_by(query);
        let is_unfilled = !missing.is_empty();
        let mut found = self.found.borrow_mut();
        found.1 += usize::from(is_unfilled);
        found.0.extend(missing);
        is_unfilled
    }

    /// One finding for all queries that read unfilled tables.
    pub fn finding(&self) -> Option<Finding> {
        let found = self.found.borrow();
        let queries = found.1;
        let tables: Vec<&str> = found.0.iter().map(String::as_str).collect();
        (queries > 0).then(|| Finding {
            severity: Severity::Note,
            subject: format!("{queries} not checked yet"),
            what: format!("they read tables that are not in the lake yet: {}", tables.join(", ")),
            hint: Some("run the jobs that fill these tables, then check again".to_owned()),
            common: None,
        })
    }
}
