//! From the platform's PostgreSQL to its targets, with nothing lost on the way.
//!
//! Reading order: [`plan`] says what is carried, [`read`] brings it in, [`decode`] turns it into
//! Arrow, [`target`] puts it in place, [`late`] sees to rows that are committed late, [`run`] is
//! the story from start to end. Never prints, never reads the environment, never asks a user.

pub mod error;

pub mod run;

pub mod carry;
pub mod hand_over;
mod probe;
pub mod resume;

pub mod carried;
pub mod checkpoint;
pub mod cursor;
pub mod dms;
pub mod plan;
pub mod settings;
pub mod timeline;

pub mod postgres;

pub mod decode;
pub mod late;
pub mod read;
pub mod target;

pub mod preflight;
pub mod validate;
pub mod via;

pub use error::{Error, Kind, Result};

#[cfg(test)]
mod tests;
