//! `first_value(a ORDER BY t), first_value(b ORDER BY t)` by group, which DISTINCT ON becomes too: the first row is
//! searched once for all of its columns.

use std::sync::Arc;

use datafusion::common::Column;
use datafusion::common::tree_node::Transformed;
use datafusion::error::Result;
use datafusion::logical_expr::expr::{AggregateFunction, NullTreatment};
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, LogicalPlanBuilder, SortExpr};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use super::aggregate::first_row;
use super::field_of;

/// The rule.
#[derive(Debug)]
pub(super) struct FirstValues;

impl OptimizerRule for FirstValues {
    fn name(&self) -> &str {
        "first_values"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Aggregate(aggregate) = &plan else { return Ok(Transformed::no(plan)) };
        match of_one_row(aggregate)? {
            Some(better) => Ok(Transformed::yes(better)),
            None => Ok(Transformed::no(plan)),
        }
    }
}

/// The aggregate with one `first_row` for all of its first values; `None` where it has none, or they have different
/// orders.
fn of_one_row(aggregate: &Aggregate) -> Result<Option<LogicalPlan>> {
    let groups = &aggregate.group_expr;
    if groups.is_empty() || groups.iter().any(|group| matches!(group, Expr::GroupingSet(_))) {
        return Ok(None);
    }
    let firsts: Vec<Option<(Expr, Vec<SortExpr>)>> = aggregate.aggr_expr.iter().map(first).collect();
    let mut orders = firsts.iter().flatten().map(|(_, order)| order);
    let Some(order) = orders.next().cloned() else { return Ok(None) };
    if orders.any(|other| *other != order) {
        return Ok(None);
    }
    let kept = firsts.iter().flatten().map(|(value, _)| value.clone()).collect();
    let row = first_row(kept, order, groups);
    let others = aggregate.aggr_expr.iter().zip(&firsts).filter(|(_, first)| first.is_none());
    let mut aggregates: Vec<Expr> = others.map(|(expr, _)| expr.clone()).collect();
    aggregates.push(row);
    let found = Aggregate::try_new(Arc::clone(&aggregate.input), groups.clone(), aggregates)?;
    let (_, last) = found.schema.qualified_field(found.schema.fields().len() - 1);
    let row = Expr::Column(Column::from_name(last.name()));

    let mut at = 0..;
    let keys = aggregate.schema.fields().len() - firsts.len();
    let columns = aggregate.schema.iter().enumerate().map(|(number, (qualifier, field))| {
        let is_first = number.checked_sub(keys).is_some_and(|number| firsts[number].is_some());
        match is_first.then(|| at.next()).flatten() {
            Some(at) => field_of(&row, at).alias_qualified(qualifier.cloned(), field.name()),
            None => Expr::Column(Column::from((qualifier, field))),
        }
    });
    let columns: Vec<Expr> = columns.collect();
    LogicalPlanBuilder::from(LogicalPlan::Aggregate(found)).project(columns)?.build().map(Some)
}

/// The value of a `first_value` or `last_value`, and the order by which its row is the first.
fn first(expr: &Expr) -> Option<(Expr, Vec<SortExpr>)> {
    let Expr::AggregateFunction(AggregateFunction { func, params }) = expr else { return None };
    let is_last = match func.name() {
        "first_value" => false,
        "last_value" => true,
        _ => return None,
    };
    let skips_nulls = params.null_treatment == Some(NullTreatment::IgnoreNulls);
    if params.distinct || params.filter.is_some() || skips_nulls || params.order_by.is_empty() {
        return None;
    }
    let [value] = params.args.as_slice() else { return None };
    let order = params.order_by.iter().cloned();
    let order = order.map(|key| if is_last { SortExpr::new(key.expr, !key.asc, !key.nulls_first) } else { key });
    Some((value.clone(), order.collect()))
}
