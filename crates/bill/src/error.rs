//! The error that all crates share, under the names that this one uses.

pub(crate) use base::ErrorContext;
pub use base::{Error, Kind, Result};
