//! Tables that are not in the lake yet because the job that fills them has not run: a query that
//! asks for one can't be proven, and is not wrong.

use std::cell::RefCell;
use std::collections::BTreeSet;

use lake::{Lake, TableName};
use sql::Reference;
use transfer::preflight::{Finding, Severity};

use crate::config::Warehouse;

pub struct Awaited<'a> {
    config: &'a Warehouse,
    there: Vec<TableName>,
    /// What jobs fill by name; transfers fill schemas that only their sources know.
    filled: BTreeSet<TableName>,
    asked_for: RefCell<(BTreeSet<String>, usize)>,
}

impl<'a> Awaited<'a> {
    pub async fn of(config: &'a Warehouse, lake: &Lake) -> lake::Result<Awaited<'a>> {
        let loads = config.loads.values().map(|load| TableName::new(&load.schema, &load.table));
        let statements = config.statements.values().map(|one| TableName::new(&one.schema, &one.table));
        let own = [
            ("ingest", &["files", "faults"][..], config.ingests.is_empty()),
            ("controls", &["results", "findings", "waivers"][..], config.controls.is_empty()),
        ];
        let own = own.into_iter().filter(|(.., none)| !none);
        let own = own.flat_map(|(schema, tables, _)| tables.iter().map(move |table| TableName::new(schema, *table)));
        let filled = loads.chain(statements).chain(own).collect();
        Ok(Awaited { config, there: lake.tables().await?, filled, asked_for: RefCell::default() })
    }

    /// Whether a query has to wait for tables. They are kept for [`Awaited::finding`].
    pub fn has(&self, query: &str) -> bool {
        let Ok(reads) = sql::references(query) else { return false };
        let mut missing = BTreeSet::new();
        self.missing(&reads, &mut BTreeSet::new(), &mut missing);
        let mut asked_for = self.asked_for.borrow_mut();
        asked_for.1 += usize::from(!missing.is_empty());
        let is_awaited = !missing.is_empty();
        asked_for.0.extend(missing);
        is_awaited
    }

    /// Through views, and through tables that no refresh has made yet.
    fn missing(&self, reads: &[Reference], seen: &mut BTreeSet<String>, missing: &mut BTreeSet<String>) {
        for read in reads {
            if let Some(mart) = self.config.marts.values().find(|mart| mart.is_named(read)) {
                if seen.insert(mart.name.clone()) {
                    self.missing(&mart.reads, seen, missing);
                }
                continue;
            }
            let Some(schema) = &read.schema else { continue };
            let name = TableName::new(schema, &read.table);
            let is_system = matches!(schema.as_str(), "system" | "information_schema");
            // In a schema that jobs fill by name, another name is a slip of the pen.
            let is_known =
                self.filled.contains(&name) || !self.there.iter().chain(&self.filled).any(|t| t.schema == *schema);
            if !is_system && !self.there.contains(&name) && is_known {
                missing.insert(name.to_string());
            }
        }
    }

    /// One for all queries.
    pub fn finding(&self) -> Option<Finding> {
        let asked_for = self.asked_for.borrow();
        let (tables, queries) = (&asked_for.0, asked_for.1);
        let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
        (queries > 0).then(|| Finding {
            severity: Severity::Note,
            subject: "not proven yet".to_owned(),
            what: format!("{queries} that ask for {}", tables.join(", ")),
            hint: Some("run the jobs that fill these tables, then check again".to_owned()),
            shared: None,
        })
    }
}
