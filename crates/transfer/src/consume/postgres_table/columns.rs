//! The columns and the key of a table of another PostgreSQL.

use std::collections::BTreeMap;

use lake::TableName;
use stream::message::ColumnType;

use crate::error::Result;
use crate::postgres::wire::Wire;
use crate::postgres::{literal, quote};

/// The type of a column whose type at the source is not known.
pub(super) fn default_type(column_type: ColumnType) -> String {
    match column_type {
        ColumnType::Boolean => "boolean".to_owned(),
        ColumnType::Int(1 | 2) | ColumnType::Uint(1) => "smallint".to_owned(),
        ColumnType::Int(4) | ColumnType::Uint(2) => "integer".to_owned(),
        ColumnType::Int(_) | ColumnType::Uint(4) => "bigint".to_owned(),
        ColumnType::Uint(_) => "numeric(20)".to_owned(),
        ColumnType::Real4 => "real".to_owned(),
        ColumnType::Real8 => "double precision".to_owned(),
        ColumnType::Numeric(Some((precision, scale))) => format!("numeric({precision}, {scale})"),
        ColumnType::Numeric(None) => "numeric".to_owned(),
        ColumnType::Date => "date".to_owned(),
        ColumnType::Time => "time".to_owned(),
        ColumnType::Datetime => "timestamptz".to_owned(),
        ColumnType::Bytes(_) => "bytea".to_owned(),
        ColumnType::Text(_) => "text".to_owned(),
    }
}

/// The statement that gives a table another primary key, or none.
pub(super) fn rekeyed(wire: &mut Wire, target: &TableName, key: &[String]) -> Result<String> {
    let table = relation(target);
    let rows = wire.rows(&format!(
        "SELECT conname FROM pg_constraint WHERE conrelid = to_regclass({}) AND contype = 'p'",
        literal(&table)
    ))?;
    let dropped = rows.into_iter().flatten().flatten().map(|name| format!("DROP CONSTRAINT {}", quote(&name)));
    let added = (!key.is_empty()).then(|| format!("ADD PRIMARY KEY ({})", list(key)));
    let actions: Vec<String> = dropped.chain(added).collect();
    Ok(if actions.is_empty() { String::new() } else { format!("ALTER TABLE {table} {}", actions.join(", ")) })
}

/// The columns of a table with their types; none where there is no table.
pub(super) fn present(wire: &mut Wire, target: &TableName) -> Result<BTreeMap<String, String>> {
    let rows = wire.rows(&format!(
        "SELECT attname, format_type(atttypid, -1) FROM pg_attribute WHERE attrelid = to_regclass({}) \
         AND attnum > 0 AND NOT attisdropped",
        literal(&relation(target))
    ))?;
    Ok(rows.into_iter().filter_map(|row| Some((row.first()?.clone()?, row.get(1)?.clone()?))).collect())
}

/// The name of a table in statements.
pub(super) fn relation(target: &TableName) -> String {
    format!("{}.{}", quote(&target.schema), quote(&target.table))
}

/// Names of columns in statements.
pub(super) fn list(names: &[String]) -> String {
    names.iter().map(|name| quote(name)).collect::<Vec<_>>().join(", ")
}
