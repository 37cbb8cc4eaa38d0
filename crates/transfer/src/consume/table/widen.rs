//! Columns whose type has changed.

use std::sync::Arc;

use super::{ConsumedTable, RowsWriter, TableLock};
use crate::consume::ConsumeRequest;
use crate::consume::rows::schema_of;
use crate::destination::deleted_rows::without_deleted_at;
use crate::error::{Context, Result};

impl ConsumedTable {
    /// Rewrites the rows of the lake where columns of the definition have wider types than in the lake. What is collected must be
    /// committed.
    pub(super) fn widen(&mut self, request: &ConsumeRequest) -> Result<()> {
        let Some(RowsWriter::Lake(writer)) = &mut self.writer else { return Ok(()) };
        let _lock = TableLock::take(&self.lock)?;
        // Another worker may have rewritten them since.
        writer.reload()?;
        let present = writer.schema();
        let declared = schema_of(&self.definition);
        let wider = |field: &Arc<arrow::datatypes::Field>| match declared.field_with_name(field.name()) {
            Ok(now) if lake::widens(field.data_type(), now.data_type()) => Arc::new(now.clone()),
            _ => Arc::clone(field),
        };
        let fields: Vec<_> = present.fields().iter().map(wider).collect();
        let schema = Arc::new(arrow::datatypes::Schema::new_with_metadata(fields, present.metadata().clone()));
        if without_deleted_at(&schema) == without_deleted_at(&present) {
            return Ok(());
        }
        let context = || format!("apply the new types of {}", self.name);
        let (table, run) = (writer.table().clone(), &request.run);
        let widened = self.runtime.block_on(async {
            let files = table.rewrite(run, Arc::clone(&schema), None).await?;
            table.replace_files(run, "widen", schema).files(files).write().await?;
            table.reload().await
        });
        writer.set_table(widened.context(context())?)
    }
}
