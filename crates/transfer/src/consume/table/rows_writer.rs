//! Where the rows of a table are written.

use std::sync::Arc;

use arrow::datatypes::Schema;
use stream::message::TableDefinition;
use tokio::runtime::Handle;

use super::lake_table::matching;
use crate::changes::chunk::Chunk;
use crate::changes::table_writer::{Applied, TableWriter};
use crate::consume::postgres_table::PostgresTable;
use crate::consume::rows::schema_of;
use crate::error::{Context, Kind, Result};
use crate::settings::Deletes;

/// A table of the lake, or of another PostgreSQL.
pub enum RowsWriter {
    /// Of the lake.
    Lake(Box<TableWriter>),
    /// Of a PostgreSQL.
    Postgres(Box<PostgresTable>),
}

impl RowsWriter {
    /// A position that was committed with the table's rows.
    pub fn position(&self, name: &str, runtime: &Handle) -> Result<Option<i64>> {
        match self {
            RowsWriter::Lake(writer) => {
                runtime.block_on(writer.table().position(name)).context("read the table's position")
            }
            RowsWriter::Postgres(table) => table.position(name),
        }
    }

    /// Follows a definition with further columns. Nothing of the columns `wider`, whose types are wider, may wait.
    /// Nothing may wait of a table that `is_rekeyed`, either.
    pub fn define(
        &mut self,
        definition: &TableDefinition,
        wider: &[String],
        is_rekeyed: bool,
        deletes: Deletes,
    ) -> Result<()> {
        let writer = match self {
            RowsWriter::Postgres(table) => return table.define(definition, wider, is_rekeyed),
            RowsWriter::Lake(writer) => writer,
        };
        writer.set_matching(matching(definition, deletes));
        writer.finish_files()?;
        let (present, declared) = (writer.schema(), schema_of(definition));
        let is_new = |field: &&Arc<arrow::datatypes::Field>| present.column_with_name(field.name()).is_none();
        if declared.fields().iter().any(|field| is_new(&field)) {
            let added = declared.fields().iter().filter(is_new);
            let fields: Vec<_> = present.fields().iter().chain(added).cloned().collect();
            writer.add_columns(Arc::new(Schema::new(fields)))?;
        }
        Ok(())
    }

    /// Whether something waits for a commit.
    pub fn has_uncommitted(&self) -> bool {
        match self {
            RowsWriter::Lake(writer) => writer.has_uncommitted(),
            RowsWriter::Postgres(table) => table.has_changes(),
        }
    }

    /// Reads the table again, where no rows wait for a commit: another worker may have committed it.
    pub fn reload(&mut self) -> Result<()> {
        match self {
            RowsWriter::Lake(writer) if !writer.has_changes() => writer.reload(),
            RowsWriter::Lake(_) | RowsWriter::Postgres(_) => Ok(()),
        }
    }

    /// Applies changes; nothing is visible before the commit.
    pub fn apply(&mut self, chunk: Chunk) -> Result<()> {
        match self {
            RowsWriter::Lake(writer) => writer.apply(&chunk),
            RowsWriter::Postgres(table) => {
                table.apply(chunk);
                Ok(())
            }
        }
    }

    /// Commits what was applied, with positions by their names, each with the one before.
    pub fn commit_at(&mut self, positions: Vec<(String, i64, i64)>) -> Result<Applied> {
        match self {
            RowsWriter::Postgres(table) => table.commit_at(positions),
            RowsWriter::Lake(writer) => {
                let positions = positions.into_iter().map(|(name, position, _)| (name, position)).collect();
                // On another machine, a worker may have committed since: then all of it is read and applied again.
                writer.commit_at(positions).map_err(|error| match (error.kind, error.state) {
                    (Kind::Retry, None) => error.state("commit-lost"),
                    _ => error,
                })
            }
        }
    }
}
