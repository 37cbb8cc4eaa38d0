//! Queries about what the lake has none of: indexes, constraints, triggers, policies. A query that
//! joins such a table to anything gives no rows, and is answered so without being planned: tools
//! write them with much that the engine does not know.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, Function, GroupByExpr, Ident, JoinOperator, ObjectName, Query, Select, SelectItem, SetExpr, Statement,
    TableFactor, TableWithJoins, Value, ValueWithSpan, Visit, Visitor,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

/// Tables that have no row that is the lake's, and never will.
const EMPTY: [&str; 46] = [
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
pub(crate) const AGGREGATES: [&str; 10] =
    ["count", "sum", "min", "max", "avg", "array_agg", "string_agg", "bool_and", "bool_or", "json_agg"];

/// The statement's columns without a row, where it can't have one.
pub(crate) fn answered(statement: &Statement) -> Option<Statement> {
    let Statement::Query(query) = statement else { return None };
    if !is_empty(query) {
        return None;
    }
    let columns: Vec<String> = names(&query.body)?.iter().map(|name| format!("NULL::text AS {name}")).collect();
    let parameters: String = (1..=parameters(query)).map(|number| format!(" AND ${number}::text IS NULL")).collect();
    let sql = format!("SELECT {} WHERE false{parameters}", columns.join(", "));
    Parser::parse_sql(&PostgreSqlDialect {}, &sql).ok()?.pop()
}

/// The highest number of one: clients give their values all the same.
fn parameters(query: &Query) -> usize {
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

/// An expression that asks such a query, as what it then is.
pub(crate) fn valued(expr: &Expr) -> Option<Expr> {
    let value = |value| Expr::Value(sqlparser::ast::Value::with_empty_span(value));
    match expr {
        Expr::Subquery(query) if is_empty(query) => Some(value(Value::Null)),
        Expr::Exists { subquery, negated } if is_empty(subquery) => Some(value(Value::Boolean(*negated))),
        _ => None,
    }
}

pub(crate) fn is_empty(query: &Query) -> bool {
    // What a name of WITH stands for is not looked into.
    query.with.is_none() && body_is_empty(&query.body)
}

fn body_is_empty(body: &SetExpr) -> bool {
    match body {
        SetExpr::Select(select) => select_is_empty(select),
        SetExpr::Query(query) => is_empty(query),
        SetExpr::SetOperation { left, right, .. } => body_is_empty(left) && body_is_empty(right),
        _ => false,
    }
}

fn select_is_empty(select: &Select) -> bool {
    let grouped = !matches!(&select.group_by, GroupByExpr::Expressions(by, _) if by.is_empty());
    select.from.iter().any(join_is_empty) && (grouped || !has_aggregate(select))
}

fn join_is_empty(joined: &TableWithJoins) -> bool {
    use JoinOperator as Join;
    let mut empty = factor_is_empty(&joined.relation);
    for join in &joined.joins {
        match join.join_operator {
            Join::Join(_) | Join::Inner(_) | Join::CrossJoin(_) => empty |= factor_is_empty(&join.relation),
            Join::Left(_) | Join::LeftOuter(_) => {}
            _ => return false,
        }
    }
    empty
}

fn factor_is_empty(factor: &TableFactor) -> bool {
    match factor {
        TableFactor::Table { name, args: None, .. } => {
            let last = name.0.last().and_then(|part| part.as_ident()).map(|ident| ident.value.to_lowercase());
            is_catalogue(name) && last.is_some_and(|name| EMPTY.contains(&name.as_str()))
        }
        TableFactor::Derived { subquery, .. } => is_empty(subquery),
        TableFactor::NestedJoin { table_with_joins, .. } => join_is_empty(table_with_joins),
        _ => false,
    }
}

/// By its schema, or by the beginning that no table of the lake needs.
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

/// `None` where the columns are not written out.
fn names(body: &SetExpr) -> Option<Vec<Ident>> {
    let select = match body {
        SetExpr::Select(select) => select,
        SetExpr::Query(query) => return names(&query.body),
        SetExpr::SetOperation { left, .. } => return names(left),
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
        let name = if taken { sql::frontend::names::repeated(&name, found.len()) } else { name };
        found.push(Ident::with_quote('"', name));
    }
    (!found.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::answered;
    use sqlparser::dialect::PostgreSqlDialect;
    use sqlparser::parser::Parser;

    fn answer(sql: &str) -> Option<String> {
        let statement = Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap().remove(0);
        answered(&statement).map(|statement| statement.to_string())
    }

    #[test]
    fn a_join_with_nothing_is_nothing() {
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
