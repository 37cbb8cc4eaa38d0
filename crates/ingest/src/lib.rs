//! Files in, rows out: what others send as files becomes objects under their hash, then rows that
//! hold to a layout, then entries that correct one another. Each step stands alone and can be taken
//! again after a crash: an object that is there is not written twice, a reading changes nothing, and
//! entries are computed from what the table has already.
//!
//! It never commits to a table: it hands over Arrow batches and says whether the file may be accepted.

mod error;
mod nearest;
mod number;

pub mod source;

pub mod arrivals;
pub mod fetch;
pub mod objects;

pub mod layout;
pub mod read;

pub mod load;

pub use error::{Error, Kind, Result};
