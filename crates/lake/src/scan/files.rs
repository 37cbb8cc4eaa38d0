//! The files of a table at one version, as a query plans with them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use chrono::DateTime;
use datafusion::common::Statistics;
use deltalake::kernel::DeletionVectorDescriptor;
use object_store::ObjectMeta;
use object_store::path::Path;

use super::bounds;
use crate::error::{Context, Error, Kind, Result};
use crate::table::Table;

pub(crate) struct Files {
    pub(super) schema: SchemaRef,
    pub(super) files: Vec<File>,
    pub(super) total: Statistics,
}

/// A data file of the log.
pub(crate) struct File {
    /// By its path within the lake.
    pub(super) object: ObjectMeta,
    /// With those that its vector hides.
    pub(super) rows: usize,
    pub(super) vector: Option<DeletionVectorDescriptor>,
    pub(super) statistics: Arc<Statistics>,
}

impl File {
    pub(super) fn rows_visible(&self) -> usize {
        self.rows - hidden(self.vector.as_ref()).min(self.rows)
    }
}

fn hidden(vector: Option<&DeletionVectorDescriptor>) -> usize {
    vector.map_or(0, |vector| usize::try_from(vector.cardinality).unwrap_or_default())
}

impl Files {
    pub(crate) fn of(table: &Table) -> Result<Files> {
        let context = || format!("read the files of {}", table.name());
        let schema = viewed(table.schema()?.as_ref());
        let folder = table.lake.table_path(table.name());
        let mut files = Vec::new();
        for file in table.delta.snapshot().context(context())?.log_data().iter() {
            let path = file.path();
            let Some(rows) = file.num_records() else {
                let context = format!("{}: {path} is in its log without a number of rows", context());
                return Err(Error::new(Kind::FixInput, context));
            };
            let vector = file.deletion_vector_descriptor();
            let statistics = bounds::of(&schema, &file, rows, hidden(vector.as_ref()));
            let object = ObjectMeta {
                location: Path::from(format!("{folder}/{path}")),
                last_modified: DateTime::from_timestamp_millis(file.modification_time()).unwrap_or_default(),
                size: file.size().unsigned_abs(),
                e_tag: None,
                version: None,
            };
            files.push(File { object, rows, vector, statistics: Arc::new(statistics) });
        }
        let total = Statistics::try_merge_iter(files.iter().map(|file| file.statistics.as_ref()), &schema);
        Ok(Files { total: total.context(context())?, schema, files })
    }
}

/// Texts and bytes as views: the reader hands them on without copying.
fn viewed(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| match field.data_type() {
        DataType::Utf8 => Arc::new(Field::clone(field).with_data_type(DataType::Utf8View)),
        DataType::Binary => Arc::new(Field::clone(field).with_data_type(DataType::BinaryView)),
        _ => Arc::clone(field),
    });
    Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone()))
}
