//! Reads whole rows with their places, so that a caller can hide some of them and write others in their stead.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use parquet::arrow::ParquetRecordBatchStreamBuilder;
use roaring::RoaringTreemap;

use crate::deletion::HiddenRows;
use crate::error::{Context, Error, Result};
use crate::object_reader::ObjectReader;
use crate::table::Table;
use crate::writer::DataFile;

/// Visible rows of one data file.
pub struct PositionedRows {
    /// The data file, relative to the table's root.
    pub path: Arc<str>,
    /// The positions of the rows in the file, from 0.
    pub positions: Vec<u64>,
    /// The rows, with the columns that the file has.
    pub rows: RecordBatch,
}

impl Table {
    /// The rows of the table and of files that are not committed yet, without those in `excluded`, a batch at a time.
    pub async fn read_positioned(
        &self,
        uncommitted: &[DataFile],
        excluded: &HiddenRows,
    ) -> Result<BoxStream<'static, Result<PositionedRows>>> {
        let mut files = Vec::new();
        for file in self.delta.snapshot().context(format!("read the files of {}", self.name))?.log_data().iter() {
            let mut hidden = HiddenRows::of_file(self, &file).await?.unwrap_or_default();
            hidden |= excluded.of(&file.path());
            files.push((Arc::<str>::from(file.path().as_ref()), file.size().unsigned_abs(), hidden));
        }
        for file in uncommitted {
            files.push((Arc::from(file.path.as_str()), file.bytes, excluded.of(&file.path)));
        }
        let table = self.clone();
        let opened = stream::iter(files).then(move |(path, bytes, hidden)| {
            let table = table.clone();
            async move { table.read_file(path, bytes, hidden).await }
        });
        Ok(opened.try_flatten().boxed())
    }

    async fn read_file(
        &self,
        path: Arc<str>,
        bytes: u64,
        hidden: RoaringTreemap,
    ) -> Result<BoxStream<'static, Result<PositionedRows>>> {
        let context = format!("read rows of {path} of {}", self.name);
        let reader = ObjectReader::new(self.store(), Path::from(path.as_ref()), bytes);
        let builder = ParquetRecordBatchStreamBuilder::new(reader).await.context(&context)?;
        let batches = builder.with_batch_size(16_384).build().context(&context)?;
        let mut next = 0u64;
        let visible = batches.map(move |batch| {
            let batch = batch.context(&context)?;
            let first = next;
            next += batch.num_rows() as u64;
            let is_visible: Vec<bool> = (first..next).map(|at| !hidden.contains(at)).collect();
            let positions = (first..next).zip(&is_visible).filter_map(|(at, visible)| visible.then_some(at)).collect();
            let rows = filter_record_batch(&batch, &BooleanArray::from(is_visible)).context(&context)?;
            Ok::<_, Error>(PositionedRows { path: Arc::clone(&path), positions, rows })
        });
        Ok(visible.boxed())
    }
}
