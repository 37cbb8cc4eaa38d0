//! The columns of a target's table, and how they follow the source's.

use tokio_postgres::Client;

use crate::error::{Context, Error, Result};
use crate::plan::TablePlan;
use crate::postgres::{literal, quote};

/// The target's table, quoted.
pub fn target(plan: &TablePlan) -> String {
    format!("{}.{}", quote(&plan.target.schema), quote(&plan.target.table))
}

/// Names in a list, quoted.
pub fn list(names: &[String]) -> String {
    names.iter().map(|name| quote(name)).collect::<Vec<_>>().join(", ")
}

/// The query for the names and types of the target's columns.
pub fn present_columns_sql(plan: &TablePlan) -> String {
    format!(
        "SELECT a.attname::text, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a \
         WHERE a.attrelid = to_regclass({}) AND a.attnum > 0 AND NOT a.attisdropped",
        literal(&target(plan))
    )
}

pub(super) async fn present_columns(client: &Client, plan: &TablePlan) -> Result<Vec<(String, String)>> {
    let rows = client.query(&present_columns_sql(plan), &[]).await.context("read the target's columns")?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// SQL that adapts the target's columns to the source's; empty where nothing has changed.
///
/// # Errors
/// Where a column's type has changed to one that can't hold all values of the earlier type.
pub fn alter(present: &[(String, String)], plan: &TablePlan) -> Result<String> {
    let target = target(plan);
    let mut statements = String::new();
    for column in &plan.columns {
        let (name, is) = (quote(&column.name), column.type_name.as_str());
        match present.iter().find(|(n, _)| *n == column.name) {
            None => match column.source.as_ref().and_then(|source| source.missing.as_ref()) {
                None => statements.push_str(&format!("ALTER TABLE {target} ADD COLUMN {name} {is}; ")),
                // Rows that are older than the column have this value at the source.
                Some(missing) => statements.push_str(&format!(
                    "ALTER TABLE {target} ADD COLUMN {name} {is} DEFAULT {}; ALTER TABLE {target} ALTER COLUMN \
                     {name} DROP DEFAULT; ",
                    literal(missing)
                )),
            },
            Some((_, was)) if was == is => {}
            Some((_, was)) if widens(was, is) => {
                statements.push_str(&format!("ALTER TABLE {target} ALTER COLUMN {name} TYPE {is}; "));
            }
            Some((_, was)) => {
                let context =
                    format!("carry {}: column {:?} was {was} and is {is} now", plan.source.display(), column.name);
                return Err(Error::input(context)
                    .hint(format!("change the column back, or replace the table: {}", plan.replace_command)));
            }
        }
    }
    Ok(statements)
}

/// Whether the type `is` of PostgreSQL has all values of the type `was`.
pub(super) fn widens(was: &str, is: &str) -> bool {
    let rank = |name: &str| ["smallint", "integer", "bigint", "numeric"].iter().position(|n| *n == name);
    let sized = |name: &str| -> Option<(String, Vec<i64>)> {
        let (base, rest) = name.split_once('(')?;
        let numbers = rest.trim_end_matches(')').split(',').map(|n| n.trim().parse().ok()).collect::<Option<_>>()?;
        Some((base.to_owned(), numbers))
    };
    match (rank(was), rank(is)) {
        (Some(was), Some(is)) => return is > was,
        _ if (was, is) == ("real", "double precision") => return true,
        _ => {}
    }
    match (sized(was), sized(is)) {
        (Some((a, from)), Some((b, to))) if a == b && from.len() == to.len() => {
            match (from.as_slice(), to.as_slice()) {
                ([p1, s1], [p2, s2]) => s2 >= s1 && p2 - s2 >= p1 - s1,
                ([n1], [n2]) => n2 >= n1,
                _ => false,
            }
        }
        (Some((base, _)), None) => {
            matches!((base.as_str(), is), ("numeric", "numeric") | ("character varying", "text" | "character varying"))
        }
        (None, None) => (was, is) == ("character varying", "text"),
        _ => false,
    }
}
