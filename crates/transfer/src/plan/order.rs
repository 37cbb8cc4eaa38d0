//! The choice of a table's cursor, the columns that order its changes, and how far before the position each run starts.

use std::time::Duration;

use base::suggestion;

use super::transfer_plan::{PlanColumn, TablePlan};
use crate::cursor::{Cursor, CursorColumn, CursorKind, TRANSACTION};
use crate::error::{Error, Result};
use crate::postgres::{Sequence, Table, TableKind};
use crate::settings::{Overlap, Settings, TableSettings};
use crate::type_map::ColumnKind;

/// The cursor of the settings, or else the key where it is a single integer. The error is the reason why there is none.
pub fn choose_cursor(
    table: &Table,
    plan: &TablePlan,
    names: &[(String, String)],
    own: &TableSettings,
) -> Result<Cursor, String> {
    let columns = match (own.cursor.as_slice(), table.key.as_slice()) {
        ([], [single]) => vec![single.clone()],
        ([], []) => return Err("it has no key, and no cursor is set for it".into()),
        ([], _) => return Err("its key has several columns, and no cursor is set for it".into()),
        (columns, _) => columns.to_vec(),
    };
    if columns == [TRANSACTION] {
        return by_transaction(table);
    }
    let chosen =
        columns.iter().map(|column| by_column(table, plan, names, own, column)).collect::<Result<Vec<_>, _>>()?;
    if own.cursor.is_empty() && chosen.iter().any(|column| column.kind != CursorKind::Integer) {
        let column = &chosen[0];
        return Err(format!("its key {:?} is a {}, and no cursor is set for it", column.column, column.type_name));
    }
    if plan.key.is_empty() {
        return Err("it has no key by which a row that is read again could be recognized".into());
    }
    let is_integer = chosen.iter().all(|column| column.kind == CursorKind::Integer);
    let is_key = chosen.len() == 1 && plan.is_key_enforced && plan.key == [chosen[0].name.clone()] && is_integer;
    Ok(Cursor { columns: chosen, is_key })
}

/// The system column `xmin`, the transaction that wrote the row. No column of the table is needed, but each run reads
/// the whole table.
fn by_transaction(table: &Table) -> Result<Cursor, String> {
    let has_rows = table.leaves.iter().all(|leaf| leaf.has_pages) && !table.is_view();
    if !has_rows || table.kind == TableKind::Foreign {
        return Err("its cursor is \"xmin\", and a view or a foreign table has none".into());
    }
    let column = CursorColumn {
        column: TRANSACTION.into(),
        name: String::new(),
        kind: CursorKind::Transaction,
        type_name: "xid".into(),
        nullable: false,
        sequence: None,
    };
    Ok(Cursor { columns: vec![column], is_key: false })
}

fn by_column(
    table: &Table,
    plan: &TablePlan,
    names: &[(String, String)],
    own: &TableSettings,
    column: &str,
) -> Result<CursorColumn, String> {
    let Some(source) = table.columns.iter().find(|c| c.name == column) else {
        let known: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
        let hint = suggestion("column", column, &known).unwrap_or_default();
        return Err(format!("its cursor {column:?} is not a column; {hint}"));
    };
    let Some((_, name)) = names.iter().find(|(from, _)| from == column) else {
        return Err(format!("its cursor {column:?} is not carried"));
    };
    // By the type in the target: a number that is carried as text has another order.
    let kind = plan.columns.iter().find(|c| c.name == *name).and_then(kind_of);
    let Some(kind) = kind else {
        if own.columns.contains_key(column) {
            return Err(format!("its cursor {column:?} is carried as a type whose order can't be used"));
        }
        let what =
            "a cursor is an integer, a numeric, a date, a timestamp, a uuid of version 7 or a text that sorts by time";
        return Err(format!("{column:?} is a {}, and {what}", source.type_name));
    };
    let nullable = source.nullable || table.is_view() || table.kind == TableKind::Foreign;
    let gives = |sequence: &Sequence| sequence.grows && sequence.readable && kind == CursorKind::Integer;
    let sequence = source.sequence.filter(gives).map(|sequence| sequence.oid);
    Ok(CursorColumn {
        column: column.to_owned(),
        name: name.clone(),
        kind,
        type_name: source.type_name.clone(),
        nullable,
        sequence,
    })
}

fn kind_of(column: &PlanColumn) -> Option<CursorKind> {
    let is_text = ["text", "character varying", "character"].iter().any(|name| column.type_name.starts_with(name));
    Some(match &column.kind {
        ColumnKind::I16 | ColumnKind::I32 | ColumnKind::I64 => CursorKind::Integer,
        ColumnKind::Decimal { .. } | ColumnKind::NumericText => CursorKind::Numeric,
        ColumnKind::Date => CursorKind::Date,
        ColumnKind::Timestamp { utc } => CursorKind::Instant { utc: *utc },
        ColumnKind::Uuid => CursorKind::Uuid,
        ColumnKind::Text
            if is_text && column.source.as_ref().is_some_and(|source| source.type_name == column.type_name) =>
        {
            CursorKind::Text
        }
        _ => return None,
    })
}

/// The table's overlap in the unit of the cursor's first column: a number of ids, or microseconds.
pub fn overlap(cursor: &Cursor, own: &TableSettings, settings: &Settings) -> Result<i64> {
    let micros = |time: Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
    let Some(column) = cursor.columns.first() else { return Ok(0) };
    let is_time = !matches!(column.kind, CursorKind::Integer | CursorKind::Numeric | CursorKind::Transaction);
    match own.overlap {
        None if is_time => Ok(micros(settings.overlap)),
        None => Ok(0),
        Some(_) if column.kind == CursorKind::Transaction => {
            Err(Error::setup("set an overlap for the cursor \"xmin\", which is exact").hint("remove the overlap"))
        }
        Some(Overlap::Ids(ids)) if !is_time => Ok(i64::try_from(ids).unwrap_or(i64::MAX)),
        Some(Overlap::Time(time)) if is_time => Ok(micros(time)),
        Some(Overlap::Time(_)) => {
            Err(Error::setup(format!("the overlap of {:?} is a time, and the cursor a number", column.column))
                .hint("give the overlap as a number of ids"))
        }
        Some(Overlap::Ids(_)) => {
            Err(Error::setup(format!("the overlap of {:?} is a number, and the cursor a time", column.column))
                .hint("give the overlap as a duration such as \"10min\""))
        }
    }
}
