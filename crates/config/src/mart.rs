//! The checked configuration of marts: named queries and the order in which they depend on each other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use lake::TableName;
use schedule::JobRules;
use sql::Reference;

/// The schema of marts whose files are in `marts/` itself.
pub const DEFAULT_SCHEMA: &str = "marts";

/// A mart: `marts/NAME.sql` or `marts/SCHEMA/NAME.sql`.
#[derive(Debug, Clone)]
pub struct Mart {
    /// `daily` for `marts.daily`, `schema.daily` for any other schema.
    pub name: String,
    pub file: PathBuf,
    pub schema: String,
    pub table: String,
    pub kind: MartKind,
    pub description: Option<String>,
    /// The column by whose values the table is refreshed in part.
    pub since: Option<String>,
    /// The columns that packed files are sorted by. Empty: not sorted.
    pub order: Vec<String>,
    /// The text of the whole file, so that lines in errors of SQL are lines of the file.
    pub sql: String,
    /// The tables that the query names.
    pub reads: Vec<Reference>,
    /// The names of the marts among them.
    pub depends_on: BTreeSet<String>,
    /// The file has no triggers: the mart is refreshed after the jobs that write its inputs.
    pub follows_inputs: bool,
    pub rules: JobRules,
}

/// How a mart's rows are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MartKind {
    /// Computed by each query that reads it.
    View,
    /// Computed by its job and kept in the lake.
    Table,
}

impl MartKind {
    /// `view` or `table`, as the configuration writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            MartKind::View => "view",
            MartKind::Table => "table",
        }
    }
}

impl Mart {
    /// The name of a mart with this schema and table.
    pub fn name_of(schema: &str, table: &str) -> String {
        if schema == DEFAULT_SCHEMA { table.to_owned() } else { format!("{schema}.{table}") }
    }

    /// Whether a table that a query names may be this mart; a name without a schema may.
    pub fn may_be_named_by(&self, reference: &Reference) -> bool {
        self.table == reference.table && reference.schema.as_ref().is_none_or(|schema| *schema == self.schema)
    }
}

/// All marts, each after those that it depends on.
///
/// # Errors
/// The names of marts that depend on each other in a cycle, the first again at the end.
pub fn in_dependency_order(marts: &BTreeMap<String, Mart>) -> Result<Vec<&Mart>, Vec<String>> {
    let (mut done, mut order) = (BTreeSet::new(), Vec::with_capacity(marts.len()));
    for name in marts.keys() {
        visit(marts, name, &mut Vec::new(), &mut done, &mut order)?;
    }
    Ok(order)
}

fn visit<'a>(
    marts: &'a BTreeMap<String, Mart>,
    name: &'a str,
    path: &mut Vec<&'a str>,
    done: &mut BTreeSet<&'a str>,
    order: &mut Vec<&'a Mart>,
) -> Result<(), Vec<String>> {
    let Some(mart) = marts.get(name).filter(|_| !done.contains(name)) else { return Ok(()) };
    if let Some(at) = path.iter().position(|outer| *outer == name) {
        return Err(path[at..].iter().chain([&name]).map(|name| (*name).to_owned()).collect());
    }
    path.push(name);
    for input in &mart.depends_on {
        visit(marts, input, path, done, order)?;
    }
    path.pop();
    done.insert(name);
    order.push(mart);
    Ok(())
}

impl super::Warehouse {
    /// The queries of the marts that are views, by the views' names.
    pub fn views(&self) -> Arc<sql::Views> {
        let views = self.marts.values().filter(|mart| mart.kind == MartKind::View);
        Arc::new(views.map(|mart| (TableName::new(&mart.schema, &mart.table), mart.sql.clone())).collect())
    }

    /// All marts, each after those that it depends on.
    pub fn marts_in_order(&self) -> Vec<&Mart> {
        // Cycles were refused when the files were read.
        in_dependency_order(&self.marts).unwrap_or_default()
    }

    /// The jobs that may change what a mart reads, also through views: the jobs of mart tables, and all transfers into
    /// the lake where it reads tables that are no marts. The tables of a transfer are known only at its source, so some
    /// of these transfers may not matter; a refresh that finds nothing changed does nothing.
    pub fn jobs_before(&self, mart: &Mart) -> BTreeSet<String> {
        let (mut jobs, mut left) = (BTreeSet::new(), vec![mart]);
        while let Some(mart) = left.pop() {
            let reads_other_tables = mart.reads.iter().any(|read| {
                !mart
                    .depends_on
                    .iter()
                    .any(|name| self.marts.get(name).is_some_and(|input| input.may_be_named_by(read)))
            });
            if reads_other_tables {
                let into_lake = self.transfers.values().filter(|transfer| transfer.target == super::Target::Lake);
                jobs.extend(into_lake.map(|transfer| format!("transfer:{}", transfer.name)));
            }
            for input in mart.depends_on.iter().filter_map(|name| self.marts.get(name)) {
                match input.kind {
                    MartKind::Table => drop(jobs.insert(format!("mart:{}", input.name))),
                    MartKind::View => left.push(input),
                }
            }
        }
        jobs
    }
}
