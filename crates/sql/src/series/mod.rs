//! What people do with series in SQL and DataFusion lacks: calendar buckets in a time zone, the
//! last point, gap filling, ASOF joins, energy. docs/series.md shows each at work.
//!
//! The functions are pure: they read no table and no clock.

mod bucket;
mod calendar;
mod column;
mod floor;
mod points;
mod truncate;
mod width;
mod zone;

use datafusion::execution::SessionStateBuilder;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};

/// Adds them all to a session. Those of DataFusion with the same names are replaced.
pub(crate) fn registered(mut state: SessionStateBuilder) -> SessionStateBuilder {
    let scalars = [ScalarUDF::from(bucket::TimeBucket::default()), ScalarUDF::from(truncate::DateTrunc::default())];
    let aggregates = [AggregateUDF::from(points::Point::first()), AggregateUDF::from(points::Point::last())];
    for scalar in scalars {
        state.scalar_functions().get_or_insert_default().push(scalar.into());
    }
    for aggregate in aggregates {
        state.aggregate_functions().get_or_insert_default().push(aggregate.into());
    }
    state
}
