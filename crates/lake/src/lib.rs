//! The lake: Delta tables in a folder or an object store. This is the only crate that uses deltalake.
//!
//! All writes go through a [`FileWriter`], which makes data files, and a [`Commit`], which adds them to a
//! table together with the rows that they replace and the table's new position. All reads go through
//! [`Table::provider`]. This crate does not know where rows come from.

mod changes;
mod commit;
mod compact;
mod deletion;
mod error;
mod fetch_rows;
mod find;
mod key_set;
mod location;
mod object_reader;
mod pack;
mod positioned_rows;
mod record;
mod rewrite;
pub mod row_history;
mod scan;
mod stats;
mod store_probe;
mod table;
mod table_cache;
mod table_name;
mod upkeep;
mod writer;

pub use changes::TableChanges;
pub use commit::{Commit, RETENTION_DAYS};
pub use deletion::HiddenRows;
pub use error::{Error, Kind, Result};
pub use find::{FoundRow, OrderColumns, order_digests};
pub use key_set::KeySet;
pub use location::Lake;
pub use pack::{PackOptions, PackSummary};
pub use positioned_rows::PositionedRows;
pub use rewrite::{conform, widens};
pub use table::{AsOf, HistoryEntry, Table, TableSize};
pub use table_name::TableName;
pub use upkeep::{RunLiveness, TableUpkeepReport, UpkeepPolicy, UpkeepReport, VacuumSummary};
pub use writer::{DataFile, FileWriter};

#[cfg(test)]
mod tests;
