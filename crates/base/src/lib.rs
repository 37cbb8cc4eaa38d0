//! What every crate needs and none owns: errors that say what the caller can do, problems with a
//! place in a file, the nearest known name, and the forms of durations and sizes.
//!
//! It knows nothing of any crate above it, reads no file and prints nothing.

mod error;
mod nearest;
mod problem;
mod quantity;
pub mod text;

pub use error::{Error, ErrorContext, Kind, Result, Source, chain};
pub use nearest::{nearest, quoted_list, suggestion};
pub use problem::{Problem, Problems, position};
pub use quantity::{DURATION_HINT, parse_bytes, parse_duration};
