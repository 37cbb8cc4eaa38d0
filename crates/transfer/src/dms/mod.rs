//! AWS DMS table mappings, taken as they are and turned into SQL for a PostgreSQL source.
//!
//! It exists so that a team that leaves DMS keeps its mapping file: every rule becomes a name, a
//! `SELECT` expression or a `WHERE` predicate of the copy, so that no row is touched afterwards.
//! It never talks to a database, never ignores a rule that it can't carry out (that is a
//! [`Problem`] naming the rule) and never cuts a value.
//!
//! **Sessions.** The SQL expects `TimeZone = 'UTC'` and `DateStyle = 'ISO'`, as DMS itself works in UTC.
//!
//! **Selection.** A table is taken when an `include` matches it and no `exclude` does; `explicit`
//! takes exactly its table or view, even where a wildcard excludes it. The load order, highest
//! first, comes from the rule that names the table without wildcards, then from the lowest rule-id.
//! When two rules filter one table differently, DMS leaves the outcome open: here it is a problem.
//!
//! **Order of transformations.** For one object and one kind of action the lowest rule-id wins
//! (upper and lower case are one kind; so are removing and replacing a prefix, or a suffix; so are
//! `include-column` and `remove-column`). `rename` comes first, since it sets the whole name; the
//! other names follow in the order of their rule-ids. `change-data-type` and masks also follow
//! their rule-ids: DMS asks for the type to have the lower one. Locators always mean source names;
//! the `value` of `add-column` is the final name.
//!
//! **What changes nothing here.** `parallel-load` says how fast, not what: every row is carried,
//! and [`Selection::parallel`] passes the wish on. `lob-settings` is accepted because values are
//! always carried whole. A string's `length` is kept as the declared type of the target, and no
//! value is cut to it. The name of a primary key is not kept.
//!
//! **Expressions** follow SQLite: integers are 64 bits wide, a division by zero is NULL, a
//! condition as a value is 1 or 0, texts order by bytes, `lower`, `upper` and `LIKE` know ASCII
//! only. Where SQLite would turn a malformed text into 0 or NULL, PostgreSQL refuses the row.

mod action;
mod coercion;
mod data_type;
mod expression;
mod filter;
mod functions;
mod json;
mod pattern;
mod rules;
mod transform;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

pub use filter::Filter;
use rules::{Rules, Select};

/// The largest mapping that DMS takes.
const MAPPING_BYTES_MAX: usize = 2 * 1024 * 1024;

/// What is wrong with a mapping, and how to correct it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// `rule-id 3 ("rename schema")`, where one rule is at fault.
    pub rule: Option<String>,
    pub what: String,
    pub hint: Option<String>,
}

