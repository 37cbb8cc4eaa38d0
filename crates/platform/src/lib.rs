//! Generates the database of a fictitious energy aggregator's platform: a PostgreSQL source for the demo, the
//! end-to-end tests and the benchmarks.
//!
//! The same seed and scale generate the same rows, and the days that [`simulate_day`] adds continue the same weather.
//! The curves are plausible (no sun at night, prices that fall in sunshine, forecasts whose error grows with the
//! horizon), so that results computed from them are plausible too, but no number comes from a real plant.
//!
//! All instants are in UTC; powers are in kW, energies in Wh, prices in EUR/MWh.
//!
//! This crate never drops a schema or table that it did not create: [`create`] fails where the schema exists. Only the
//! two tables of the schema `bench` are replaced.

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
pub mod partner;

#[cfg(test)]
mod tests;

pub use bench::{bench_measures, bench_wide};
pub use day::{Changes, TableChanges, simulate_day};
pub use error::{Error, Kind, Result};
pub use fill::{connect, fill};
pub use scale::Scale;
pub use schema::create;
