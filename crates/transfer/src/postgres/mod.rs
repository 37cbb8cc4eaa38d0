//! Access to PostgreSQL servers: connections, the catalogue, snapshots and COPY.

pub mod catalog;
pub mod endpoint;
mod parameter;
mod pooling;
pub mod replication;
mod server_error;
pub mod snapshot;
mod socket;
pub mod wire;

pub(crate) use catalog::display as catalog_display;
pub use catalog::{Catalog, Column, Identity, Leaf, Sequence, Table, TableKind};
pub use endpoint::{Endpoint, LOCK_TIMEOUT};
pub(crate) use parameter::Parameter;
pub use snapshot::Snapshot;

/// A quoted identifier.
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A quoted text literal with the same value under both settings of `standard_conforming_strings`.
pub fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!(" E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}
