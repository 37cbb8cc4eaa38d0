//! Rows to Parquet files of a table. A file that is written is not yet part of the table: a
//! commit makes it so, and what no commit took up is swept by [`crate::upkeep`].
//!
//! The encoding of each column is chosen from its first rows: the same bytes cost less on disk
//! and less to write when a column of 500 series is a dictionary and one of instants a delta.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use hashbrown::HashSet;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, WriteMultipart};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;
use tokio::runtime::Handle;

use crate::error::{Context, Result};

/// A file is closed at this size, so that a reader prunes and several can share the work.
const FILE_BYTES: usize = 256 << 20;
/// A row group is held in memory until it is whole: this bounds a writer.
const GROUP_BYTES: usize = 16 << 20;
const GROUP_ROWS: usize = 1 << 20;
const PART_BYTES: usize = 5 << 20;
/// Distinct values are counted over so many rows.
const SAMPLE_ROWS: usize = 16_384;

/// A data file that no commit has taken up yet.
#[derive(Debug, Clone)]
pub struct DataFile {
    /// Relative to the table's root.
    pub path: String,
    pub bytes: u64,
    pub rows: u64,
    pub(crate) stats: String,
}

/// Where a writer puts its files.
#[derive(Clone)]
pub struct Destination {
    pub(crate) store: Arc<dyn ObjectStore>,
    /// Part of each file's name: upkeep tells by it whether the run that wrote it still lives.
    pub(crate) run: String,
    pub(crate) runtime: Handle,
}

/// Writes on the thread that calls it; only the store's own work is asynchronous.
pub struct FileWriter {
    to: Destination,
    schema: SchemaRef,
    group_rows: usize,
    open: Option<Open>,
    done: Vec<DataFile>,
}

struct Open {
    path: Path,
    writer: ArrowWriter<Upload>,
    bytes: u64,
}

impl FileWriter {
    pub(crate) fn new(to: Destination, schema: SchemaRef) -> Self {
        FileWriter { to, schema, group_rows: GROUP_ROWS, open: None, done: Vec::new() }
    }

    /// Row groups of so many rows at the most.
    #[cfg(test)]
    pub(crate) fn group_rows(mut self, rows: usize) -> Self {
        self.group_rows = rows;
        self
    }

    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        if self.open.is_none() {
            self.open = Some(self.start(batch)?);
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        open.writer.write(batch).context("write Parquet")?;
        if open.writer.in_progress_size() >= GROUP_BYTES || open.writer.in_progress_rows() >= self.group_rows {
            open.writer.flush().context("write a row group")?;
        }
        open.bytes = open.writer.bytes_written() as u64;
        if open.bytes >= FILE_BYTES as u64 {
            self.close()?;
        }
        Ok(())
    }

    /// Closes the last file and returns all of them.
    pub fn finish(mut self) -> Result<Vec<DataFile>> {
        self.close()?;
        Ok(std::mem::take(&mut self.done))
    }

    fn start(&self, first: &RecordBatch) -> Result<Open> {
        let path = Path::from(format!("part-{}-{}.zstd.parquet", self.to.run, uuid::Uuid::now_v7().simple()));
        let upload = self.to.runtime.block_on(self.to.store.put_multipart(&path)).context(format!("create {path}"))?;
        let inner = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        let upload = Upload { inner: Some(inner), runtime: self.to.runtime.clone() };
        let writer = ArrowWriter::try_new(upload, Arc::clone(&self.schema), Some(properties(first, self.group_rows)))
            .context("start a Parquet file")?;
        Ok(Open { path, writer, bytes: 0 })
    }

    fn close(&mut self) -> Result<()> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        let metadata = open.writer.finish().context("end a Parquet file")?;
        let bytes = open.writer.bytes_written() as u64;
        if let Some(inner) = open.writer.inner_mut().inner.take() {
            self.to.runtime.block_on(inner.finish()).context(format!("store {}", open.path))?;
        }
        self.done.push(DataFile {
            path: open.path.to_string(),
            bytes,
            rows: rows_of(&metadata),
            stats: crate::stats::of(&metadata, &self.schema)?,
        });
        Ok(())
    }
}

