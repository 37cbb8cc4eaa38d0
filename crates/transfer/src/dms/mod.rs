//! Table mappings of AWS DMS, read without changes and translated into SQL for a PostgreSQL source.
//!
//! A team that leaves DMS keeps its mapping file: every rule becomes a name, a `SELECT` expression or a `WHERE`
//! predicate of the copy, so that no row is changed after it was read. This module never connects to a database, never
//! ignores a rule that it can't apply (it reports a [`Problem`] with the rule) and never truncates a value.
//!
//! **Sessions.** The SQL expects `TimeZone = 'UTC'` and `DateStyle = 'ISO'`, as DMS itself works in UTC.
//!
//! **Selection.** A table is taken when an `include` matches it and no `exclude` does; `explicit`
//! takes exactly its table or view, even where a wildcard excludes it. The load order, highest
//! first, comes from the rule that names the table without wildcards, else from the lowest rule-id.
//! Where two rules filter one table differently, the result in DMS is undefined: here it is a problem.
//!
//! **Order of transformations.** For one object and one kind of action the lowest rule-id wins
//! (upper and lower case are one kind; so are removing and replacing a prefix, or a suffix; so are
//! `include-column` and `remove-column`). `rename` comes first, since it sets the whole name; the
//! other names follow in the order of their rule-ids. `change-data-type` and masks also follow
//! their rule-ids: DMS requires the lower one for the change of type. Locators always name objects of the source;
//! the `value` of `add-column` is the final name.
//!
//! **Settings without effect on the rows.** `parallel-load` changes the speed only: every row is copied, and
//! [`Selection::parallel`] has the setting. `lob-settings` is accepted because values are always copied whole. A
//! string's `length` is part of the type that is declared in the target, and no value is truncated to it. The name of a
//! primary key is ignored.
//!
//! **Expressions** follow SQLite: integers have 64 bits, a division by zero is NULL, a condition as a value is 1 or 0,
//! texts are ordered by their bytes, and `lower`, `upper` and `LIKE` know the case of ASCII letters only. Where SQLite
//! would read a malformed text as 0 or NULL, PostgreSQL refuses the row.

mod action;
mod coercion;
mod data_type;
mod expression;
mod filter;
mod functions;
mod json;
mod pattern;
mod problem;
mod quoting;
mod rules;
mod source_table;
mod transform;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use filter::Filter;
pub use problem::Problem;
use rules::{Rules, SelectionRule};
pub use source_table::{Column, Table, TableKind};

/// The largest mapping that DMS accepts.
const MAPPING_BYTES_MAX: usize = 2 * 1024 * 1024;

/// How a table that the mapping selects is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Tables with a higher value are copied first.
    pub load_order: i64,
    /// The filters of all rules that select the table.
    pub filters: Vec<Filter>,
    /// The mapping has the table read by several connections.
    pub parallel: bool,
}

/// A table of the source with the names, expressions and filter that the mapping gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappedTable {
    /// The schema in the target.
    pub schema: String,
    /// The table's name in the target.
    pub table: String,
    /// The columns of the target, in their order.
    pub columns: Vec<MappedColumn>,
    /// The key as columns of the target, where a rule `define-primary-key` sets one.
    pub primary_key: Option<Vec<String>>,
    /// A SQL predicate over the source's columns; `None` where all rows are copied.
    pub filter: Option<String>,
    /// As [`Selection::load_order`].
    pub load_order: i64,
}

/// A column of a [`MappedTable`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappedColumn {
    /// The name in the target.
    pub name: String,
    /// The column of the source, where the expression is that column and nothing else.
    pub source: Option<String>,
    /// The expression of the SELECT list, with its casts.
    pub expression: String,
    /// The PostgreSQL type to declare in the target, where a rule sets one. The expression has this type already,
    /// without the length of a string: a cast to it would truncate longer values without an error.
    pub cast: Option<String>,
}

/// A table mapping, checked as far as that is possible without the source's tables.
#[derive(Debug)]
pub struct Mapping {
    rules: Rules,
}

