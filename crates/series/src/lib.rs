//! SQL for time series that DataFusion does not have: calendar buckets in a time zone, the last point, gap filling,
//! ASOF joins and energy. docs/series.md has examples of each.
//!
//! The functions are pure: they read no table and no clock.

pub mod asof;
pub mod at_zone;
mod bucket;
mod calendar;
mod column;
mod energy;
pub mod first_row;
mod floor;
mod gapfill;
mod planner;
mod points;
mod resample;
mod truncate;
mod width;
mod zone;

pub use planner::extension_planner;

use std::sync::Arc;

use datafusion::execution::SessionStateBuilder;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};
use datafusion::optimizer::Optimizer;

/// Adds the functions, their optimizer rules and their planners to a session. Functions of DataFusion with the same
/// names are replaced.
pub fn with_functions(mut state: SessionStateBuilder) -> SessionStateBuilder {
    let [energy, mean_power] = energy::EnergyFunction::all();
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
    // Here a filter is still directly above its join: later rules put projections between.
    let pushed = rules.iter().position(|rule| rule.name() == "push_down_filter").map_or(1, |at| at + 1);
    rules.insert(pushed, Arc::new(asof::node::FilterBelowAsof));
    state
        .with_optimizer_rules(rules)
        .with_relation_planners(vec![Arc::new(asof::AsofPlanner)])
        .with_query_planner(Arc::new(planner::SeriesQueryPlanner))
}