fn rows_of(metadata: &ParquetMetaData) -> u64 {
    metadata.file_metadata().num_rows().unsigned_abs()
}

/// Parquet's bytes on their way to the store, a few parts in flight at the most.
struct Upload {
    inner: Option<WriteMultipart>,
    runtime: Handle,
}

const PARTS_IN_FLIGHT: usize = 2;

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let Some(inner) = &mut self.inner else { return Err(std::io::ErrorKind::BrokenPipe.into()) };
        self.runtime.block_on(inner.wait_for_capacity(PARTS_IN_FLIGHT)).map_err(std::io::Error::other)?;
        // Parts are started as tasks, which need a runtime around them.
        let _inside = self.runtime.enter();
        inner.write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Chooses the encodings; see docs/decisions for the figures behind them.
fn properties(first: &RecordBatch, group_rows: usize) -> WriterProperties {
    let level = ZstdLevel::try_new(1).unwrap_or_default();
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(group_rows))
        .set_data_page_row_count_limit(65_536)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_created_by(concat!("wattlake ", env!("CARGO_PKG_VERSION")).to_owned());
    for (field, column) in first.schema().fields().iter().zip(first.columns()) {
        let path = ColumnPath::new(vec![field.name().clone()]);
        builder = encode(builder, path, column.as_ref());
    }
    builder.build()
}

fn encode(builder: WriterPropertiesBuilder, path: ColumnPath, column: &dyn Array) -> WriterPropertiesBuilder {
    let plain = |builder: WriterPropertiesBuilder, encoding| {
        builder.set_column_dictionary_enabled(path.clone(), false).set_column_encoding(path.clone(), encoding)
    };
    match column.data_type() {
        DataType::Int16 | DataType::Int32 | DataType::Date32 | DataType::Int64 | DataType::Timestamp(..) => {
            if repeats(column, 32) { builder } else { plain(builder, Encoding::DELTA_BINARY_PACKED) }
        }
        DataType::Float32 | DataType::Float64 => {
            if repeats(column, 4) {
                builder
            } else {
                plain(builder, Encoding::BYTE_STREAM_SPLIT)
            }
        }
        // Up to 18 digits they are integers in the file; DuckDB reads no split bytes of those.
        DataType::Decimal128(precision, _) if *precision <= 18 => {
            if repeats(column, 8) {
                builder
            } else {
                plain(builder, Encoding::DELTA_BINARY_PACKED)
            }
        }
        DataType::Utf8 | DataType::Binary => {
            if repeats(column, 4) {
                builder
            } else {
                plain(builder, Encoding::DELTA_LENGTH_BYTE_ARRAY)
            }
        }
        _ => builder,
    }
}

/// Whether a value comes back `times` over on average among the first rows.
fn repeats(column: &dyn Array, times: usize) -> bool {
    let rows = column.len().min(SAMPLE_ROWS);
    let limit = rows / times + 1;
    match column.data_type() {
        DataType::Utf8 => few(column.as_string::<i32>().iter().take(rows), limit),
        DataType::Binary => few(column.as_binary::<i32>().iter().take(rows), limit),
        data_type => {
            let Some(width) = data_type.primitive_width() else { return false };
            let data = column.to_data();
            let start = data.offset() * width;
            let bytes = data.buffers()[0].as_slice();
            few(bytes[start..].chunks_exact(width).take(rows), limit)
        }
    }
}

fn few<T: std::hash::Hash + Eq>(values: impl Iterator<Item = T>, limit: usize) -> bool {
    let mut seen = HashSet::with_capacity(limit);
    values.into_iter().all(|value| {
        seen.insert(value);
        seen.len() <= limit
    })
}

impl Destination {
    /// Part of a file's name is the run that wrote it.
    pub(crate) fn run_of(path: &str) -> Option<&str> {
        path.strip_prefix("part-")?.rsplit_once('-').map(|(run, _)| run)
    }
}
