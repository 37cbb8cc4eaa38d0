//! The plan of a transfer, its tables and their columns, and the queries that read them.

use lake::TableName;

use crate::cursor::Cursor;
use crate::error::Error;
use crate::postgres::Table;
use crate::settings::OnNoCursor;
use crate::type_map::ColumnKind;

/// A column of a table in the target, and how its values are read at the source.
#[derive(Debug, Clone)]
pub struct PlanColumn {
    /// The name in the target.
    pub name: String,
    /// The SQL expression that is read for a target in the lake, its cast included.
    pub expression: String,
    /// How the values are decoded, and their type in the lake.
    pub kind: ColumnKind,
    /// The SQL expression that is read for a target in PostgreSQL, where most types need no cast.
    pub postgres_expression: String,
    /// The column's type in a target in PostgreSQL.
    pub type_name: String,
    /// The column of the source that the values come from; none where they are computed from something else.
    pub source: Option<SourceColumn>,
}

/// The column of the source that a column of the target is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceColumn {
    /// The name at the source.
    pub name: String,
    /// Its number in PostgreSQL's catalogue, which a renamed column keeps.
    pub number: i16,
    /// Its type, as PostgreSQL shows it.
    pub type_name: String,
    /// As [`crate::postgres::Column::missing`]; none where the target's value is computed from the column's.
    pub missing: Option<String>,
    /// The name in the plan, where the target keeps an earlier name; see [`crate::resume::keep_names`].
    pub planned_name: Option<String>,
}

/// The plan of one table.
#[derive(Debug, Clone)]
pub struct TablePlan {
    /// The table at the source.
    pub source: Table,
    /// The table's name in the target.
    pub target: TableName,
    /// The columns in the target, in their order.
    pub columns: Vec<PlanColumn>,
    /// The SQL condition on the rows to read, by the table mapping.
    pub filter: Option<String>,
    /// The target's columns that identify a row; empty where the table has no key.
    pub key: Vec<String>,
    /// Whether the source enforces that no two rows have the same key.
    pub is_key_enforced: bool,
    /// The columns by whose order INCREMENTAL reads the table.
    pub cursor: Option<Cursor>,
    /// Why the table has no cursor, where it has none.
    pub no_cursor_reason: Option<String>,
    /// What INCREMENTAL does with the table where it has no cursor.
    pub on_no_cursor: OnNoCursor,
    /// How far before the position each run starts: a number of ids, or microseconds, by the cursor's first column.
    pub overlap: i64,
    /// Tables with a greater number are transferred earlier.
    pub load_order: i64,
    /// For hints: the command that replaces the target's table by the source's.
    pub replace_command: String,
    /// For hints: the command that reads the table again and keeps the rows that the source no longer has.
    pub resync_command: String,
}

impl TablePlan {
    /// The query for a target in the lake that reads the rows of `from`, the table or a part of it, which fulfil the
    /// plan's filter and `condition`.
    pub fn select(&self, from: &str, condition: Option<&str>) -> String {
        let columns = self.columns.iter().map(|c| c.expression.as_str()).collect::<Vec<_>>();
        self.query(&columns, from, condition)
    }

    /// As [`TablePlan::select`], for a target in PostgreSQL.
    pub fn select_for_postgres(&self, from: &str, condition: Option<&str>) -> String {
        let columns = self.columns.iter().map(|c| c.postgres_expression.as_str()).collect::<Vec<_>>();
        self.query(&columns, from, condition)
    }

    fn query(&self, columns: &[&str], from: &str, condition: Option<&str>) -> String {
        let columns = columns.join(", ");
        let conditions: Vec<String> =
            self.filter.iter().map(String::as_str).chain(condition).map(|c| format!("({c})")).collect();
        let filter = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
        format!("SELECT {columns} FROM {from}{filter}")
    }

    /// The columns of [`TablePlan::select`]: their names and how their values are decoded.
    pub fn column_kinds(&self) -> Vec<(String, ColumnKind)> {
        self.columns.iter().map(|c| (c.name.clone(), c.kind.clone())).collect()
    }

    /// The indices of the key's columns in [`TablePlan::columns`].
    pub fn key_positions(&self) -> Vec<usize> {
        self.key.iter().filter_map(|key| self.columns.iter().position(|c| c.name == *key)).collect()
    }

    /// The OIDs of the table, of its partitions and of the tables that inherit from it.
    pub fn relations(&self) -> impl Iterator<Item = u32> {
        self.source.relations()
    }
}

/// A table that can't be transferred. The transfer's other tables are not affected.
#[derive(Debug)]
pub struct RefusedTable {
    /// The table at the source, as `schema.table`.
    pub table: String,
    /// Why it is refused.
    pub error: Error,
}

/// The plan of a transfer.
#[derive(Debug, Default)]
pub struct TransferPlan {
    /// The tables to transfer, in the order in which they begin.
    pub tables: Vec<TablePlan>,
    /// The tables that are refused.
    pub refused: Vec<RefusedTable>,
    /// The names in `exclude` that no table of the source has.
    pub unmatched: Vec<String>,
}
