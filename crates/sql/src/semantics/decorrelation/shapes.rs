//! Recognizes the correlated queries that are left to the engine, which plans them without a domain of values. For
//! others it returns wrong results: if two relations are compared with one outer column, if an aggregate is below
//! HAVING or DISTINCT, or if the query of `EXISTS` or `IN` has an aggregate, a window or an OFFSET.

use datafusion::arrow::datatypes::FieldRef;
use datafusion::common::Column;
use datafusion::common::tree_node::TreeNode;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Aggregate, BinaryExpr, Expr, LogicalPlan, Operator};

use super::free::{free_columns, subquery_of};

/// Whether a query refers to columns of an outer query.
pub(super) fn is_correlated(plan: &LogicalPlan) -> bool {
    !free_columns(plan).is_ok_and(|columns| columns.is_empty())
}

/// Whether a query is an aggregate that is NULL without rows, correlated only by equalities in WHERE.
pub(super) fn is_plain_aggregate(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::SubqueryAlias(node) => is_plain_aggregate(&node.input),
        LogicalPlan::Projection(node) => node.expr.iter().all(is_strict) && is_plain_aggregate(&node.input),
        LogicalPlan::Aggregate(node) => {
            let mut outer = Vec::new();
            is_null_of_no_rows(node) && is_chosen_by(&node.input, &mut |part| is_equality(part, &mut outer))
        }
        _ => false,
    }
}

/// Whether a query is correlated only by conditions in WHERE.
pub(super) fn is_plain_query(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::SubqueryAlias(node) => is_plain_query(&node.input),
        LogicalPlan::Projection(node) if !node.expr.iter().any(Expr::contains_outer) => is_plain_query(&node.input),
        other => is_chosen_by(other, &mut |_| true),
    }
}

/// Whether outer columns are used only in filters, and only in conditions for which `is_known` returns true.
fn is_chosen_by(plan: &LogicalPlan, is_known: &mut dyn FnMut(&Expr) -> bool) -> bool {
    match plan {
        LogicalPlan::Filter(filter) => {
            let mut correlated = split_conjunction(&filter.predicate).into_iter().filter(|part| part.contains_outer());
            correlated.all(&mut *is_known) && !has_queries(&filter.predicate) && is_chosen_by(&filter.input, is_known)
        }
        other => !is_correlated(other),
    }
}

fn has_queries(expr: &Expr) -> bool {
    expr.exists(|part| Ok(subquery_of(part).is_some())).unwrap_or(true)
}

fn is_null_of_no_rows(node: &Aggregate) -> bool {
    // Without groups, a field is an aggregate.
    let is_null = |(expr, field): (&Expr, &FieldRef)| match expr.clone().unalias() {
        Expr::AggregateFunction(call) => call.func.default_value(field.data_type()).is_ok_and(|value| value.is_null()),
        _ => false,
    };
    node.group_expr.is_empty()
        && node.aggr_expr.iter().zip(node.schema.fields()).all(is_null)
        && !node.aggr_expr.iter().any(Expr::contains_outer)
}

/// Whether an expression is NULL if the aggregate in it is NULL.
fn is_strict(expr: &Expr) -> bool {
    match expr {
        Expr::Alias(alias) => is_strict(&alias.expr),
        Expr::Cast(cast) => is_strict(&cast.expr),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let is_arithmetic = matches!(op, Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Divide);
            let is_one = |one: &Expr, other: &Expr| is_strict(one) && matches!(other, Expr::Literal(..));
            is_arithmetic && (is_one(left, right) || is_one(right, left))
        }
        other => matches!(other, Expr::Column(_)),
    }
}

/// Whether a condition is `inner = outer`, with an outer column that is not in `before`; adds that column.
fn is_equality(expr: &Expr, before: &mut Vec<Column>) -> bool {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = expr else { return false };
    let (column, inner) = match (left.as_ref(), right.as_ref()) {
        (Expr::OuterReferenceColumn(_, column), inner) | (inner, Expr::OuterReferenceColumn(_, column)) => {
            (column, inner)
        }
        _ => return false,
    };
    let is_new = matches!(inner, Expr::Column(_)) && !before.contains(column);
    before.push(column.clone());
    is_new
}
