//! The data files of a version of a table, with what query planning needs.

use std::sync::{Arc, OnceLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use chrono::DateTime;
use datafusion::common::Statistics;
use datafusion::datasource::physical_plan::parquet::ParquetRowSelection;
use deltalake::DeltaTable;
use deltalake::kernel::DeletionVectorDescriptor;
use object_store::ObjectMeta;
use object_store::path::Path;
use roaring::RoaringTreemap;

use super::bounds;
use super::cache::VisibleRows;
use crate::error::{Context, Error, Kind, Result};
use crate::table_name::TableName;

/// The data files of a version of a table.
pub(crate) struct Files {
    /// The schema that queries see.
    pub(super) schema: SchemaRef,
    /// The files.
    pub(crate) files: Vec<File>,
    /// The statistics of all files together.
    pub(super) total: Statistics,
}

/// The files of a version, decoded when they are first needed.
pub(crate) type KnownFiles = Arc<OnceLock<Arc<Files>>>;

/// A data file.
#[derive(Clone)]
pub(crate) struct File {
    /// The path in the log, relative to the table's root.
    pub(crate) path: String,
    /// The object, by its path in the lake.
    pub(super) object: ObjectMeta,
    /// The number of rows, including hidden ones.
    pub(super) rows: usize,
    /// Its deletion vector.
    pub(crate) vector: Option<DeletionVectorDescriptor>,
    /// The rows to read, in place of those that the vector leaves visible.
    pub(super) picked: Option<ParquetRowSelection>,
    /// Its statistics.
    pub(super) statistics: Arc<Statistics>,
}

impl File {
    /// The size of the file.
    pub(crate) fn bytes(&self) -> u64 {
        self.object.size
    }

    /// The number of rows, including hidden ones.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// The number of hidden rows.
    pub(crate) fn rows_hidden(&self) -> usize {
        hidden(self.vector.as_ref()).min(self.rows)
    }

    /// The number of visible rows.
    pub(crate) fn rows_visible(&self) -> usize {
        self.rows - self.rows_hidden()
    }

    /// The file restricted to these rows; `None` where there are none.
    pub(crate) fn picked(&self, rows: RoaringTreemap) -> Option<File> {
        if rows.is_empty() {
            return None;
        }
        let mut others = RoaringTreemap::new();
        others.insert_range(0..self.rows as u64);
        others -= rows;
        let picked = Some(VisibleRows::of(&others, self.rows).selection());
        // The file's bounds are valid for a part of its rows, its counts are not.
        let statistics = Arc::new(self.statistics.as_ref().clone().to_inexact());
        Some(File { picked, statistics, ..self.clone() })
    }
}

fn hidden(vector: Option<&DeletionVectorDescriptor>) -> usize {
    vector.map_or(0, |vector| usize::try_from(vector.cardinality).unwrap_or_default())
}

impl Files {
    /// The files of a table's version, from its log. `folder` is the table's, relative to the lake.
    pub(crate) fn of(delta: &DeltaTable, name: &TableName, folder: &Path, schema: &Schema) -> Result<Files> {
        let context = || format!("read the files of {name}");
        let schema = with_views(schema);
        let mut files = Vec::new();
        for file in delta.snapshot().context(context())?.log_data().iter() {
            let path = file.path();
            let Some(rows) = file.num_records() else {
                let context = format!("{}: the log has no number of rows for {path}", context());
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
    /// The same with only these files.
    pub(super) fn only(&self, files: &[File]) -> datafusion::error::Result<Files> {
        let total = Statistics::try_merge_iter(files.iter().map(|file| file.statistics.as_ref()), &self.schema)?;
        Ok(Files { schema: Arc::clone(&self.schema), files: files.to_vec(), total })
    }
}

/// The schema with texts and bytes as views, which the reader returns without copying.
fn with_views(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| match field.data_type() {
        DataType::Utf8 => Arc::new(Field::clone(field).with_data_type(DataType::Utf8View)),
        DataType::Binary => Arc::new(Field::clone(field).with_data_type(DataType::BinaryView)),
        _ => Arc::clone(field),
    });
    Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone()))
}