impl Mapping {
    /// Reads a mapping of the form `{"rules": [...]}`.
    ///
    /// # Errors
    /// All problems of the mapping at once.
    pub fn parse(json: &str) -> Result<Mapping, Vec<Problem>> {
        if json.len() > MAPPING_BYTES_MAX {
            let what = format!("the mapping has {} bytes; 2 MB is the limit", json.len());
            let hint = "split the tables over several transfers".to_owned();
            return Err(vec![Problem::new(None, what, Some(hint))]);
        }
        Rules::read(&json::parse(json).map_err(|p| vec![p])?).map(|rules| Mapping { rules })
    }

    /// How the mapping copies a table; `None` where it does not select it.
    pub fn select(&self, table: &Table<'_>) -> Option<Selection> {
        let selecting = self.rules.rules_selecting(table);
        let first = selecting.iter().min_by_key(|rule| (!rule.names_one_table(), rule.id))?;
        let with_order = selecting.iter().filter(|rule| rule.load_order.is_some());
        let order = with_order.min_by_key(|rule| (!rule.names_one_table(), rule.id));
        let mut settings = self.rules.settings.iter().filter(|s| s.locator.table_matches(table));
        let parallel = settings.find_map(|s| s.parallel);
        Some(Selection {
            load_order: order.and_then(|rule| rule.load_order).unwrap_or(0),
            filters: selecting.iter().flat_map(|rule| rule.filters.iter().cloned()).collect(),
            parallel: parallel.unwrap_or(first.parallel),
        })
    }

    /// The names, expressions and filter of a selected table.
    ///
    /// # Errors
    /// All problems of the rules with this table and these columns.
    pub fn plan(
        &self,
        table: &Table<'_>,
        columns: &[Column<'_>],
        selection: &Selection,
    ) -> Result<MappedTable, Vec<Problem>> {
        transform::plan(&self.rules.transforms, table, columns, selection)
    }

    /// A problem for each rule that applies to none of these tables, or to none of their columns: it has no effect.
    pub fn unmatched(&self, tables: &[(Table<'_>, Vec<Column<'_>>)]) -> Vec<Problem> {
        let problem = |label: &str, what: &str| Problem::new(Some(label), what, None);
        let no_table = "matches no table that the mapping selects from the source";
        // An exclusion by a pattern may be for tables that don't exist yet; one by a name is for a table that exists.
        let is_unmatched = |rule: &&SelectionRule| {
            (!rule.excludes() || rule.names_one_table()) && !tables.iter().any(|(table, _)| rule.selects(table))
        };
        let selected: Vec<_> = tables.iter().filter(|(table, _)| self.select(table).is_some()).collect();
        let selections = self.rules.selections.iter().filter(is_unmatched).map(|rule| problem(&rule.label, no_table));
        let of = |locator: &rules::Locator| selected.iter().filter(|(table, _)| locator.table_matches(table)).count();
        let transforms = self.rules.transforms.iter().filter_map(|rule| {
            if of(&rule.locator) == 0 {
                return Some(problem(&rule.label, no_table));
            }
            let columns =
                || selected.iter().filter(|(table, _)| rule.locator.table_matches(table)).flat_map(|(_, c)| c);
            if !rule.needs_column() || columns().any(|column| rule.locator.column_matches(column)) {
                return None;
            }
            let names: Vec<&str> = columns().map(|column| column.name).collect();
            let hint = rule
                .locator
                .column_of_another_case(&names)
                .map(|name| format!("write {name:?}: names are case-sensitive"));
            Some(Problem { hint, ..problem(&rule.label, "matches no column of the tables that it applies to") })
        });
        let settings = self.rules.settings.iter().filter(|rule| of(&rule.locator) == 0);
        let settings = settings.map(|rule| problem(&rule.label, no_table));
        selections.chain(transforms).chain(settings).collect()
    }
}

/// A problem for each name in the target that several tables would get. The first of a pair is the name in the source.
pub fn collisions(planned: &[(&str, &MappedTable)]) -> Vec<Problem> {
    let mut sources: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for (source, plan) in planned {
        sources.entry((&plan.schema, &plan.table)).or_default().push(source);
    }
    let shared = sources.into_iter().filter(|(_, sources)| sources.len() > 1);
    let problem = |((schema, table), sources): ((&str, &str), Vec<&str>)| {
        let what = format!("the tables {} would all become {schema}.{table}", sources.join(", "));
        Problem::new(None, what, Some("give each its own name by a rename rule".to_owned()))
    };
    shared.map(problem).collect()
}
