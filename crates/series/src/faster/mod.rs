//! Plans that DataFusion would not find: "the newest row of each series", however it is written,
//! is one pass over the rows with one row held for each series, not a sort of all of them.
//!
//! A rule here never changes what a query returns; where rows tie, SQL lets any of them be first.

mod first_row;
mod first_values;
mod keys;
mod rank_one;

use std::sync::Arc;

use datafusion::execution::SessionStateBuilder;
use datafusion::functions::core::expr_fn::get_field;
use datafusion::logical_expr::Expr;

/// Adds the rules to a session, after DataFusion's own.
pub fn planned(state: SessionStateBuilder) -> SessionStateBuilder {
    state.with_optimizer_rule(Arc::new(first_values::FirstValues)).with_optimizer_rule(Arc::new(rank_one::RankOne))
}

/// A column of the row that was first.
fn part(row: &Expr, at: usize) -> Expr {
    get_field(row.clone(), first_row::field_name(at))
}
