//! What people do with series in SQL and DataFusion lacks: calendar buckets in a time zone, the
//! last point, gap filling, ASOF joins, energy. docs/series.md shows each at work.
//!
//! The functions are pure: they read no table and no clock.

pub mod asof;
pub mod at_zone;
mod bucket;
mod calendar;
mod column;
mod energy;
pub mod faster;
mod floor;
mod gapfill;
mod planner;
mod points;
mod resample;
mod truncate;
mod width;
mod zone;

pub use planner::operators;

use std::sync::Arc;

use datafusion::execution::SessionStateBuilder;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};
use datafusion::optimizer::Optimizer;

/// Adds them all to a session. Those of DataFusion with the same names are replaced.
pub fn registered(mut state: SessionStateBuilder) -> SessionStateBuilder {
    let [energy, mean_power] = energy::ByStep::all();
    let scalars = [
        ScalarUDF::from(bucket::TimeBucket::default()),
        ScalarUDF::from(truncate::DateTrunc::default()),
        ScalarUDF::from(at_zone::AtZone::default()),
        ScalarUDF::from(energy),
        ScalarUDF::from(mean_power),
        ScalarUDF::from(resample::Resample::default()),
        ScalarUDF::from(resample::ExpectedPoints::default()),
    ];
    let aggregates = [AggregateUDF::from(points::Point::first()), AggregateUDF::from(points::Point::last())];
    for scalar in scalars {
        state.scalar_functions().get_or_insert_default().push(scalar.into());
    }
    for aggregate in aggregates {
        state.aggregate_functions().get_or_insert_default().push(aggregate.into());
    }
    for mark in gapfill::Mark::all() {
        state.scalar_functions().get_or_insert_default().push(ScalarUDF::from(mark).into());
    }
    let mut rules = Optimizer::new().rules;
    rules.insert(0, Arc::new(gapfill::rule::FillGaps));
    // While a filter still stands right above its join: later rules put projections between.
    let pushed = rules.iter().position(|rule| rule.name() == "push_down_filter").map_or(1, |at| at + 1);
    rules.insert(pushed, Arc::new(asof::node::FilterBelowAsof));
    state
        .with_optimizer_rules(rules)
        .with_relation_planners(vec![Arc::new(asof::AsofPlanner)])
        .with_query_planner(Arc::new(planner::SeriesQueries))
}
