//! The source side: where servers are, what they hold, and how their rows come out.

pub mod catalog;
pub mod endpoint;
mod pooling;
pub mod snapshot;
pub mod wire;

pub use catalog::{Catalog, Column, Identity, Sequence, Table, TableKind};
pub use endpoint::{Endpoint, LOCK_TIMEOUT};
pub use snapshot::Snapshot;

/// An identifier, quoted.
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text literal, quoted; safe whatever `standard_conforming_strings` says.
pub fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!(" E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}
