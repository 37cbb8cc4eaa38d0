//! PostgreSQL's ways of writing that the engine does not know, put in its own: `= ANY (...)`,
//! functions called by their schema, `current_user`, COLLATE. Only what keeps its meaning.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::LazyLock;

use datafusion_pg_catalog::sql::rules::{
    CurrentUserVariableToSessionUserFunctionCall, FixVersionColumnName, RewriteArrayAnyAllOperation,
    RewritePgCatalogOperator, SqlStatementRewriteRule, StripCallableQualifier, StripCollate,
};
use sqlparser::ast::{
    ArrayElemTypeDef, BinaryOperator, CastKind, DataType, Expr, ObjectName, Select, SelectItem,
    SelectItemQualifiedWildcardKind, Statement, TableAliasColumnDef, TableFactor, Value, ValueWithSpan, VisitMut,
    VisitorMut,
};
use sqlparser::parser::Parser;

use crate::grammar::Grammar;

static RULES: LazyLock<Vec<Box<dyn SqlStatementRewriteRule>>> = LazyLock::new(|| {
    vec![
        Box::new(RewriteArrayAnyAllOperation),
        Box::new(StripCallableQualifier),
        Box::new(CurrentUserVariableToSessionUserFunctionCall),
        Box::new(StripCollate),
        Box::new(RewritePgCatalogOperator),
        Box::new(FixVersionColumnName),
    ]
});

/// The statement in the engine's words.
pub fn rewritten(mut statement: Statement) -> Statement {
    any_of_values(&mut statement);
    let _ = statement.visit(&mut Forms);
    RULES.iter().fold(statement, |statement, rule| rule.rewrite(statement))
}

/// `x = ANY (ARRAY[...])` becomes `x IN (...)`, `x = ANY ($1)` becomes `x = $1`; gives the
/// parameters that stand for arrays, whose values take their places when they are known.
pub fn any_of_values(statement: &mut Statement) -> BTreeSet<String> {
    let mut visitor = Arrays { parameters: BTreeSet::new() };
    let _ = statement.visit(&mut visitor);
    visitor.parameters
}

/// Forms that have another of the same meaning.
struct Forms;

impl VisitorMut for Forms {
    type Break = ();

    /// A function's only column has the alias's name: `generate_series(1, 3) AS n`.
    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, alias: Some(alias), args: Some(_), .. } = factor
            && name
                .0
                .last()
                .and_then(|name| name.as_ident())
                .is_some_and(|f| f.value.eq_ignore_ascii_case("generate_series"))
            && alias.columns.is_empty()
        {
            alias.columns = vec![TableAliasColumnDef { name: alias.name.clone(), data_type: None }];
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        whole_names(select);
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                counted(expr);
            }
        }
        ControlFlow::Continue(())
    }

    /// `LIKE ... ESCAPE '/'`: the engine knows the backslash only. `SIMILAR TO`: it takes the pattern for another.
    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::SimilarTo { negated, expr: text, pattern, escape_char } = expr {
            let escape = escape_char.as_ref().map_or_else(String::new, |escape| format!(", {escape}"));
            let not = if *negated { "NOT " } else { "" };
            if let Some(other) = parsed(&format!("({not}regexp_like({text}, similar_to_escape({pattern}{escape})))")) {
                *expr = other;
            }
            return ControlFlow::Continue(());
        }
        if let Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. } = expr
            && let Some(ValueWithSpan { value: Value::SingleQuotedString(escape), .. }) = escape_char
            && escape != "\\"
            && let Some(other) =
                parsed(&format!("replace(replace({pattern}, '\\', '\\\\'), '{}', '\\')", escape.replace('\'', "''")))
        {
            **pattern = other;
            *escape_char = None;
        }
        ControlFlow::Continue(())
    }
}

/// `SELECT EXISTS (...)`: the engine knows it in conditions only.
fn counted(expr: &mut Expr) {
    if let Expr::Exists { subquery, negated } = expr {
        let sign = if *negated { "=" } else { ">" };
        if let Some(other) = parsed(&format!("(SELECT count(*) {sign} 0 FROM ({subquery}) AS found)")) {
            *expr = other;
        }
    }
}

/// `t.*` of a table that the query names with its schema.
fn whole_names(select: &mut Select) {
    let tables = select
        .from
        .iter()
        .flat_map(|joined| std::iter::once(&joined.relation).chain(joined.joins.iter().map(|join| &join.relation)));
    let named: Vec<ObjectName> = tables
        .filter_map(|table| match table {
            TableFactor::Table { name, alias: None, args: None, .. } if name.0.len() > 1 => Some(name.clone()),
            _ => None,
        })
        .collect();
    for item in &mut select.projection {
        if let SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(wild), _) = item
            && let [only] = &wild.0[..]
            && let Some(whole) = named.iter().find(|name| name.0.last() == Some(only))
        {
            *wild = whole.clone();
        }
    }
}

fn parsed(expr: &str) -> Option<Expr> {
    Parser::new(&Grammar).try_with_sql(expr).ok()?.parse_expr().ok()
}

