//! Words that the prompt of `wattlake sql` completes.

use std::collections::BTreeSet;

use crate::error::Result;
use crate::session::Session;
use crate::system;

/// The keywords of queries. The parser knows many more, of all dialects, which would hide these in completions.
const KEYWORDS: &[&str] = &[
    "ALL",
    "AND",
    "AS",
    "AS OF",
    "ASC",
    "BETWEEN",
    "BY",
    "CASE",
    "CAST",
    "CROSS JOIN",
    "DESC",
    "DESCRIBE",
    "DISTINCT",
    "ELSE",
    "END",
    "EXCEPT",
    "EXISTS",
    "EXPLAIN",
    "EXPLAIN ANALYZE",
    "EXTRACT",
    "FALSE",
    "FILTER",
    "FOR SYSTEM_TIME AS OF",
    "FROM",
    "FULL JOIN",
    "GROUP BY",
    "HAVING",
    "ILIKE",
    "IN",
    "INNER JOIN",
    "INTERSECT",
    "INTERVAL",
    "IS NOT NULL",
    "IS NULL",
    "JOIN",
    "LEFT JOIN",
    "LIKE",
    "LIMIT",
    "NOT",
    "NULL",
    "NULLS FIRST",
    "NULLS LAST",
    "OFFSET",
    "ON",
    "OR",
    "ORDER BY",
    "OVER",
    "PARTITION BY",
    "RIGHT JOIN",
    "SELECT",
    "SET",
    "SHOW",
    "SHOW COLUMNS FROM",
    "SHOW TABLES",
    "THEN",
    "TIMESTAMP AS OF",
    "TRUE",
    "UNION",
    "UNION ALL",
    "USING",
    "VALUES",
    "VERSION AS OF",
    "WHEN",
    "WHERE",
    "WINDOW",
    "WITH",
];

impl Session {
    /// Keywords, schemas, tables, columns and functions, sorted. It opens every table to read its columns, so it is
    /// meant to be called once, when a prompt starts.
    ///
    /// # Errors
    /// Where the lake can't be listed, or a table can't be opened.
    pub async fn completions(&self) -> Result<Vec<String>> {
        let mut words: BTreeSet<String> = KEYWORDS.iter().map(|&word| word.to_owned()).collect();
        let snapshot = self.snapshot();
        for name in snapshot.names().await? {
            words.extend([name.schema.clone(), name.table.clone(), name.to_string()]);
        }
        for table in snapshot.all().await? {
            if let Ok(schema) = table.schema() {
                words.extend(schema.fields().iter().map(|field| field.name().clone()));
            }
        }
        words.extend(system::names(self.system.as_ref()).iter().map(|name| format!("{}.{name}", system::SCHEMA)));
        words.extend([system::SCHEMA, crate::schemas::INFORMATION_SCHEMA].map(str::to_owned));
        let state = self.context.state();
        words.extend(state.scalar_functions().keys().cloned());
        words.extend(state.aggregate_functions().keys().cloned());
        words.extend(state.window_functions().keys().cloned());
        words.extend(state.table_functions().keys().cloned());
        Ok(words.into_iter().collect())
    }
}
