//! Plans of queries over many tables that DataFusion does not find by itself. A rule here never
//! changes what a query returns, only what it costs; docs/decisions/0017-joins.md has the measurements.

mod duplicate_names;
mod filters;
mod join_order;
mod shared;

use std::sync::Arc;

use datafusion::execution::SessionStateBuilder;
use datafusion::optimizer::Optimizer;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;

pub use shared::{SharedPlanner, shared};

/// The rule that knows all conditions of the joins, and after which projections come between them.
const BEFORE_JOIN_ORDER: &str = "push_down_filter";

/// The rules that hand filters down begin so.
const FILTERS: &str = "FilterPushdown";

/// Adds the rules to a session.
pub fn planned(mut state: SessionStateBuilder) -> SessionStateBuilder {
    let rules = &mut state.optimizer().get_or_insert_with(Optimizer::new).rules;
    let at = rules.iter().position(|rule| rule.name() == BEFORE_JOIN_ORDER).map_or(rules.len(), |at| at + 1);
    rules.insert(at, Arc::new(join_order::JoinOrder));
    let rules = &mut state.physical_optimizers().get_or_insert_with(PhysicalOptimizer::new).rules;
    for rule in rules.iter_mut().filter(|rule| rule.name().starts_with(FILTERS)) {
        *rule = Arc::new(duplicate_names::WithBarriers(Arc::clone(rule)));
    }
    state.with_physical_optimizer_rule(Arc::new(filters::OrderedFilters))
}
