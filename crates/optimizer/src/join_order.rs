//! The order of inner joins, by estimates of how many rows each join returns. DataFusion joins tables in the order in
//! which a query names them.

mod estimate;
mod graph;
mod search;

use std::sync::Arc;

use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, LogicalPlan, Projection};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use graph::Graph;

/// Another order is taken where its estimated cost is less than this share of the cost of the query's own order:
/// estimates are rough, and the query's order may have been chosen with care.
const COST_SHARE_MAX: f64 = 0.7;

/// The rule that reorders joins.
#[derive(Debug)]
pub(crate) struct JoinOrder;

impl OptimizerRule for JoinOrder {
    fn name(&self) -> &'static str {
        "join_order"
    }

    /// The rule walks the plan itself: a join under another join is reordered with that one, and not on its own.
    fn apply_order(&self) -> Option<ApplyOrder> {
        None
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        ordered(plan, false)
    }
}

fn ordered(plan: LogicalPlan, is_within: bool) -> Result<Transformed<LogicalPlan>> {
    let better = if is_within { None } else { better(&plan)? };
    let is_better = better.is_some();
    let plan = better.unwrap_or(plan);
    let is_join = graph::inner_join(&plan).is_some() || is_better;
    let within = plan.map_children(|child| {
        let is_within = is_join && graph::inner_join(&child).is_some();
        ordered(child, is_within)
    })?;
    let mut done = within.transform_data(|plan| plan.map_subqueries(|subquery| ordered(subquery, false)))?;
    done.transformed |= is_better;
    Ok(done)
}

/// The same joins in an order that costs less; `None` where there is none, or too little is known.
fn better(plan: &LogicalPlan) -> Result<Option<LogicalPlan>> {
    let Some(graph) = Graph::of(plan) else { return Ok(None) };
    let Some(cheapest) = search::cheapest(&graph) else { return Ok(None) };
    let Some(query_cost) = search::cost(&graph, &graph.query_order) else { return Ok(None) };
    if cheapest.cost > COST_SHARE_MAX * query_cost {
        return Ok(None);
    }
    let joined = graph.joined(&cheapest.tree)?;
    let columns = plan.schema().iter().map(|field| Expr::Column(Column::from(field))).collect();
    Ok(Some(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(joined))?)))
}
