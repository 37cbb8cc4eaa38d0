//! Plans the physical operators of this crate's logical ones.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{LogicalPlan, Operator, UserDefinedLogicalNode};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};

use super::asof::exec::{AsofJoinExec, Side};
use super::asof::node::{AsofJoin, as_asof};
use super::asof::sided;
use super::gapfill::exec::GapFillExec;
use super::gapfill::node::GapFill;

/// A query planner for sessions that have no operators but DataFusion's and this crate's.
#[derive(Debug)]
pub(crate) struct SeriesQueryPlanner;

#[async_trait]
impl QueryPlanner for SeriesQueryPlanner {
    async fn create_physical_plan(&self, plan: &LogicalPlan, session: &dyn Session) -> Result<Arc<dyn ExecutionPlan>> {
        let planner = DefaultPhysicalPlanner::with_extension_planners(vec![extension_planner()]);
        planner.create_physical_plan(plan, session).await
    }
}

/// The planner of this crate's operators, for the query planner of a session that has operators of other crates too.
pub fn extension_planner() -> Arc<dyn ExtensionPlanner + Send + Sync> {
    Arc::new(SeriesExtensionPlanner)
}

struct SeriesExtensionPlanner;

#[async_trait]
impl ExtensionPlanner for SeriesExtensionPlanner {
    async fn plan_extension(
        &self,
        planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical: &[&LogicalPlan],
        inputs: &[Arc<dyn ExecutionPlan>],
        session: &dyn Session,
        context: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        match as_asof(node) {
            Some(join) => asof(planner, join, inputs, session, context).map(Some),
            None => Ok(node.as_any().downcast_ref::<GapFill>().map(|gaps| {
                let (series, fills) = (gaps.series.clone(), gaps.fills.clone());
                let input = Arc::clone(&inputs[0]);
                Arc::new(GapFillExec::new(input, gaps.bucket, series, fills, gaps.grid.clone())) as _
            })),
        }
    }
}

fn asof(
    planner: &dyn PhysicalPlanner,
    join: &AsofJoin,
    inputs: &[Arc<dyn ExecutionPlan>],
    session: &dyn Session,
    context: &PhysicalPlanningContext,
) -> Result<Arc<dyn ExecutionPlan>> {
    let schemas = [join.left.schema(), join.right.schema()];
    let both = |term| -> Result<_> {
        let term = sided(term, schemas[0], schemas[1])?;
        let left = planner.create_physical_expr(&term.left, schemas[0], session, context)?;
        let right = planner.create_physical_expr(&term.right, schemas[1], session, context)?;
        Ok((left, term.op, right))
    };
    let (left_time, op, right_time) = both(join.matching.clone())?;
    if op == Operator::Eq {
        return plan_err!("an ASOF join compares times by >=, >, <= or <");
    }
    let mut sides = [Side { keys: Vec::new(), time: left_time }, Side { keys: Vec::new(), time: right_time }];
    for key in &join.on {
        let (left, _, right) = both(key.clone())?;
        sides[0].keys.push(left);
        sides[1].keys.push(right);
    }
    let schema = Arc::new(datafusion::logical_expr::UserDefinedLogicalNodeCore::schema(join).as_arrow().clone());
    let [left, right] = [Arc::clone(&inputs[0]), Arc::clone(&inputs[1])];
    Ok(Arc::new(AsofJoinExec::new(left, right, sides, op, join.kind, schema)))
}
