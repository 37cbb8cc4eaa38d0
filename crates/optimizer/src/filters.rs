//! Filters that evaluate their conditions in the order of their cost. Filters of scans also apply the conditions that
//! are known only when the query runs (dynamic filters), such as the keys of a join's smaller side.
//!
//! DataFusion prunes row groups and pages by dynamic filters, but does not filter rows by them. Of a chain of ANDs it
//! evaluates all conditions for all rows, so that a division fails for rows that the condition before it rejects, or
//! copies all columns after each condition that few rows meet.

mod adaptive;
mod condition;
mod exec;

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::{DynamicFilterTracking, PhysicalExpr, split_conjunction};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ExecutionPlan, ReplaceChildrenOptions};
use datafusion::physical_plan::filter::FilterExec;

use condition::Condition;
use exec::OrderedFilterExec;

/// Replaces each filter by an [`OrderedFilterExec`], and adds one over each scan that has dynamic filters. It runs
/// after all rules that move filters.
#[derive(Debug)]
pub(crate) struct OrderedFilters;

impl PhysicalOptimizerRule for OrderedFilters {
    fn name(&self) -> &'static str {
        "ordered_filters"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        filtered(plan)
    }
}

fn filtered(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let filter = plan.downcast_ref::<FilterExec>().filter(|filter| filter.fetch().is_none());
    let input = filter.map_or(&plan, FilterExec::input);
    let runtime = runtime_conditions(input)?;
    if filter.is_none() && runtime.is_empty() {
        let children = plan.children().into_iter().map(|child| filtered(Arc::clone(child)));
        return with_children(Arc::clone(&plan), children.collect::<Result<Vec<_>>>()?);
    }
    let given = filter.map(|filter| split_conjunction(filter.predicate())).unwrap_or_default();
    let conditions = given.into_iter().map(Condition::of_query).chain(runtime).collect();
    let projection = filter.and_then(|filter| filter.projection().as_deref());
    let input = if filter.is_some() && !is_scan(input) { filtered(Arc::clone(input))? } else { Arc::clone(input) };
    Ok(Arc::new(OrderedFilterExec::new(input, conditions, projection, Arc::clone(plan.properties()))))
}

fn with_children(
    plan: Arc<dyn ExecutionPlan>,
    children: Vec<Arc<dyn ExecutionPlan>>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let is_same = plan.children().into_iter().zip(&children).all(|(old, new)| Arc::ptr_eq(old, new));
    let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
    if is_same { Ok(plan) } else { plan.replace_children(children, options) }
}

fn is_scan(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.is::<DataSourceExec>()
}

/// The dynamic filters of a scan of files, over the columns that the scan returns. None if the plan is not a scan of
/// files, or has a limit.
fn runtime_conditions(plan: &Arc<dyn ExecutionPlan>) -> Result<Vec<Condition>> {
    let mut conditions = Vec::new();
    let Some(source) = plan.downcast_ref::<DataSourceExec>() else { return Ok(conditions) };
    let Some(config) = source.data_source().downcast_ref::<FileScanConfig>() else { return Ok(conditions) };
    if config.limit.is_some() {
        return Ok(conditions);
    }
    let source = config.file_source();
    for filter in source.filter().iter().flat_map(split_conjunction) {
        if DynamicFilterTracking::classify(filter).contains_dynamic_filter() {
            conditions.extend(renumbered(filter, source.projection())?.map(Condition::runtime));
        }
    }
    Ok(conditions)
}

/// A filter over a file's columns as one over the columns that the scan returns; `None` where a column is not returned.
fn renumbered(
    filter: &Arc<dyn PhysicalExpr>,
    projection: Option<&ProjectionExprs>,
) -> Result<Option<Arc<dyn PhysicalExpr>>> {
    let Some(projection) = projection else { return Ok(Some(Arc::clone(filter))) };
    let mut is_whole = true;
    let renumbered = Arc::clone(filter).transform_down(|part| {
        let Some(column) = part.downcast_ref::<Column>() else { return Ok(Transformed::no(part)) };
        match projection.iter().position(|out| out.expr.downcast_ref::<Column>() == Some(column)) {
            Some(at) => Ok(Transformed::yes(Arc::new(Column::new(column.name(), at)))),
            None => {
                is_whole = false;
                Ok(Transformed::new(part, false, TreeNodeRecursion::Stop))
            }
        }
    })?;
    Ok(is_whole.then_some(renumbered.data))
}
