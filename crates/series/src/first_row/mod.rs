//! Optimizer rules for "the newest row of each series": however a query says it, it becomes one pass over the rows,
//! with one row in memory for each series, and not a sort of all rows.
//!
//! No rule changes what a query returns; of rows that are equal in the order, SQL lets any be the first.

mod aggregate;
mod first_values;
mod keys;
mod rank_one;

use std::sync::Arc;

use datafusion::execution::SessionStateBuilder;
use datafusion::functions::core::expr_fn::get_field;
use datafusion::logical_expr::Expr;

/// Adds the rules to a session, after DataFusion's own.
pub fn with_rules(state: SessionStateBuilder) -> SessionStateBuilder {
    state.with_optimizer_rule(Arc::new(first_values::FirstValues)).with_optimizer_rule(Arc::new(rank_one::RankOne))
}

/// A kept column of the first row.
fn field_of(row: &Expr, at: usize) -> Expr {
    get_field(row.clone(), aggregate::field_name(at))
}
