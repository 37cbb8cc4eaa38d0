//! Answers queries about things that the lake does not have: indexes, constraints, triggers, policies. A
//! query that joins such a table returns no rows, so it is not planned: clients write these queries
//! with much that the engine does not support.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, Function, GroupByExpr, Ident, JoinOperator, ObjectName, Query, Select, SelectItem, SetExpr, Statement,
    TableFactor, TableWithJoins, Value, ValueWithSpan, Visit, Visitor,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

/// Tables of the catalogue that never contain an entry of the lake.
const EMPTY_RELATIONS: [&str; 46] = [
    "pg_attrdef",
    "pg_constraint",
    "pg_db_role_setting",
    "pg_default_acl",
    "pg_depend",
    "pg_enum",
    "pg_event_trigger",
    "pg_foreign_data_wrapper",
    "pg_foreign_server",
    "pg_foreign_table",
    "pg_index",
    "pg_indexes",
    "pg_inherits",
    "pg_largeobject_metadata",
    "pg_matviews",
    "pg_parameter_acl",
    "pg_partitioned_table",
    "pg_policies",
    "pg_policy",
    "pg_publication",
    "pg_publication_namespace",
    "pg_publication_rel",
    "pg_replication_slots",
    "pg_rewrite",
    "pg_rules",
    "pg_seclabel",
    "pg_sequence",
    "pg_sequences",
    "pg_shdepend",
    "pg_shseclabel",
    "pg_statistic_ext",
    "pg_statistic_ext_data",
    "pg_subscription",
    "pg_subscription_rel",
    "pg_transform",
    "pg_trigger",
    "pg_user_mapping",
    "check_constraints",
    "constraint_column_usage",
    "element_types",
    "key_column_usage",
    "referential_constraints",
    "routines",
    "sequences",
    "table_constraints",
    "triggers",
];
/// The aggregates that clients use in catalogue queries.
pub(crate) const AGGREGATES: [&str; 10] =
    ["count", "sum", "min", "max", "avg", "array_agg", "string_agg", "bool_and", "bool_or", "json_agg"];

/// If a query cannot return a row, another query with the same columns and parameters that returns none.
pub(crate) fn without_rows(statement: &Statement) -> Option<Statement> {
    let Statement::Query(query) = statement else { return None };
    if !has_no_rows(query) {
        return None;
    }
    let columns: Vec<String> = column_names(&query.body)?.iter().map(|name| format!("NULL::text AS {name}")).collect();
    let parameters: String =
        (1..=parameter_count(query)).map(|number| format!(" AND ${number}::text IS NULL")).collect();
    let sql = format!("SELECT {} WHERE false{parameters}", columns.join(", "));
    Parser::parse_sql(&PostgreSqlDialect {}, &sql).ok()?.pop()
}

/// The highest number of a parameter in the query; clients bind values to them also when there are no rows.
fn parameter_count(query: &Query) -> usize {
    struct Find(usize);
    impl Visitor for Find {
        type Break = ();

        fn pre_visit_value(&mut self, value: &ValueWithSpan) -> ControlFlow<()> {
            if let Value::Placeholder(name) = &value.value {
                self.0 = self.0.max(name.trim_start_matches('$').parse().unwrap_or(0));
            }
            ControlFlow::Continue(())
        }
    }
    let mut find = Find(0);
    let _ = query.visit(&mut find);
    find.0
}

/// The constant value of a scalar subquery or EXISTS whose query cannot return a row.
pub(crate) fn constant_value(expr: &Expr) -> Option<Expr> {
    let value = |value| Expr::Value(sqlparser::ast::Value::with_empty_span(value));
    match expr {
        Expr::Subquery(query) if has_no_rows(query) => Some(value(Value::Null)),
        Expr::Exists { subquery, negated } if has_no_rows(subquery) => Some(value(Value::Boolean(*negated))),
        _ => None,
    }
}

/// Whether a query cannot return a row, because it joins a table that is always empty.
pub(crate) fn has_no_rows(query: &Query) -> bool {
    // A name of WITH may hide a table of the catalogue, so such queries are left to the engine.
    query.with.is_none() && body_has_no_rows(&query.body)
}

fn body_has_no_rows(body: &SetExpr) -> bool {
    match body {
        SetExpr::Select(select) => select_has_no_rows(select),
        SetExpr::Query(query) => has_no_rows(query),
        SetExpr::SetOperation { left, right, .. } => body_has_no_rows(left) && body_has_no_rows(right),
        _ => false,
    }
}

fn select_has_no_rows(select: &Select) -> bool {
    let grouped = !matches!(&select.group_by, GroupByExpr::Expressions(by, _) if by.is_empty());
    select.from.iter().any(join_has_no_rows) && (grouped || !has_aggregate(select))
}

