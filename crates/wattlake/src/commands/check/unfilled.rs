//! Tables that are not in the lake yet because the job that fills them has not run. A query that reads one can't be
//! planned, and that is no error.

use std::cell::RefCell;
use std::collections::BTreeSet;

use lake::{Lake, TableName};
use sql::Reference;
use transfer::preflight::{Finding, Severity};

use crate::config::Warehouse;

/// Finds the queries that read unfilled tables, and collects them for one finding.
pub struct UnfilledTables<'a> {
    config: &'a Warehouse,
    existing: Vec<TableName>,
    /// Tables that loads, statements, ingests and controls write. Those of transfers are known at their sources only.
    written_by_jobs: BTreeSet<TableName>,
    /// The unfilled tables found so far, and the number of queries that read them.
    found: RefCell<(BTreeSet<String>, usize)>,
}

impl<'a> UnfilledTables<'a> {
    /// Lists the tables of the lake.
    pub async fn of(config: &'a Warehouse, lake: &Lake) -> lake::Result<UnfilledTables<'a>> {
        let loads = config.loads.values().map(|load| TableName::new(&load.schema, &load.table));
        let statements = config.statements.values().map(|one| TableName::new(&one.schema, &one.table));
        let own = [
            ("ingest", &["files", "faults"][..], config.ingests.is_empty()),
            ("controls", &["results", "findings", "waivers"][..], config.controls.is_empty()),
        ];
        let own = own.into_iter().filter(|(.., none)| !none);
        let own = own.flat_map(|(schema, tables, _)| tables.iter().map(move |table| TableName::new(schema, *table)));
        let written_by_jobs = loads.chain(statements).chain(own).collect();
        Ok(UnfilledTables { config, existing: lake.tables().await?, written_by_jobs, found: RefCell::default() })
    }

    /// Whether a query reads unfilled tables. They are collected for [`UnfilledTables::finding`].
    pub fn are_read_by(&self, query: &str) -> bool {
        let Ok(reads) = sql::references(query) else { return false };
        let mut missing = BTreeSet::new();
        self.missing(&reads, &mut BTreeSet::new(), &mut missing);
        let mut found = self.found.borrow_mut();
        let is_unfilled = !missing.is_empty();
        found.1 += usize::from(is_unfilled);
        found.0.extend(missing);
        is_unfilled
    }

    /// Adds the missing tables of a query, also those that it reads through marts.
    fn missing(&self, reads: &[Reference], seen: &mut BTreeSet<String>, missing: &mut BTreeSet<String>) {
        for read in reads {
            if let Some(mart) = self.config.marts.values().find(|mart| mart.may_be_named_by(read)) {
                if seen.insert(mart.name.clone()) {
                    self.missing(&mart.reads, seen, missing);
                }
                continue;
            }
            let Some(schema) = &read.schema else { continue };
            let name = TableName::new(schema, &read.table);
            let is_system = matches!(schema.as_str(), "system" | "information_schema");
            // In a schema whose tables are known, another name is a misspelling: it must be an error.
            let mut known = self.existing.iter().chain(&self.written_by_jobs);
            let is_known = self.written_by_jobs.contains(&name) || !known.any(|t| t.schema == *schema);
            if !is_system && !self.existing.contains(&name) && is_known {
                missing.insert(name.to_string());
            }
        }
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
