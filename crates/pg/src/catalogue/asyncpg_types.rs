//! asyncpg reads types that it does not know with one recursive query: arrays and their elements,
//! domains, ranges and attributes. Here all types are built in and no element is an array itself, so
//! two steps without recursion give the same rows.

use std::ops::ControlFlow;

use sqlparser::ast::{Cte, Expr, Statement, visit_expressions};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

/// The name of the recursive query in asyncpg's statement.
const QUERY_NAME: &str = "typeinfo_tree";

/// Elements come before their arrays. The last column of each kind has no value here.
const QUERY: &str = "
SELECT * FROM (
    SELECT t.oid AS oid, 'pg_catalog' AS ns, t.typname AS name, t.typtype AS kind, CAST(NULL AS INT) AS basetype,
        e.oid AS elemtype, ',' AS elemdelim, CAST(NULL AS INT) AS range_subtype, CAST(NULL AS TEXT) AS attrtypoids,
        CAST(NULL AS TEXT) AS attrnames, 0 AS depth, CAST(NULL AS TEXT) AS basetype_name,
        e.typname AS elemtype_name, CAST(NULL AS TEXT) AS range_subtype_name
    FROM pg_catalog.pg_type AS t LEFT JOIN pg_catalog.pg_type AS e ON e.oid = t.typelem AND t.typlen = -1
    WHERE t.oid = any({types}::int[])
    UNION ALL
    SELECT e.oid, 'pg_catalog', e.typname, e.typtype, NULL, NULL, ',', NULL, NULL, NULL, 1, NULL, NULL, NULL
    FROM pg_catalog.pg_type AS t JOIN pg_catalog.pg_type AS e ON e.oid = t.typelem AND t.typlen = -1
    WHERE t.oid = any({types}::int[])
) AS types ORDER BY depth DESC";

/// An equivalent of asyncpg's query without recursion; `None` for other statements.
pub(crate) fn short_types_query(statement: &Statement) -> Option<Statement> {
    let Statement::Query(query) = statement else { return None };
    let named = |cte: &Cte| cte.alias.name.value == QUERY_NAME;
    query.with.as_ref().filter(|with| with.recursive && with.cte_tables.iter().any(named))?;
    let sql = QUERY.replace("{types}", &requested_types(statement)?);
    Parser::parse_sql(&PostgreSqlDialect {}, &sql).ok()?.pop()
}

/// The requested types: what is in the first `any(...::oid[])`.
fn requested_types(statement: &Statement) -> Option<String> {
    let mut found = None;
    let _ = visit_expressions(statement, |expr| match expr {
        Expr::AnyOp { right, .. } => {
            let inner = match right.as_ref() {
                Expr::Cast { expr, .. } => expr,
                _ => right,
            };
            found = Some(inner.to_string());
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    });
    found
}
