//! Checks of a plan: what would fail during a transfer is refused before any row is read.

use std::collections::BTreeMap;

use base::suggestion;

use super::transfer_plan::{TablePlan, TransferPlan};
use crate::destination::deleted_rows::check_markable;
use crate::error::{Error, Result};
use crate::postgres::{TableKind, quote};
use crate::settings::{Mode, OnNoCursor, Settings};

/// The schema of the system tables in SQL, where a table of the lake could not be queried.
const SYSTEM_SCHEMA: &str = "system";

fn check_readable(plan: &TablePlan, user: &str) -> Result<()> {
    let (table, user) = (&plan.source, quote(user));
    let denied = |columns: &str| {
        Err(Error::setup(format!("read {}{columns}: permission denied", table.display())).hint(format!(
            "GRANT USAGE ON SCHEMA {} TO {user}; GRANT SELECT ON {} TO {user};",
            quote(&table.schema),
            table.qualified()
        )))
    };
    if !table.readable {
        return denied("");
    }
    let columns = plan.columns.iter().filter_map(|column| column.source.as_ref());
    let is_denied = |name: &str| table.columns.iter().any(|column| column.name == name && !column.readable);
    match columns.map(|column| &column.name).find(|name| is_denied(name)) {
        Some(name) => denied(&format!(", column {name:?}")),
        None => Ok(()),
    }
}

/// Returns the plan where the table can be transferred.
///
/// # Errors
/// With a hint: where `user` may not read the table, its columns or its target's name can't be used, its settings name
/// a column that does not exist, or INCREMENTAL requires a cursor and the table has none.
pub fn check_table(plan: TablePlan, settings: &Settings, user: &str) -> Result<TablePlan> {
    let table = plan.source.display();
    check_readable(&plan, user)?;
    if plan.target.schema == SYSTEM_SCHEMA {
        let context =
            format!("carry {table}: the schema {SYSTEM_SCHEMA:?} of the target is reserved for the system tables");
        return Err(Error::setup(context).hint("set into = \"another_schema\" for the transfer"));
    }
    if plan.columns.is_empty() {
        return Err(
            Error::input(format!("carry {table}: it has no columns")).hint("exclude the table from the transfer")
        );
    }
    let mut seen = BTreeMap::new();
    for column in &plan.columns {
        if let Some(other) = seen.insert(column.name.to_lowercase(), &column.name) {
            let context = format!("carry {table}: columns {other:?} and {:?} differ by case only", column.name);
            return Err(Error::input(context).hint("rename one of them with a table mapping"));
        }
    }
    let own = settings.tables.get(&table);
    if let Some(name) = own.and_then(|own| own.columns.keys().find(|n| !plan.columns.iter().any(|c| c.name == **n))) {
        let known: Vec<&str> = plan.columns.iter().map(|column| column.name.as_str()).collect();
        let error = Error::setup(format!("plan {table}: there is no column {name:?}, which its settings name"));
        return Err(error.hint(suggestion("column", name, &known).unwrap_or_default()));
    }
    if settings.mode == Mode::Incremental
        && plan.on_no_cursor == OnNoCursor::Error
        && let Some(reason) = &plan.no_cursor_reason
    {
        return Err(Error::setup(format!("carry {table} incrementally: {reason}")).hint(format!(
            "[tables.{table:?}] cursor = \"...\" (and key = [...] where the table declares none), \
             or on_no_cursor = \"reload\" to read it whole each time"
        )));
    }
    if settings.marks_deleted() {
        check_markable(&table, &plan.key, plan.columns.iter().map(|column| column.name.clone()))?;
    }
    if plan.cursor.is_some() && plan.source.kind == TableKind::Foreign {
        tracing::warn!(%table, "a foreign table has no transaction ids: late rows are found by the overlap only");
    }
    Ok(plan)
}

/// Refuses a plan in which two tables have the same name in the target.
pub fn check_distinct_targets(plan: &TransferPlan, has_history: bool) -> Result<()> {
    let mut seen = BTreeMap::new();
    for table in &plan.tables {
        if let Some(other) = seen.insert(&table.target, table.source.display()) {
            let context = format!("{other} and {} would both become {}", table.source.display(), table.target);
            return Err(Error::setup(context).hint("remove `into`, or rename one of them with a table mapping"));
        }
    }
    let history = |table: &&crate::plan::TablePlan| has_history && seen.contains_key(&table.target.history());
    if let Some(table) = plan.tables.iter().find(history) {
        let name = table.target.history();
        let context = format!("{} would become {name}, which is the history of {}", seen[&name], table.target);
        return Err(Error::setup(context).hint("exclude it, or rename it with a table mapping"));
    }
    Ok(())
}
