//! Layers made of what this machine has: a language's runtime and its packages as zips that run
//! here and on AWS Lambda alike.
//!
//! A layer carries all that it needs, down to the loader and the time zones: what runs in it is
//! never the host's by accident, or the same bill would differ from one machine to the next.
//! Nothing is fetched here, and nothing is built but a user's own source package; nothing is run
//! but the language itself, to compile.

mod error;

mod below;
mod elf;
mod ground;
mod pack;

pub mod r;

pub mod python;

pub use error::{Error, Kind, Result};
pub use pack::{DIRECT_UPLOAD_BYTES_MAX, Manifest, Packed, Part};
