//! An energy aggregator's operational platform, made up: a PostgreSQL to transfer from, for the
//! demo, the end-to-end tests and the benchmarks.
//!
//! What a seed gives, it gives again: the same seed and scale make the same rows, and the days
//! that [`live_a_day`] adds continue the same weather. Curves are believable (no sun at night, prices
//! that fall when it shines, forecasts that worsen with the horizon), so that what is computed on
//! them can be looked at, but no number comes from a real plant.
//!
//! All instants are UTC; powers are kW, energies Wh, prices EUR/MWh.
//!
//! This crate never drops what it did not create: [`create`] fails where the schema exists; only
//! the two tables of schema `bench` are replaced.

mod error;
mod scale;

mod calendar;
mod random;

mod hydro;
mod sun;
mod weather;
mod wind;

mod fleet;
mod market;
mod output;
mod registry;

mod fast;
mod forecasts;
mod readings;

mod copy;
mod schema;
mod tables;

mod bench;
mod day;
mod fill;

pub mod billing;

#[cfg(test)]
mod tests;

pub use bench::{bench_measures, bench_wide};
pub use day::{Changes, TableChanges, live_a_day};
pub use error::{Error, Kind, Result};
pub use fill::{connect, fill};
pub use scale::Scale;
pub use schema::create;
