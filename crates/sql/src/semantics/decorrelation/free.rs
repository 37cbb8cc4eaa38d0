//! The columns of outer queries to which a query refers.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema};
use datafusion::error::Result;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, LogicalPlan, Subquery};

/// The outer columns that a query refers to, each once, in the order of their first use.
pub(super) fn free_columns(plan: &LogicalPlan) -> Result<Vec<Column>> {
    let mut found = Vec::new();
    collect(plan, &mut found)?;
    Ok(found)
}

fn collect(plan: &LogicalPlan, found: &mut Vec<Column>) -> Result<()> {
    let own = merge_schema(&plan.inputs());
    plan.apply_expressions(|expr| {
        expr.apply(|part| {
            if let Expr::OuterReferenceColumn(_, column) = part
                && !found.contains(column)
            {
                found.push(column.clone());
            } else if let Some(subquery) = subquery_of(part) {
                for column in free_of(subquery, &own)? {
                    if !found.contains(&column) {
                        found.push(column);
                    }
                }
            }
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    plan.inputs().into_iter().try_for_each(|input| collect(input, found))
}

/// The outer columns of a subquery that are not columns of the query that contains it.
fn free_of(subquery: &Subquery, own: &DFSchema) -> Result<Vec<Column>> {
    let columns = free_columns(&subquery.subquery)?;
    Ok(columns.into_iter().filter(|column| !own.has_column(column)).collect())
}

/// The subquery of an expression that is one.
pub(super) fn subquery_of(expr: &Expr) -> Option<&Subquery> {
    match expr {
        Expr::ScalarSubquery(subquery) => Some(subquery),
        Expr::Exists(exists) => Some(&exists.subquery),
        Expr::InSubquery(membership) => Some(&membership.subquery),
        Expr::SetComparison(comparison) => Some(&comparison.subquery),
        _ => None,
    }
}

/// Like [`subquery_of`], to change it.
pub(super) fn subquery_of_mut(expr: &mut Expr) -> Option<&mut Subquery> {
    match expr {
        Expr::ScalarSubquery(subquery) => Some(subquery),
        Expr::Exists(exists) => Some(&mut exists.subquery),
        Expr::InSubquery(membership) => Some(&mut membership.subquery),
        Expr::SetComparison(comparison) => Some(&mut comparison.subquery),
        _ => None,
    }
}
