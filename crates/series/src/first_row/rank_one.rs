//! `row_number() OVER (PARTITION BY k ORDER BY t DESC) = 1`: the first row of each partition, without sorting and
//! numbering all rows.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{Cast, WindowFunction, WindowFunctionParams};
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Expr, LogicalPlan, LogicalPlanBuilder, Operator, Projection, Window, lit,
};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use super::aggregate::first_row;
use super::field_of;

/// The rule.
#[derive(Debug)]
pub(super) struct RankOne;

impl OptimizerRule for RankOne {
    fn name(&self) -> &str {
        "rank_one"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Filter(filter) = &plan else { return Ok(Transformed::no(plan)) };
        let Some((window, columns)) = window_under(&filter.input) else { return Ok(Transformed::no(plan)) };
        let Some(ranked) = ranked(window) else { return Ok(Transformed::no(plan)) };
        let Some(rank) = name_of_rank(window, columns) else { return Ok(Transformed::no(plan)) };
        let (ones, others): (Vec<_>, Vec<_>) =
            split_conjunction(&filter.predicate).into_iter().partition(|part| is_one(part, &rank));
        if ones.is_empty() {
            return Ok(Transformed::no(plan));
        }
        let mut better = LogicalPlanBuilder::from(of_first_rows(window, ranked)?);
        if let Some(columns) = columns {
            better = better.project(columns.expr.clone())?;
        }
        if let Some(others) = conjunction(others.into_iter().cloned()) {
            better = better.filter(others)?;
        }
        Ok(Transformed::yes(better.build()?))
    }
}

/// The window under a filter, and the projection between them, if there is one.
fn window_under(input: &LogicalPlan) -> Option<(&Window, Option<&Projection>)> {
    match input {
        LogicalPlan::Window(window) => Some((window, None)),
        LogicalPlan::Projection(columns) => match columns.input.as_ref() {
            LogicalPlan::Window(window) => Some((window, Some(columns))),
            _ => None,
        },
        _ => None,
    }
}

/// The column of the row number, as the filter names it.
fn name_of_rank(window: &Window, columns: Option<&Projection>) -> Option<Column> {
    let rank = Column::from(window.schema.qualified_field(window.schema.fields().len() - 1));
    let Some(columns) = columns else { return Some(rank) };
    let is_rank = |expr: &Expr| match expr {
        Expr::Column(column) => *column == rank,
        Expr::Alias(alias) => matches!(alias.expr.as_ref(), Expr::Column(column) if *column == rank),
        _ => false,
    };
    let at = columns.expr.iter().position(is_rank)?;
    Some(Column::from(columns.schema.qualified_field(at)))
}

/// The parameters of a window that computes nothing but `row_number()`, by partition and in an order.
fn ranked(window: &Window) -> Option<&WindowFunctionParams> {
    let [only] = window.window_expr.as_slice() else { return None };
    let only = match only {
        Expr::Alias(alias) => alias.expr.as_ref(),
        plain => plain,
    };
    let Expr::WindowFunction(function) = only else { return None };
    let WindowFunction { fun, params } = function.as_ref();
    let is_ranked = fun.name() == "row_number" && !params.partition_by.is_empty() && !params.order_by.is_empty();
    (is_ranked && params.filter.is_none()).then_some(params)
}

/// Whether a condition is `rank = 1`, `rank <= 1`, `rank < 2`, or one of them with its sides swapped.
fn is_one(condition: &Expr, rank: &Column) -> bool {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = condition else { return false };
    let (column, op, bound) = match (number(left), number(right)) {
        (None, Some(bound)) => (left, *op, bound),
        (Some(bound), None) => match op.swap() {
            Some(op) => (right, op, bound),
            None => return false,
        },
        _ => return false,
    };
    let column = match column.as_ref() {
        Expr::Cast(Cast { expr, .. }) => expr.as_ref(),
        plain => plain,
    };
    let is_first = matches!((op, bound), (Operator::Eq | Operator::LtEq, 1) | (Operator::Lt, 2));
    is_first && matches!(column, Expr::Column(column) if column == rank)
}

fn number(expr: &Expr) -> Option<i64> {
    match expr {
        Expr::Literal(ScalarValue::UInt64(Some(value)), _) => i64::try_from(*value).ok(),
        Expr::Literal(ScalarValue::Int64(Some(value)), _) => Some(*value),
        Expr::Literal(ScalarValue::Int32(Some(value)), _) => Some(i64::from(*value)),
        _ => None,
    }
}

/// The first row of each partition, with the columns of the window, that of the row number included.
fn of_first_rows(window: &Window, ranked: &WindowFunctionParams) -> Result<LogicalPlan> {
    let groups = &ranked.partition_by;
    let all: Vec<Expr> = window.input.schema().iter().map(|field| Expr::Column(Column::from(field))).collect();
    let kept: Vec<Expr> = all.iter().filter(|column| !groups.contains(column)).cloned().collect();
    let row = first_row(kept.clone(), ranked.order_by.clone(), groups);
    let found = Aggregate::try_new(Arc::clone(&window.input), groups.clone(), vec![row])?;
    let (_, last) = found.schema.qualified_field(found.schema.fields().len() - 1);
    let row = Expr::Column(Column::from_name(last.name()));
    let mut columns: Vec<Expr> = Vec::with_capacity(all.len() + 1);
    for (column, (qualifier, field)) in all.into_iter().zip(window.input.schema().iter()) {
        columns.push(match kept.iter().position(|kept| *kept == column) {
            Some(at) => field_of(&row, at).alias_qualified(qualifier.cloned(), field.name()),
            None => column,
        });
    }
    let (qualifier, rank) = window.schema.qualified_field(window.schema.fields().len() - 1);
    columns.push(lit(1_u64).alias_qualified(qualifier.cloned(), rank.name()));
    LogicalPlanBuilder::from(LogicalPlan::Aggregate(found)).project(columns)?.build()
}
