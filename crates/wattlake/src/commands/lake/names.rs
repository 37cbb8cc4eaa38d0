//! Finds the tables that a command's argument names.

use anyhow::Result;
use jobs::warehouse::unknown;
use lake::{Lake, TableName};

use crate::report;

/// The tables of a name: `schema.table`, or `table` where only one schema has it. All tables without a name.
pub async fn tables(lake: &Lake, name: Option<&str>) -> Result<Vec<TableName>> {
    let all = lake.tables().await?;
    let Some(name) = name else { return Ok(all) };
    let found: Vec<TableName> = all.iter().filter(|t| t.to_string() == name || t.table == name).cloned().collect();
    match found.len() {
        0 => {
            let names: Vec<String> = all.iter().map(ToString::to_string).collect();
            Err(unknown("table", name, "the lake", &names))
        }
        1 => Ok(found),
        _ => {
            let names: Vec<String> = found.iter().map(ToString::to_string).collect();
            let hint = format!("write {}", names.join(" or "));
            Err(report::input(format!("several schemas have a table {name}"), hint))
        }
    }
}
