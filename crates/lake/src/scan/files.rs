//! The files of a table at one version, as a query plans with them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use chrono::DateTime;
use datafusion::common::Statistics;
use datafusion::datasource::physical_plan::parquet::ParquetRowSelection;
use deltalake::kernel::DeletionVectorDescriptor;
use object_store::ObjectMeta;
use object_store::path::Path;
use roaring::RoaringTreemap;

use super::bounds;
use super::visible::Visible;
use crate::error::{Context, Error, Kind, Result};
use crate::table::Table;

pub(crate) struct Files {
    pub(super) schema: SchemaRef,
    pub(crate) files: Vec<File>,
    pub(super) total: Statistics,
}

/// A data file of the log.
#[derive(Clone)]
pub(crate) struct File {
    /// As the log has it.
    pub(crate) path: String,
    /// By its path within the lake.
    pub(super) object: ObjectMeta,
    /// With those that its vector hides.
    pub(super) rows: usize,
    pub(crate) vector: Option<DeletionVectorDescriptor>,
    /// Only these rows, whatever the vector says.
    pub(super) picked: Option<ParquetRowSelection>,
    pub(super) statistics: Arc<Statistics>,
}

impl File {
    pub(crate) fn bytes(&self) -> u64 {
        self.object.size
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn rows_hidden(&self) -> usize {
        hidden(self.vector.as_ref()).min(self.rows)
    }

    pub(crate) fn rows_visible(&self) -> usize {
        self.rows - self.rows_hidden()
    }

    /// The file as if it held only these of its rows; `None` where they are none.
    pub(crate) fn picked(&self, rows: RoaringTreemap) -> Option<File> {
        if rows.is_empty() {
            return None;
        }
        let mut others = RoaringTreemap::new();
        others.insert_range(0..self.rows as u64);
        others -= rows;
        let picked = Some(Visible::of(&others, self.rows).selection());
        // The file's bounds hold for some of its rows too, its counts do not.
        let statistics = Arc::new(self.statistics.as_ref().clone().to_inexact());
        Some(File { picked, statistics, ..self.clone() })
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
            files.push(File {
                path: path.into_owned(),
                object,
                rows,
                vector,
                picked: None,
                statistics: Arc::new(statistics),
            });
        }
        let total = Statistics::try_merge_iter(files.iter().map(|file| file.statistics.as_ref()), &schema);
        Ok(Files { total: total.context(context())?, schema, files })
    }
}

impl Files {
    /// Some files of a table, read as if they were all.
    pub(super) fn only(&self, files: &[File]) -> datafusion::error::Result<Files> {
        let total = Statistics::try_merge_iter(files.iter().map(|file| file.statistics.as_ref()), &self.schema)?;
        Ok(Files { schema: Arc::clone(&self.schema), files: files.to_vec(), total })
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
