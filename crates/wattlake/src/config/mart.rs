//! Marts as the configuration has them: queries under names, and which of them stand on which.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use sql::Reference;

use super::job::Rules;

/// The schema of marts that lie in no folder of their own.
pub const SCHEMA: &str = "marts";

#[derive(Debug, Clone)]
pub struct Mart {
    /// `daily` for `marts.daily`, `schema.daily` for any other schema.
    pub name: String,
    pub file: PathBuf,
    pub schema: String,
    pub table: String,
    pub kind: MartKind,
    pub description: Option<String>,
    pub since: Option<String>,
    /// Empty: as the rows come.
    pub order: Vec<String>,
    /// The whole file, so that a line of it is the line of an error.
    pub sql: String,
    /// The tables that it names.
    pub reads: Vec<Reference>,
    /// The marts among them, by name.
    pub stands_on: BTreeSet<String>,
    /// No triggers were written: it is refreshed after what fills its inputs.
    pub follows_inputs: bool,
    pub rules: Rules,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MartKind {
    View,
    Table,
}

impl MartKind {
    pub fn as_str(self) -> &'static str {
        match self {
            MartKind::View => "view",
            MartKind::Table => "table",
        }
    }
}

impl Mart {
    pub fn name_of(schema: &str, table: &str) -> String {
        if schema == SCHEMA { table.to_owned() } else { format!("{schema}.{table}") }
    }

    /// Whether a query that names a table may mean this mart.
    pub fn is_named(&self, reference: &Reference) -> bool {
        self.table == reference.table && reference.schema.as_ref().is_none_or(|schema| *schema == self.schema)
    }
}

/// Each after all that it stands on.
///
/// # Errors
/// The names of a round, the first of them again at the end.
pub fn ordered(marts: &BTreeMap<String, Mart>) -> Result<Vec<&Mart>, Vec<String>> {
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
    for below in &mart.stands_on {
        visit(marts, below, path, done, order)?;
    }
    path.pop();
    done.insert(name);
    order.push(mart);
    Ok(())
}

impl super::Warehouse {
    /// All marts, each after those it stands on.
    pub fn marts_in_order(&self) -> Vec<&Mart> {
        // Rounds were refused when the files were read.
        ordered(&self.marts).unwrap_or_default()
    }

    /// The jobs whose end may give a mart something new, without a trigger of its own: the transfers
    /// into the lake, and the tables that it stands on, through views too. Which tables a transfer
    /// carries is known at its source only; a refresh that finds nothing changed does nothing.
    pub fn jobs_before(&self, mart: &Mart) -> BTreeSet<String> {
        let (mut jobs, mut left) = (BTreeSet::new(), vec![mart]);
        while let Some(mart) = left.pop() {
            let stands_on_tables = mart.reads.iter().any(|read| {
                !mart.stands_on.iter().any(|below| self.marts.get(below).is_some_and(|below| below.is_named(read)))
            });
            if stands_on_tables {
                let into_lake = self.transfers.values().filter(|transfer| transfer.target == super::Target::Lake);
                jobs.extend(into_lake.map(|transfer| format!("transfer:{}", transfer.name)));
            }
            for below in mart.stands_on.iter().filter_map(|name| self.marts.get(name)) {
                match below.kind {
                    MartKind::Table => drop(jobs.insert(format!("mart:{}", below.name))),
                    MartKind::View => left.push(below),
                }
            }
        }
        jobs
    }
}
