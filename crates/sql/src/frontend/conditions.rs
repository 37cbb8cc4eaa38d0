//! Conditions that DataFusion has in another form: LIKE with an escape, SIMILAR TO, rows IN a query, EXISTS as a value.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, Query, Select, SelectItem, Statement, UnaryOperator, Value, ValueWithSpan, VisitMut, VisitorMut,
};

use super::fragment::parsed;

/// The pass `conditions`.
pub(super) fn rewrite(statement: &mut Statement) {
    let _ = statement.visit(&mut Conditions);
}

struct Conditions;

impl VisitorMut for Conditions {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                counted(expr);
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::SimilarTo { negated, expr: text, pattern, escape_char } => {
                let escape = escape_char.as_ref().map_or_else(String::new, |escape| format!(", {escape}"));
                let not = if *negated { "NOT " } else { "" };
                if let Some(other) =
                    parsed(&format!("({not}regexp_like({text}, similar_to_escape({pattern}{escape})))"))
                {
                    *expr = other;
                }
            }
            // DataFusion escapes with the backslash only.
            Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. } => {
                if let Some(ValueWithSpan { value: Value::SingleQuotedString(escape), .. }) = escape_char
                    && escape != "\\"
                    && let Some(other) = parsed(&format!(
                        "replace(replace({pattern}, '\\', '\\\\'), '{}', '\\')",
                        escape.replace('\'', "''")
                    ))
                {
                    **pattern = other;
                    *escape_char = None;
                }
            }
            Expr::InSubquery { expr: row, subquery, negated: false } => {
                if let Expr::Tuple(values) = row.as_ref()
                    && let Some(exists) = row_in(values, subquery)
                {
                    *expr = exists;
                }
            }
            Expr::UnaryOp { op: UnaryOperator::BitwiseNot, expr: value } => {
                if let Some(other) = parsed(&format!("(-1 - {value})")) {
                    *expr = other;
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// `SELECT EXISTS (...)`: DataFusion has EXISTS in conditions only.
fn counted(expr: &mut Expr) {
    if let Expr::Exists { subquery, negated } = expr {
        let sign = if *negated { "=" } else { ">" };
        if let Some(other) = parsed(&format!("(SELECT count(*) {sign} 0 FROM ({subquery}) AS found)")) {
            *expr = other;
        }
    }
}

/// `(a, b) IN (SELECT ...)` as an EXISTS. The columns of the query get names that no other column has.
fn row_in(values: &[Expr], subquery: &Query) -> Option<Expr> {
    let columns: Vec<String> = (1..=values.len()).map(|at| format!("\"member {at}\"")).collect();
    let equal: Vec<String> = values.iter().zip(&columns).map(|(value, column)| format!("{column} = {value}")).collect();
    parsed(&format!(
        "EXISTS (SELECT 1 FROM ({subquery}) AS \"row\"({}) WHERE {})",
        columns.join(", "),
        equal.join(" AND ")
    ))
}
