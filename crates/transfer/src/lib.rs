//! Copies tables of a PostgreSQL source into a lake or into another PostgreSQL, without losing or repeating a row.
//!
//! Reading order: [`plan`] decides which tables and columns are transferred, [`read`] reads their rows, [`decode`]
//! turns them into Arrow, [`target`] writes them, [`late`] finds rows that are committed late, and [`run`] executes a
//! transfer from start to end. The crate never prints, never reads the environment, and never asks the user a question.

pub mod error;

pub mod run;

pub mod hand_over;
mod probe;
mod request;
pub mod resume;
pub mod table_transfer;

pub mod checkpoint;
pub mod cursor;
pub mod dms;
pub mod plan;
pub mod settings;
pub mod timeline;
pub mod type_map;

pub mod lsn;

pub mod postgres;

pub mod decode;
pub mod destination;
pub mod late;
pub mod read;

pub mod changes;
pub mod consume;
pub mod publish;

pub mod base_backup;
pub mod preflight;
pub mod validate;

pub use error::{Error, Kind, Result};

#[cfg(test)]
mod tests;
