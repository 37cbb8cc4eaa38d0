//! The work of a task: it applies a chunk to a table and, between transactions, commits it.

use super::chunk::CollectedChunk;
use super::projection::Projector;
use super::table_writer::{Applied, TableWriter};
use crate::error::Result;
use crate::lsn::Lsn;

/// The writer of a task that applied a chunk.
pub struct AppliedChunk {
    /// The writer.
    pub writer: Box<TableWriter>,
    /// The position up to which it has committed.
    pub committed: Option<(Lsn, Applied)>,
}

/// Applies a chunk, and commits where `position` is present. It blocks.
pub fn apply(
    mut writer: Box<TableWriter>,
    chunk: CollectedChunk,
    projector: &Projector,
    position: Option<Lsn>,
) -> Result<AppliedChunk> {
    let chunk = chunk.resolve(projector)?;
    if !chunk.operations.is_empty() {
        writer.apply(&chunk)?;
    }
    let committed = match position {
        Some(position) => Some((position, writer.commit(position)?)),
        None => None,
    };
    Ok(AppliedChunk { writer, committed })
}
