//! Optimizer rules that DataFusion does not have: the order of joins, the order of filters, and one computation of
//! aggregates that occur twice. No rule changes what a query returns; docs/decisions/0017-joins.md has measurements.

mod duplicate_names;
mod filters;
mod join_order;
mod shared_aggregates;

use std::sync::Arc;

use datafusion::execution::SessionStateBuilder;
use datafusion::optimizer::Optimizer;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;

pub use shared_aggregates::{SharedAggregatePlanner, mark_shared_aggregates};

/// The rule after which joins have all their conditions. Rules after it put projections between joins.
const BEFORE_JOIN_ORDER: &str = "push_down_filter";

/// How the names of the rules that push filters down begin.
const FILTERS: &str = "FilterPushdown";

/// Adds the rules to a session. Aggregates are shared only where the session's query planner calls
/// [`mark_shared_aggregates`] and uses a [`SharedAggregatePlanner`].
pub fn with_rules(mut state: SessionStateBuilder) -> SessionStateBuilder {
    let rules = &mut state.optimizer().get_or_insert_with(Optimizer::new).rules;
    let at = rules.iter().position(|rule| rule.name() == BEFORE_JOIN_ORDER).map_or(rules.len(), |at| at + 1);
    rules.insert(at, Arc::new(join_order::JoinOrder));
    let rules = &mut state.physical_optimizers().get_or_insert_with(PhysicalOptimizer::new).rules;
    for rule in rules.iter_mut().filter(|rule| rule.name().starts_with(FILTERS)) {
        *rule = Arc::new(duplicate_names::FilterBarrierRule(Arc::clone(rule)));
    }
    state.with_physical_optimizer_rule(Arc::new(filters::OrderedFilters))
}
