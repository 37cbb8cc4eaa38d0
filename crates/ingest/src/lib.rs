//! Reads what others deliver, files and answers of HTTP APIs: fetches them from their source, stores them as
//! objects by their hash, reads their rows by a layout, and makes entries of the rows that correct earlier ones.
//!
//! Each step can be repeated after a crash: an object that exists is not written twice, reading
//! changes nothing, and entries are computed from those that the table has.
//!
//! This crate never commits to a table: it returns Arrow batches and whether the file is accepted.

mod error;
mod number;

pub mod api;
pub mod source;

pub mod archive;
pub mod arrivals;
pub mod fetch;
pub mod objects;

pub mod guess;
pub mod layout;
pub mod read;

pub mod load;

pub use error::{Error, Kind, Result};
