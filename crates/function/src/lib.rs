//! Functions behind AWS Lambda's contracts: zips and layers by their hash, sandboxes without
//! Docker, the Runtime API inside and the Invoke API outside. The same zips run here and there.
//!
//! A function reaches its runtime's API and what its configuration allows, nothing else.

mod error;

pub mod definition;

pub mod store;

pub mod registry;

pub mod sandbox;

pub mod host;

pub mod deferred;

pub mod invoke;

pub use error::{Error, Kind, Result};
