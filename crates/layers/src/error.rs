//! The error that all crates share, under the names that this one uses.

pub(crate) use base::ErrorContext;
pub use base::{Error, Kind, Result};

/// The end of a program's output, for an error's message.
pub(crate) fn end_of(output: &[u8]) -> String {
    const BYTES_MAX: usize = 2000;
    let output = String::from_utf8_lossy(output);
    let from = output.char_indices().map(|(at, _)| at).find(|at| output.len() - at <= BYTES_MAX).unwrap_or(0);
    output[from..].trim().to_owned()
}
