//! Errors of streams.

pub use base::{Error, ErrorContext as Context, Kind, Result};
