//! Aggregates that occur more than once in a query, such as a WITH query that it names twice, are computed once.

mod exec;
mod node;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNode};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};

use exec::{SharedExec, SharedRows};
use node::SharedAggregate;

/// An optimized plan with each GROUP BY that occurs more than once in a node that a [`SharedAggregatePlanner`] plans;
/// `None` where there is none.
///
/// # Errors
/// Where the plan can't be walked.
pub fn mark_shared_aggregates(plan: &LogicalPlan) -> Result<Option<LogicalPlan>> {
    let repeated = repeated(plan)?;
    if repeated.is_empty() {
        return Ok(None);
    }
    let mut known: Vec<LogicalPlan> = Vec::new();
    let marked = plan.clone().transform_down_with_subqueries(|plan| {
        if !repeated.contains(&plan) {
            return Ok(Transformed::no(plan));
        }
        let at = known.iter().position(|known| *known == plan).unwrap_or(known.len());
        if at == known.len() {
            known.push(plan.clone());
        }
        let node = LogicalPlan::Extension(Extension { node: Arc::new(SharedAggregate { at, input: plan }) });
        Ok(Transformed::new(node, true, TreeNodeRecursion::Jump))
    })?;
    Ok(Some(marked.data))
}

fn repeated(plan: &LogicalPlan) -> Result<HashSet<LogicalPlan>> {
    let (mut once, mut repeated) = (HashSet::new(), HashSet::new());
    plan.apply_with_subqueries(|plan| {
        if let LogicalPlan::Aggregate(aggregate) = plan
            && !aggregate.group_expr.is_empty()
            && !once.insert(plan.clone())
            && is_same_each_time(plan)?
        {
            repeated.insert(plan.clone());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(repeated)
}

/// Whether a plan gives the same rows each time: it is neither volatile nor correlated with an outer query.
fn is_same_each_time(plan: &LogicalPlan) -> Result<bool> {
    let mut is_same = true;
    plan.apply_with_subqueries(|plan| {
        plan.apply_expressions(|expr| {
            is_same &=
                !expr.is_volatile() && !expr.exists(|part| Ok(matches!(part, Expr::OuterReferenceColumn(..))))?;
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(is_same)
}

/// Plans the nodes of [`mark_shared_aggregates`]. Each query needs a planner of its own.
#[derive(Default)]
pub struct SharedAggregatePlanner {
    rows: Mutex<HashMap<usize, Arc<SharedRows>>>,
}

#[async_trait]
impl ExtensionPlanner for SharedAggregatePlanner {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical: &[&LogicalPlan],
        inputs: &[Arc<dyn ExecutionPlan>],
        _session: &dyn Session,
        _context: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(shared) = node.as_any().downcast_ref::<SharedAggregate>() else { return Ok(None) };
        let mut known = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = known.entry(shared.at).or_default();
        Ok(Some(Arc::new(SharedExec::new(Arc::clone(&inputs[0]), Arc::clone(rows)))))
    }
}
