//! Functions behind AWS Lambda's contracts: zips and layers by their hash, sandboxes without
//! Docker, the Runtime API inside and the Invoke API outside. The same zips run here and there.
//!
//! A function reaches its runtime's API and what its configuration allows, nothing else.

mod error;

pub mod store;

pub mod sandbox;

pub mod host;

pub use error::{Error, Kind, Result};
