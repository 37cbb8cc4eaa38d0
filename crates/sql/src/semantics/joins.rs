//! The merged columns of RIGHT and FULL joins with USING: the value of the side that has a row. See `frontend::joins`.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchema, JoinConstraint, JoinType, TableReference};
use datafusion::error::Result;
use datafusion::functions::core::coalesce;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, Join, LogicalPlan, Projection};

use super::kernel::Kernel;
use crate::frontend::ONE_SIDE;

/// Marks a column that is qualified with its table. The front end adds it, and the rule of this module removes it.
pub(super) const COLUMN_OF_ONE_SIDE: Kernel =
    Kernel { name: ONE_SIDE, result: |given| Ok(given[0].clone()), run: |call| Ok(Arc::clone(&call.args[0])) };

/// The name of the hidden column with the left side's own value.
fn left_column_name(column: &Column) -> String {
    format!("{ONE_SIDE} {}", column.flat_name())
}

/// Replaces a marked column by the left side's own column if the join has one, else by the column itself.
pub(super) fn resolve_marked_column(mut call: ScalarFunction, schema: &DFSchema) -> Transformed<Expr> {
    match (call.func.name() == ONE_SIDE).then(|| call.args.pop()).flatten() {
        Some(Expr::Column(column)) => {
            let own = Column::new_unqualified(left_column_name(&column));
            Transformed::yes(Expr::Column(if schema.has_column(&own) { own } else { column }))
        }
        Some(other) => Transformed::yes(other),
        None => Transformed::no(Expr::ScalarFunction(call)),
    }
}

/// A RIGHT or FULL join with USING, under a projection with the merged columns; other joins unchanged.
pub(super) fn with_merged_columns(mut join: Join) -> Result<LogicalPlan> {
    let is_one_sided = matches!(join.join_type, JoinType::Right | JoinType::Full);
    if join.join_constraint != JoinConstraint::Using || !is_one_sided {
        return Ok(LogicalPlan::Join(join));
    }
    // The columns are merged by the projection, so that the join itself is an ordinary one.
    join.join_constraint = JoinConstraint::On;
    let sides: Vec<(Column, Column)> = join
        .on
        .iter()
        .filter_map(|pair| match pair {
            (Expr::Column(left), Expr::Column(right)) => Some((left.clone(), right.clone())),
            _ => None,
        })
        .collect();
    let mut columns = Vec::new();
    for (qualifier, field) in join.schema.iter() {
        let column = Column::new(qualifier.cloned(), field.name());
        let merged = sides.iter().find(|(left, _)| *left == column).map(|(left, right)| match join.join_type {
            JoinType::Right => Expr::Column(right.clone()),
            _ => coalesce().call(vec![Expr::Column(left.clone()), Expr::Column(right.clone())]),
        });
        columns.push(match merged {
            Some(value) => value.alias_qualified(qualifier.cloned(), field.name()),
            None => Expr::Column(column),
        });
    }
    for (left, _) in &sides {
        columns.push(Expr::Column(left.clone()).alias_qualified(None::<TableReference>, left_column_name(left)));
    }
    let join = Arc::new(LogicalPlan::Join(join));
    Ok(LogicalPlan::Projection(Projection::try_new(columns, join)?))
}
