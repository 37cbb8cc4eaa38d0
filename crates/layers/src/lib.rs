//! Packs layers from what is installed on this machine: a language's runtime and its packages, as zips that run
//! here and on AWS Lambda.
//!
//! A layer contains everything that it needs, down to the loader and the time zones. It never uses files of its
//! host by accident; otherwise the same bill could differ from one machine to the next. This crate downloads
//! nothing, builds only a user's own source package, and runs only the language itself, to compile.

mod error;

mod base_layers;
mod elf;
mod pack;
mod runtime_files;

pub mod r;

pub mod python;

pub use error::{Error, Kind, Result};
pub use pack::{DIRECT_UPLOAD_BYTES_MAX, Manifest, PackedLayer, Part};
