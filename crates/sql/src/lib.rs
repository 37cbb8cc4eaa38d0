//! SQL over the lake, in PostgreSQL's dialect: time travel, views, system tables and output formats.
//!
//! Sessions only read. They read the lake through [`lake::Table::provider`] and Wattlake's own state through
//! [`SystemTables`]. The crate writes no table and prints nothing: results go to a writer that the caller gives.

pub mod catalog;
pub mod cells;
mod completions;
pub mod complexity;
mod engine;
pub mod error;
pub mod frontend;
mod grammar;
pub mod instant;
pub mod literals;
mod mart_query;
pub mod marts;
mod numbers;
pub mod output;
pub mod plan;
mod predict;
pub mod roles;
mod row_filter;
mod row_model;
pub mod schemas;
mod semantics;
pub mod session;
pub mod snapshot;
pub mod statement;
pub mod system;
mod timestamp_text;
pub mod values;

pub use engine::Limits;
pub use error::{Error, Kind, Result};
pub use mart_query::{AffectedRows, MartQuery};
pub use marts::{Reference, Views, references};
pub use roles::{ColumnFilter, Role};
pub use row_model::RowModel;
pub use session::Session;
pub use snapshot::DeclaredTables;
pub use system::{SystemTableReference, SystemTables, system_table_reference};

#[cfg(any(test, feature = "testing"))]
pub mod testing;

#[cfg(test)]
mod tests;