fn join_has_no_rows(joined: &TableWithJoins) -> bool {
    use JoinOperator as Join;
    let mut empty = factor_has_no_rows(&joined.relation);
    for join in &joined.joins {
        match join.join_operator {
            Join::Join(_) | Join::Inner(_) | Join::CrossJoin(_) => empty |= factor_has_no_rows(&join.relation),
            Join::Left(_) | Join::LeftOuter(_) => {}
            _ => return false,
        }
    }
    empty
}

fn factor_has_no_rows(factor: &TableFactor) -> bool {
    match factor {
        TableFactor::Table { name, args: None, .. } => {
            let last = name.0.last().and_then(|part| part.as_ident()).map(|ident| ident.value.to_lowercase());
            is_catalogue(name) && last.is_some_and(|name| EMPTY_RELATIONS.contains(&name.as_str()))
        }
        TableFactor::Derived { subquery, .. } => has_no_rows(subquery),
        TableFactor::NestedJoin { table_with_joins, .. } => join_has_no_rows(table_with_joins),
        _ => false,
    }
}

/// Whether a name is qualified with a schema of the catalogue, or starts with `pg_`.
fn is_catalogue(name: &ObjectName) -> bool {
    match &name.0[..] {
        [only] => only.as_ident().is_some_and(|ident| ident.value.to_lowercase().starts_with("pg_")),
        [.., schema, _] => schema.as_ident().is_some_and(|ident| {
            ["pg_catalog", "information_schema"].iter().any(|known| ident.value.eq_ignore_ascii_case(known))
        }),
        [] => false,
    }
}

fn has_aggregate(select: &Select) -> bool {
    struct Find;
    impl Visitor for Find {
        type Break = ();

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            if let Expr::Function(Function { name, over: None, .. }) = expr
                && let Some(name) = name.0.last().and_then(|part| part.as_ident())
                && AGGREGATES.contains(&name.value.to_lowercase().as_str())
            {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        }
    }
    select.projection.visit(&mut Find).is_break()
}

/// The names of a query's columns; `None` if it lists none.
fn column_names(body: &SetExpr) -> Option<Vec<Ident>> {
    let select = match body {
        SetExpr::Select(select) => select,
        SetExpr::Query(query) => return column_names(&query.body),
        SetExpr::SetOperation { left, .. } => return column_names(left),
        _ => return None,
    };
    let mut found: Vec<Ident> = Vec::new();
    for item in &select.projection {
        let name = match item {
            SelectItem::ExprWithAlias { alias, .. } => alias.value.clone(),
            SelectItem::UnnamedExpr(expr) => sql::frontend::names::name_of(expr),
            _ => continue,
        };
        let taken = found.iter().any(|known| known.value == name);
        let name = if taken { sql::frontend::names::made_unique(&name, found.len()) } else { name };
        found.push(Ident::with_quote('"', name));
    }
    (!found.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::without_rows;
    use sqlparser::dialect::PostgreSqlDialect;
    use sqlparser::parser::Parser;

    fn answer(sql: &str) -> Option<String> {
        let statement = Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap().remove(0);
        without_rows(&statement).map(|statement| statement.to_string())
    }

    #[test]
    fn a_join_with_an_empty_relation_has_no_rows() {
        let nothing = Some("SELECT NULL::TEXT AS \"a\", NULL::TEXT AS \"relname\" WHERE false".to_owned());
        for sql in [
            "SELECT i.x AS a, relname FROM pg_index i, pg_class c",
            "SELECT 1 AS a, relname FROM pg_class c JOIN pg_catalog.pg_constraint k ON true",
            "SELECT t.x AS a, relname FROM (SELECT x FROM pg_trigger) t CROSS JOIN pg_class",
            "SELECT a, relname FROM pg_policy LEFT JOIN pg_class ON true",
        ] {
            assert_eq!(answer(sql), nothing, "{sql}");
        }
        let given = answer("SELECT a FROM pg_index WHERE x = $2 OR y = $1").unwrap();
        assert!(given.contains("$1::TEXT IS NULL AND $2::TEXT IS NULL"), "{given}");
        for sql in [
            "SELECT relname FROM pg_class LEFT JOIN pg_index ON true",
            "SELECT count(*) FROM pg_index",
            "SELECT a FROM platform.pg_index",
            "SELECT a FROM triggers",
            "SELECT 1",
            "SELECT a FROM pg_index UNION SELECT b FROM pg_class",
        ] {
            assert_eq!(answer(sql), None, "{sql}");
        }
    }
}
