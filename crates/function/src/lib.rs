//! Runs functions with AWS Lambda's interfaces, without Docker: zips and layers stored by their hash, sandboxes, the
//! Runtime API for the functions and the Invoke API for their callers. The same zips run here and on AWS Lambda.
//!
//! A function reaches the Runtime API and what its configuration allows, and nothing else.

mod error;

pub mod definition;

pub mod store;

pub mod registry;

pub mod host;

pub mod event_queue;

pub mod invoke;

pub use error::{Error, Kind, Result};
