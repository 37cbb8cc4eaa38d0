//! SQL over the lake: PostgreSQL's manner, time travel, system tables and output formats.
//!
//! Sessions only read. They see the lake through [`lake::Table::provider`] and everything that
//! Wattlake knows about itself through [`SystemTables`]; nothing here writes a table, and nothing
//! here prints: results go to a writer that the caller gives.

pub mod catalog;
pub mod cells;
mod completions;
pub mod complexity;
pub mod error;
mod filtered;
pub mod frontend;
mod grammar;
pub mod instant;
pub mod literals;
pub mod marts;
mod numbers;
pub mod output;
mod prepared;
pub mod roles;
mod semantics;
pub mod session;
mod shown;
pub mod statement;
pub mod system;
pub mod values;
pub mod view;

pub use error::{Error, Kind, Result};
pub use marts::{Reference, Views, references};
pub use prepared::{Affected, Query};
pub use roles::Role;
pub use session::{Limits, Session};
pub use system::SystemTables;

#[cfg(any(test, feature = "testing"))]
pub mod testing;

#[cfg(test)]
mod tests;