struct Arrays {
    parameters: BTreeSet<String>,
}

impl VisitorMut for Arrays {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let (left, right, negated) = match expr {
            Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. } => (left, right, false),
            Expr::AllOp { left, compare_op: BinaryOperator::NotEq, right } => (left, right, true),
            _ => return ControlFlow::Continue(()),
        };
        let right = unnested(right.as_ref());
        if let Some(list) = values(right) {
            *expr = Expr::InList { expr: left.clone(), list, negated };
        } else if let Some((name, value)) = parameter(right) {
            self.parameters.insert(name);
            let op = if negated { BinaryOperator::NotEq } else { BinaryOperator::Eq };
            *expr = Expr::BinaryOp { left: left.clone(), op, right: Box::new(value) };
        }
        ControlFlow::Continue(())
    }
}

fn unnested(expr: &Expr) -> &Expr {
    match expr {
        Expr::Nested(inner) => unnested(inner),
        other => other,
    }
}

/// The elements of an array that is written out; one that is empty stays as it is.
fn values(expr: &Expr) -> Option<Vec<Expr>> {
    let (expr, element) = match expr {
        Expr::Cast { expr, data_type, .. } => (unnested(expr), element_of(data_type)),
        other => (other, None),
    };
    let list = match expr {
        Expr::Array(array) => array.elem.clone(),
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), span }) => {
            let inner = text.trim().strip_prefix('{')?.strip_suffix('}')?;
            // Quoted elements may hold anything; those are left to the engine.
            if inner.contains(['"', '\\', '{']) {
                return None;
            }
            let element = |text: &str| match text.trim() {
                null if null.eq_ignore_ascii_case("null") => Value::Null,
                text => Value::SingleQuotedString(text.to_owned()),
            };
            let elements = inner.split(',').map(element);
            elements.map(|value| Expr::Value(ValueWithSpan { value, span: *span })).collect()
        }
        _ => return None,
    };
    let cast = |value: Expr| match &element {
        Some(element) => cast(value, element.clone()),
        None => value,
    };
    (!list.is_empty()).then(|| list.into_iter().map(cast).collect())
}

fn parameter(expr: &Expr) -> Option<(String, Expr)> {
    match expr {
        Expr::Value(ValueWithSpan { value: Value::Placeholder(name), .. }) => Some((name.clone(), expr.clone())),
        Expr::Cast { expr, data_type, .. } => {
            let (name, value) = parameter(unnested(expr))?;
            Some((name, cast(value, element_of(data_type)?)))
        }
        _ => None,
    }
}

fn element_of(data_type: &DataType) -> Option<DataType> {
    match data_type {
        DataType::Array(ArrayElemTypeDef::SquareBracket(element, _)) => Some(element.as_ref().clone()),
        _ => None,
    }
}

fn cast(value: Expr, data_type: DataType) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(value), data_type, array: false, format: None }
}

#[cfg(test)]
mod tests {
    use super::{any_of_values, rewritten};
    use sqlparser::ast::Statement;
    use sqlparser::dialect::PostgreSqlDialect;
    use sqlparser::parser::Parser;

    fn parsed(sql: &str) -> Statement {
        Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap().remove(0)
    }

    #[test]
    fn arrays_become_lists() {
        for (sql, expected) in [
            ("SELECT x = ANY (ARRAY[1, 2])", "SELECT x IN (1, 2)"),
            ("SELECT x <> ALL (ARRAY['a'])", "SELECT x NOT IN ('a')"),
            ("SELECT x = ANY ('{a, b}')", "SELECT x IN ('a', 'b')"),
            ("SELECT x = ANY ('{1,2}'::int[])", "SELECT x IN (CAST('1' AS INT), CAST('2' AS INT))"),
            ("SELECT pg_catalog.version()", "SELECT version() AS version"),
            ("SELECT x COLLATE \"C\"", "SELECT x"),
            ("SELECT t.* FROM s.t", "SELECT s.t.* FROM s.t"),
            ("SELECT EXISTS (SELECT 1 FROM t)", "SELECT (SELECT count(*) > 0 FROM (SELECT 1 FROM t) AS found)"),
            ("SELECT x LIKE 'a/_' ESCAPE '/'", "SELECT x LIKE replace(replace('a/_', '\\', '\\\\'), '/', '\\')"),
        ] {
            assert_eq!(rewritten(parsed(sql)).to_string(), expected);
        }
    }

    #[test]
    fn parameters_that_are_arrays_are_named() {
        let mut statement = parsed("SELECT 1 WHERE x = ANY ($2) AND y <> ALL ($1::text[]) AND z = $3");
        let arrays = any_of_values(&mut statement);
        assert_eq!(arrays.into_iter().collect::<Vec<_>>(), ["$1", "$2"]);
        assert_eq!(statement.to_string(), "SELECT 1 WHERE x = $2 AND y <> CAST($1 AS TEXT) AND z = $3");
    }
}
