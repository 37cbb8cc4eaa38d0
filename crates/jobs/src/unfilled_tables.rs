//! Tables that are not in the lake yet because the job that fills them has not run. A query that reads one can't be
//! planned, and that is no error.

use std::collections::BTreeSet;

use config::{MartKind, Warehouse};
use lake::{Lake, TableName};
use sql::Reference;

/// Finds the unfilled tables that queries read.
pub struct UnfilledTables<'a> {
    config: &'a Warehouse,
    existing: Vec<TableName>,
    /// Tables that jobs other than transfers write. Those of transfers are known at their sources only.
    written_by_jobs: BTreeSet<TableName>,
    marts_are_tables: bool,
}

impl<'a> UnfilledTables<'a> {
    /// Lists the tables of the lake.
    pub async fn of(config: &'a Warehouse, lake: &Lake) -> lake::Result<UnfilledTables<'a>> {
        let loads = config.loads.values().map(|load| TableName::new(&load.schema, &load.table));
        let statements = config.statements.values().map(|one| TableName::new(&one.schema, &one.table));
        let own = [
            ("ingest", &["files", "faults"][..], config.ingests.is_empty()),
            ("collect", &["answers", "faults"][..], config.collects.is_empty()),
            ("controls", &["results", "findings", "waivers"][..], config.controls.is_empty()),
        ];
        let own = own.into_iter().filter(|(.., none)| !none);
        let own = own.flat_map(|(schema, tables, _)| tables.iter().map(move |table| TableName::new(schema, *table)));
        let collects = config.collects.values().map(|one| TableName::new(&one.schema, &one.table));
        let predictions = config.predictions.values().map(|one| TableName::new(&one.schema, &one.table));
        let trainings = config.trainings.values().flat_map(|one| &one.tables);
        let trainings = trainings.map(|table| TableName::new(&table.schema, &table.table));
        let forecasts = collects.chain(predictions).chain(trainings);
        let written_by_jobs = loads.chain(statements).chain(own).chain(forecasts).collect();
        Ok(UnfilledTables { config, existing: lake.tables().await?, written_by_jobs, marts_are_tables: false })
    }

    /// Counts a mart's table that was never refreshed as unfilled, too; without it, its query stands for it.
    #[must_use]
    pub fn with_marts(mut self) -> Self {
        self.marts_are_tables = true;
        self
    }

    /// The unfilled tables that a query reads, also through marts. None where it is not one query.
    pub fn read_by(&self, query: &str) -> BTreeSet<String> {
        let mut missing = BTreeSet::new();
        if let Ok(reads) = sql::references(query) {
            self.missing(&reads, &mut BTreeSet::new(), &mut missing);
        }
        missing
    }

    /// Adds the missing tables of a query, also those that it reads through marts.
    fn missing(&self, reads: &[Reference], seen: &mut BTreeSet<String>, missing: &mut BTreeSet<String>) {
        for read in reads {
            if let Some(mart) = self.config.marts.values().find(|mart| mart.may_be_named_by(read)) {
                let table = TableName::new(&mart.schema, &mart.table);
                if self.marts_are_tables && mart.kind == MartKind::Table {
                    if !self.existing.contains(&table) {
                        missing.insert(table.to_string());
                    }
                    continue;
                }
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
}
