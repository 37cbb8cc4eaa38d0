//! Writes rows to Parquet files of a table. A written file is part of the table only after a commit adds
//! it; files that are never committed are removed by [`crate::upkeep`].
//!
//! The encoding of each column is chosen by its first rows: a dictionary for few distinct values, deltas
//! for instants. That takes less space on disk and less time to write.

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

/// The size at which a file is closed, so that readers can skip files and read several in parallel.
pub(crate) const FILE_BYTES: usize = 256 << 20;
/// The size of a row group, which is in memory until it is complete.
const GROUP_BYTES: usize = 16 << 20;
const GROUP_ROWS: usize = 1 << 20;
/// The prefixes of the files of loads and of packs.
const PART: &str = "part-";
const PACK: &str = "pack-";
const PACK_LEVEL: i32 = 3;
const PART_BYTES: usize = 5 << 20;
/// The most rows of a page, whose bounds decide whether it is read.
const PAGE_ROWS: usize = 65_536;
/// Over how many rows distinct values are counted.
const SAMPLE_ROWS: usize = 16_384;

/// A data file that is not committed yet.
#[derive(Debug, Clone)]
pub struct DataFile {
    /// Relative to the table's root.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// The number of its rows.
    pub rows: u64,
    /// Its statistics, as JSON for the log.
    pub(crate) stats: String,
}

/// Where a writer puts its files.
#[derive(Clone)]
pub struct Destination {
    /// Rooted at the table's folder.
    pub(crate) store: Arc<dyn ObjectStore>,
    /// Part of each file's name, by which upkeep finds out whether the run that wrote it is still active.
    pub(crate) run: String,
    /// Where requests to the store run.
    pub(crate) runtime: Handle,
}

/// Writes data files of a table. It blocks the calling thread, which must not belong to an asynchronous runtime.
/// Dropped before [`finish`](FileWriter::finish), it leaves files that upkeep removes.
pub struct FileWriter {
    to: Destination,
    schema: SchemaRef,
    prefix: &'static str,
    file_bytes: u64,
    level: i32,
    group_rows: usize,
    page_rows: usize,
    open: Option<OpenFile>,
    done: Vec<DataFile>,
}

struct OpenFile {
    path: Path,
    writer: ArrowWriter<Upload>,
    bytes: u64,
}

impl FileWriter {
    /// Writes rows of this schema to the destination.
    pub(crate) fn new(to: Destination, schema: SchemaRef) -> Self {
        FileWriter {
            to,
            schema,
            prefix: PART,
            file_bytes: FILE_BYTES as u64,
            level: 1,
            group_rows: GROUP_ROWS,
            page_rows: PAGE_ROWS,
            open: None,
            done: Vec::new(),
        }
    }

    /// Writes the files of a pack: sorted rows, with better compression, in files of this size.
    pub(crate) fn packed(mut self, file_bytes: u64) -> Self {
        self.prefix = PACK;
        self.file_bytes = file_bytes;
        self.level = PACK_LEVEL;
        self
    }

    /// Limits the rows of a row group.
    #[cfg(test)]
    pub(crate) fn group_rows(mut self, rows: usize) -> Self {
        self.group_rows = rows;
        self
    }

    /// Limits the rows of a page.
    #[cfg(test)]
    pub(crate) fn page_rows(mut self, rows: usize) -> Self {
        self.page_rows = rows;
        self
    }

    /// Writes a batch of rows.
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
        if open.bytes >= self.file_bytes {
            self.close()?;
        }
        Ok(())
    }

    /// Closes the last file and returns all files, for a commit.
    pub fn finish(mut self) -> Result<Vec<DataFile>> {
        self.close()?;
        Ok(std::mem::take(&mut self.done))
    }

    fn start(&self, first: &RecordBatch) -> Result<OpenFile> {
        let path = Path::from(format!("{}{}-{}.zstd.parquet", self.prefix, self.to.run, uuid::Uuid::now_v7().simple()));
        let upload = self.to.runtime.block_on(self.to.store.put_multipart(&path)).context(format!("create {path}"))?;
        let inner = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        let upload = Upload { inner: Some(inner), runtime: self.to.runtime.clone() };
        let writer = ArrowWriter::try_new(
            upload,
            Arc::clone(&self.schema),
            Some(properties(first, self.level, self.group_rows, self.page_rows)),
        )
        .context("start a Parquet file")?;
        Ok(OpenFile { path, writer, bytes: 0 })
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

/// Uploads a Parquet file to the store, with a bounded number of concurrent parts.
struct Upload {
    inner: Option<WriteMultipart>,
    runtime: Handle,
}

const PARTS_IN_FLIGHT: usize = 2;

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let Some(inner) = &mut self.inner else { return Err(std::io::ErrorKind::BrokenPipe.into()) };
        self.runtime.block_on(inner.wait_for_capacity(PARTS_IN_FLIGHT)).map_err(std::io::Error::other)?;
        // Parts are uploaded by tasks, which can be spawned only within a runtime.
        let _inside = self.runtime.enter();
        inner.write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The encodings and compression of a file; docs/decisions has the measurements.
fn properties(first: &RecordBatch, level: i32, group_rows: usize, page_rows: usize) -> WriterProperties {
    let level = ZstdLevel::try_new(level).unwrap_or_default();
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(group_rows))
        .set_data_page_row_count_limit(page_rows)
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
        // Up to 18 digits are stored as integers, and DuckDB can't read BYTE_STREAM_SPLIT of integers.
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

/// Whether each value occurs at least `times` times on average among the first rows.
fn repeats(column: &dyn Array, times: usize) -> bool {
    let rows = column.len().min(SAMPLE_ROWS);
    let limit = rows / times + 1;
    match column.data_type() {
        DataType::Utf8 => has_few_values(column.as_string::<i32>().iter().take(rows), limit),
        DataType::Binary => has_few_values(column.as_binary::<i32>().iter().take(rows), limit),
        data_type => {
            let Some(width) = data_type.primitive_width() else { return false };
            let data = column.to_data();
            let start = data.offset() * width;
            let bytes = data.buffers()[0].as_slice();
            has_few_values(bytes[start..].chunks_exact(width).take(rows), limit)
        }
    }
}

fn has_few_values<T: std::hash::Hash + Eq>(values: impl Iterator<Item = T>, limit: usize) -> bool {
    let mut seen = HashSet::with_capacity(limit);
    values.into_iter().all(|value| {
        seen.insert(value);
        seen.len() <= limit
    })
}

impl Destination {
    /// The run that wrote a file, which is part of its name; `None` for files of other programs.
    pub(crate) fn run_of(path: &str) -> Option<&str> {
        path.strip_prefix(PART).or_else(|| path.strip_prefix(PACK))?.rsplit_once('-').map(|(run, _)| run)
    }

    /// Whether a file was written by a pack.
    pub(crate) fn is_packed(path: &str) -> bool {
        path.starts_with(PACK)
    }
}
