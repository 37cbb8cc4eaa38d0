//! What a role may read: tables by pattern, and of some tables only the rows that a predicate
//! lets through. A role decides nothing about how its user proves who he is: that is the crate `wire`'s.

use std::collections::BTreeMap;
use std::fmt;

use lake::TableName;

use crate::error::{Error, Kind, Refusal};

/// A user of the lake. A session without a role reads everything.
#[derive(Debug, Clone, Default)]
pub struct Role {
    pub name: String,
    /// Patterns over `schema.table`: `*` any run of characters, `?` one. Every table where it is empty.
    pub tables: Vec<String>,
    /// By `schema.table`: a SQL predicate over the table's columns.
    pub filters: BTreeMap<String, String>,
    /// May read `system.*`, and see and cancel the queries of others.
    pub system: bool,
}

impl Role {
    pub fn reads(&self, table: &TableName) -> bool {
        let name = table.to_string();
        self.tables.is_empty() || self.tables.iter().any(|pattern| matches(pattern.as_bytes(), name.as_bytes()))
    }

    pub fn filter(&self, table: &TableName) -> Option<&str> {
        self.filters.get(&table.to_string()).map(String::as_str)
    }

    pub fn denied(&self, what: impl fmt::Display) -> Error {
        let role = &self.name;
        let what = what.to_string();
        let hint = if what.starts_with("system.") {
            format!("`system = true` of [roles.{role}] in wattlake.toml lets a role read system tables")
        } else {
            format!(
                "role {role:?} has no right to it: `tables` of [roles.{role}] in wattlake.toml says which it may read"
            )
        };
        Error::new(Kind::FixInput, format!("read {what}")).because(Refusal::Denied { what, hint })
    }
}

/// Iterative, so that no pattern takes more than pattern times name steps.
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
    fn a_role_without_patterns_reads_all() {
        assert!(Role::default().reads(&TableName::new("a", "b")));
        let role = Role { tables: vec!["x.*".into()], ..Role::default() };
        assert!(!role.reads(&TableName::new("a", "b")));
    }
}