impl Problem {
    fn new(rule: Option<&str>, what: impl Into<String>, hint: Option<String>) -> Self {
        Problem { rule: rule.map(str::to_owned), what: what.into(), hint }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rule {
            Some(rule) => write!(f, "{rule}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

impl std::error::Error for Problem {}

/// What is wrong, before it is known in which rule.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fault {
    what: String,
    hint: Option<String>,
}

impl Fault {
    fn new(what: impl Into<String>) -> Self {
        Fault { what: what.into(), hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says where in an expression, or at which column.
    fn within(self, place: &dyn fmt::Display) -> Fault {
        Fault { what: format!("\"{place}\": {}", self.what), ..self }
    }

    fn of(self, rule: &str) -> Problem {
        Problem::new(Some(rule), self.what, self.hint)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableKind {
    Table,
    View,
}

/// A table or view of the source.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a> {
    pub schema: &'a str,
    pub name: &'a str,
    pub kind: TableKind,
}

/// A column of the source; `type_name` as `format_type()` gives it.
#[derive(Debug, Clone, Copy)]
pub struct Column<'a> {
    pub name: &'a str,
    pub type_name: &'a str,
}

/// That a table is taken, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Higher first.
    pub load_order: i64,
    /// Of every rule that takes the table, each with its rule.
    pub filters: Vec<Filter>,
    /// The mapping asks for the table to be copied by several readers.
    pub parallel: bool,
}

/// What to read of a table, and what it becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    pub schema: String,
    pub table: String,
    pub columns: Vec<PlannedColumn>,
    /// Target names, where `define-primary-key` sets one.
    pub primary_key: Option<Vec<String>>,
    /// A SQL predicate over the source's columns.
    pub filter: Option<String>,
    pub load_order: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedColumn {
    /// In the target.
    pub name: String,
    /// The source's column, when the value is just that column.
    pub source: Option<String>,
    /// What stands in the SELECT list, casts included.
    pub expression: String,
    /// The PostgreSQL type to declare in the target, where a rule sets one. The expression has it
    /// already, but for the length of a string: a cast to it would cut longer values in silence.
    pub cast: Option<String>,
}

/// A whole table mapping, proved as far as it can be without a table.
#[derive(Debug)]
pub struct Mapping {
    rules: Rules,
}

impl Mapping {
    /// Reads `{"rules": [...]}`, and says all that is wrong with it at once.
    pub fn parse(json: &str) -> Result<Mapping, Vec<Problem>> {
        if json.len() > MAPPING_BYTES_MAX {
            let what = format!("the mapping has {} bytes; 2 MB is the limit", json.len());
            let hint = "split the tables over several transfers".to_owned();
            return Err(vec![Problem::new(None, what, Some(hint))]);
        }
        Rules::read(&json::parse(json).map_err(|p| vec![p])?).map(|rules| Mapping { rules })
    }

    /// Whether the mapping takes a table, and how.
    pub fn select(&self, table: &Table<'_>) -> Option<Selection> {
        let taking = self.rules.taking(table);
        let first = taking.iter().min_by_key(|rule| (!rule.names_one_table(), rule.id))?;
        let with_order = taking.iter().filter(|rule| rule.load_order.is_some());
        let order = with_order.min_by_key(|rule| (!rule.names_one_table(), rule.id));
        let mut settings = self.rules.settings.iter().filter(|s| s.locator.table_matches(table));
        let parallel = settings.find_map(|s| s.parallel);
        Some(Selection {
            load_order: order.and_then(|rule| rule.load_order).unwrap_or(0),
            filters: taking.iter().flat_map(|rule| rule.filters.iter().cloned()).collect(),
            parallel: parallel.unwrap_or(first.parallel),
        })
    }

    /// Names, expressions and filter of a selected table.
    pub fn plan(
        &self,
        table: &Table<'_>,
        columns: &[Column<'_>],
        selection: &Selection,
    ) -> Result<Planned, Vec<Problem>> {
        transform::plan(&self.rules.transforms, table, columns, selection)
    }

    /// Rules that touch nothing of these tables, each with its columns: what they were meant to do is not done.
    pub fn unmatched(&self, tables: &[(Table<'_>, Vec<Column<'_>>)]) -> Vec<Problem> {
        let problem = |label: &str, what: &str| Problem::new(Some(label), what, None);
        let no_table = "matches no table of the source that the mapping takes";
        // A pattern may exclude what is not there yet; a name that is excluded was meant to be there.
        let untaken = |rule: &&Select| {
            (!rule.excludes() || rule.names_one_table()) && !tables.iter().any(|(table, _)| rule.takes(table))
        };
        let selected: Vec<_> = tables.iter().filter(|(table, _)| self.select(table).is_some()).collect();
        let selections = self.rules.selections.iter().filter(untaken).map(|rule| problem(&rule.label, no_table));
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
                .map(|name| format!("write {name:?}: names are told apart by case"));
            Some(Problem { hint, ..problem(&rule.label, "matches no column of the tables that it applies to") })
        });
        let settings = self.rules.settings.iter().filter(|rule| of(&rule.locator) == 0);
        let settings = settings.map(|rule| problem(&rule.label, no_table));
        selections.chain(transforms).chain(settings).collect()
    }
}

/// Tables that end with the same target name; each comes with its name in the source.
pub fn collisions(planned: &[(&str, &Planned)]) -> Vec<Problem> {
    let mut sources: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for (source, plan) in planned {
        sources.entry((&plan.schema, &plan.table)).or_default().push(source);
    }
    let shared = sources.into_iter().filter(|(_, sources)| sources.len() > 1);
    let problem = |((schema, table), sources): ((&str, &str), Vec<&str>)| {
        let what = format!("{} all become {schema}.{table}", sources.join(", "));
        Problem::new(None, what, Some("give each its own name by a rename rule".to_owned()))
    };
    shared.map(problem).collect()
}

/// A quoted identifier.
fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A quoted literal, the same under either setting of `standard_conforming_strings`.
fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}
