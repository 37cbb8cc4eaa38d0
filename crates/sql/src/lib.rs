//! SQL over the lake: PostgreSQL's manner, time travel, system tables and output formats.
//!
//! Sessions only read. They see the lake through [`lake::Table::provider`] and everything that
//! Wattlake knows about itself through [`SystemTables`]; nothing here writes a table, and nothing
//! here prints: results go to a writer that the caller gives.

mod catalog;
mod cells;
mod completions;
mod dialect;
mod error;
mod faster;
mod filtered;
mod instant;
mod literals;
mod marts;
mod numbers;
pub mod output;
mod prepared;
mod roles;
mod series;
mod session;
mod statement;
mod system;
mod view;
pub mod wire;

pub use error::{Error, Kind, Result};
pub use marts::{Reference, Views, references};
pub use prepared::{Affected, Query};
pub use roles::Role;
pub use session::{Limits, Session};
pub use system::SystemTables;

#[cfg(test)]
mod tests;
