//! The lake: Delta tables on a folder or an object store. The only crate that names deltalake.
//!
//! One way through for writes: a [`FileWriter`] makes data files, a [`Commit`] makes them part of
//! the table together with the rows they replace and the position they bring it to. One way
//! through for reads: [`Table::provider`]. Nothing here knows where rows come from.

mod changes;
mod commit;
mod deletion;
mod error;
mod find;
mod location;
mod pack;
mod ranges;
mod rewrite;
mod scan;
mod states;
mod stats;
mod table;
mod upkeep;
mod writer;

pub use changes::Changes;
pub use commit::{Commit, RETENTION_DAYS};
pub use deletion::Hidden;
pub use error::{Error, Kind, Result};
pub use find::{Found, Keys, Orders, orders_of};
pub use location::{Lake, TableName};
pub use pack::{Pack, Packed};
pub use rewrite::{conform, widens};
pub use table::{Size, Table, Version, When};
pub use upkeep::{Life, Policy, Report, TableReport, Vacuumed};
pub use writer::{DataFile, FileWriter};

#[cfg(test)]
mod tests;
