//! What a role may read: the tables that match its patterns, and of some tables only the rows that meet a predicate.
//! The authentication of its user is the business of the crate `pg`.

use std::collections::BTreeMap;
use std::fmt;

use datafusion::arrow::datatypes::{DataType, Field, Schema};
use lake::TableName;

use crate::error::{Error, Kind, Refusal};

/// The rights of a user of the SQL server. A session without a role may read everything.
#[derive(Debug, Clone, Default)]
pub struct Role {
    /// The user's name, as in `[roles.NAME]` of `wattlake.toml`.
    pub name: String,
    /// Patterns for `schema.table`: `*` matches any characters, `?` one. Without any, the role may read every table.
    pub tables: Vec<String>,
    /// The row filters, by `schema.table`: SQL conditions over the table's columns.
    pub filters: BTreeMap<String, String>,
    /// The row filters of tables without one of their own, by their columns; the first one that applies counts. With
    /// any of them, views can't read `system.*` either, whose rows have no such columns.
    pub column_filters: Vec<ColumnFilter>,
    /// Whether the role may read `system.*`, and see and cancel the queries of others.
    pub system: bool,
}

/// A row filter of all tables that have a column of some name, and a timestamp of another one.
#[derive(Debug, Clone)]
pub struct ColumnFilter {
    /// The name of the one column.
    pub column: String,
    /// The name of the timestamp.
    pub timestamp: String,
    /// The condition that the table's rows must meet.
    pub condition: String,
}

impl ColumnFilter {
    fn applies_to(&self, schema: &Schema) -> bool {
        let is_timestamp = |field: &Field| matches!(field.data_type(), DataType::Timestamp(..));
        schema.field_with_name(&self.column).is_ok() && schema.field_with_name(&self.timestamp).is_ok_and(is_timestamp)
    }
}

impl Role {
    /// Whether the role may read a table. `system.*` is not decided here, but by [`Role::system`].
    pub fn may_read(&self, table: &TableName) -> bool {
        let name = table.to_string();
        self.tables.is_empty() || self.tables.iter().any(|pattern| matches(pattern.as_bytes(), name.as_bytes()))
    }

    /// The condition that the rows of a table must meet for the role to see them; `None` where it sees all of them.
    /// `schema` has the columns of a table, and is not given of a view, whose tables are filtered below it.
    pub fn row_filter(&self, table: &TableName, schema: Option<&Schema>) -> Option<&str> {
        let named = |table: &TableName| self.filters.get(&table.to_string()).map(String::as_str);
        let by_columns = || {
            let filter =
                self.column_filters.iter().find(|filter| schema.is_some_and(|schema| filter.applies_to(schema)))?;
            Some(filter.condition.as_str())
        };
        // The history of a table has the columns of its filter.
        named(table).or_else(|| named(&table.without_history()?)).or_else(by_columns)
    }

    /// The role of a view's author, who may read every table, but of each only the rows that this role may see.
    pub(crate) fn author(&self) -> Role {
        Role { tables: Vec::new(), system: self.column_filters.is_empty(), ..self.clone() }
    }

    /// The error for a table, `what`, that the role may not read.
    pub fn denied_error(&self, what: impl fmt::Display) -> Error {
        let role = &self.name;
        let what = what.to_string();
        let hint = if what.starts_with("system.") && !self.column_filters.is_empty() {
            "rows of system tables can't be filtered, so this query can't read them".to_owned()
        } else if what.starts_with("system.") {
            format!("set `system = true` in [roles.{role}] of wattlake.toml to let the role read system tables")
        } else {
            format!("role {role:?} may not read it; `tables` in [roles.{role}] of wattlake.toml lists what it may read")
        };
        Error::new(Kind::FixInput, format!("read {what}")).because(Refusal::Denied { what, hint })
    }
}

/// Whether a name matches a pattern. A loop, so that no pattern takes more steps than its length times the name's.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(b'?') => {
                p += 1;
                n += 1;
            }
            Some(&byte) if byte == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    n = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::{Role, matches};
    use lake::TableName;

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("platform.*", "platform.sites", true),
            ("platform.*", "platforms.sites", false),
            ("*.sites", "platform.sites", true),
            ("p?atform.s*s", "platform.sites", true),
            ("platform.sites", "platform.sites__history", false),
            ("*", "a.b", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_role_without_patterns_may_read_all() {
        assert!(Role::default().may_read(&TableName::new("a", "b")));
        let role = Role { tables: vec!["x.*".into()], ..Role::default() };
        assert!(!role.may_read(&TableName::new("a", "b")));
    }
}
