//! Writes results in four formats. All but the table are streamed: memory holds one batch, or one row group of Parquet,
//! whatever the number of rows.
//!
//! - table: aligned columns, numbers to the right, `NULL` for NULL; the first rows only.
//! - csv: with a header; an empty field is NULL, `""` is the empty text.
//! - json: one array of objects, one object per line; decimals are numbers with all their digits, timestamps are in
//!   ISO 8601.
//! - parquet: one file, compressed with zstd.

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::writer::{JsonFormat, WriterBuilder};
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use crate::cells::Cells;
use crate::error::{Context, Result};
use crate::frontend::names;

/// The format of a result; see the module's documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Table,
    Csv,
    Json,
    Parquet,
}

/// How many rows a result had, and how many of them were written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RowCounts {
    /// The rows of the result.
    pub rows: u64,
    /// The rows that were written; less than `rows` for [`Format::Table`] only.
    pub rows_shown: u64,
}

/// Writes all rows to `out`, and flushes it. [`Format::Table`] writes the first `rows_shown_max` rows and counts the
/// others.
///
/// # Errors
/// Where the query fails or `out` can't be written. Part of the result may have been written by then.
pub async fn write(
    mut stream: SendableRecordBatchStream,
    format: Format,
    out: &mut (dyn Write + Send),
    rows_shown_max: u64,
) -> Result<RowCounts> {
    let mut writer = Writer::new(stream.schema(), format, out, rows_shown_max)?;
    while let Some(batch) = stream.next().await {
        writer.batch(&batch.context("run the query")?).context(WRITE)?;
    }
    writer.finish().context(WRITE)
}

/// Writes the rows of one batch, in any format but that of a table for people.
///
/// # Errors
/// `out` can't be written, or a value has no form in the format.
pub fn write_batch(batch: &RecordBatch, format: Format, out: &mut (dyn Write + Send)) -> Result<RowCounts> {
    let mut writer = Writer::new(batch.schema(), format, out, u64::MAX)?;
    writer.batch(batch).context(WRITE)?;
    writer.finish().context(WRITE)
}

const WRITE: &str = "write the result";

/// The writer of one result, by its format.
enum Writer<'a> {
    Table(Table<'a>),
    Csv { out: &'a mut (dyn Write + Send), line: String, written: RowCounts },
    Json { writer: arrow::json::Writer<&'a mut (dyn Write + Send), Lines>, written: RowCounts },
    Parquet { writer: Box<ArrowWriter<&'a mut (dyn Write + Send)>>, written: RowCounts },
}

impl<'a> Writer<'a> {
    fn new(schema: SchemaRef, format: Format, out: &'a mut (dyn Write + Send), shown_max: u64) -> Result<Self> {
        let written = RowCounts::default();
        Ok(match format {
            Format::Table => Writer::Table(Table { out, schema, shown_max, cells: Vec::new(), written }),
            Format::Csv => {
                let mut line = String::new();
                for (i, field) in schema.fields().iter().enumerate() {
                    csv_field(&mut line, i, Some(names::displayed(field.name())));
                }
                line.push('\n');
                out.write_all(line.as_bytes()).context(WRITE)?;
                Writer::Csv { out, line, written }
            }
            Format::Json => {
                let writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, Lines>(out);
                Writer::Json { writer, written }
            }
            Format::Parquet => {
                let compression = Compression::ZSTD(ZstdLevel::default());
                let properties = WriterProperties::builder().set_compression(compression).build();
                let writer = ArrowWriter::try_new(out, schema, Some(properties));
                let writer = writer.map_err(io_first).context(WRITE)?;
                Writer::Parquet { writer: Box::new(writer), written }
            }
        })
    }

    fn batch(&mut self, batch: &RecordBatch) -> std::result::Result<(), ArrowError> {
        let rows = batch.num_rows() as u64;
        let written = match self {
            Writer::Table(table) => return table.batch(batch),
            Writer::Csv { out, line, written } => {
                csv_lines(batch, line)?;
                out.write_all(line.as_bytes())?;
                written
            }
            Writer::Json { writer, written } => {
                writer.write(batch)?;
                written
            }
            Writer::Parquet { writer, written } => {
                writer.write(batch).map_err(io_first)?;
                written
            }
        };
        written.rows += rows;
        written.rows_shown += rows;
        Ok(())
    }

    fn finish(self) -> std::result::Result<RowCounts, ArrowError> {
        let (out, written) = match self {
            Writer::Table(table) => return table.finish(),
            Writer::Csv { out, written, .. } => (out, written),
            Writer::Json { mut writer, written } => {
                writer.finish()?;
                (writer.into_inner(), written)
            }
            Writer::Parquet { mut writer, written } => {
                writer.finish().map_err(io_first)?;
                writer.inner_mut().flush()?;
                return Ok(written);
            }
        };
        out.flush()?;
        Ok(written)
    }
}

/// Keeps an I/O error as such: Arrow's own conversion turns it into a text.
fn io_first(error: ParquetError) -> ArrowError {
    match error {
        ParquetError::External(inner) => match inner.downcast::<std::io::Error>() {
            Ok(io) => ArrowError::from(*io),
            Err(other) => ArrowError::ExternalError(other),
        },
        other => other.into(),
    }
}

/// One array, one object per line.
#[derive(Debug, Default)]
struct Lines;

impl JsonFormat for Lines {
    fn start_stream<W: Write>(&self, writer: &mut W) -> std::result::Result<(), ArrowError> {
        Ok(writer.write_all(b"[")?)
    }

    fn start_row<W: Write>(&self, writer: &mut W, first: bool) -> std::result::Result<(), ArrowError> {
        Ok(writer.write_all(if first { b"\n" } else { b",\n" })?)
    }

    fn end_stream<W: Write>(&self, writer: &mut W) -> std::result::Result<(), ArrowError> {
        Ok(writer.write_all(b"\n]\n")?)
    }
}

fn csv_lines(batch: &RecordBatch, lines: &mut String) -> std::result::Result<(), ArrowError> {
    lines.clear();
    let cells = Cells::of(batch)?;
    let mut value = String::new();
    for row in 0..batch.num_rows() {
        for column in 0..batch.num_columns() {
            value.clear();
            let present = cells.write(column, row, &mut value)?;
            csv_field(lines, column, present.then_some(value.as_str()));
        }
        lines.push('\n');
    }
    Ok(())
}

fn csv_field(line: &mut String, column: usize, value: Option<&str>) {
    if column > 0 {
        line.push(',');
    }
    let Some(value) = value else { return };
    if value.is_empty() || value.contains([',', '"', '\n', '\r']) {
        line.push('"');
        line.push_str(&value.replace('"', "\"\""));
        line.push('"');
    } else {
        line.push_str(value);
    }
}

/// The first rows, in memory until the widths of all columns are known.
struct Table<'a> {
    out: &'a mut (dyn Write + Send),
    schema: SchemaRef,
    shown_max: u64,
    /// The cells of all rows, one row after the other.
    cells: Vec<String>,
    written: RowCounts,
}

impl Table<'_> {
    fn batch(&mut self, batch: &RecordBatch) -> std::result::Result<(), ArrowError> {
        let rows = batch.num_rows() as u64;
        let shown = rows.min(self.shown_max - self.written.rows_shown);
        self.written.rows += rows;
        self.written.rows_shown += shown;
        if shown == 0 {
            return Ok(());
        }
        let cells = Cells::of(batch)?;
        let mut value = String::new();
        for row in 0..usize::try_from(shown).unwrap_or(usize::MAX) {
            for column in 0..batch.num_columns() {
                value.clear();
                let present = cells.write(column, row, &mut value)?;
                self.cells.push(if present { one_line(&value) } else { "NULL".to_owned() });
            }
        }
        Ok(())
    }

    fn finish(self) -> std::result::Result<RowCounts, ArrowError> {
        let fields = self.schema.fields();
        if fields.is_empty() {
            return Ok(self.written);
        }
        let names: Vec<String> = fields.iter().map(|field| one_line(names::displayed(field.name()))).collect();
        let mut widths: Vec<usize> = names.iter().map(|name| name.chars().count()).collect();
        for row in self.cells.chunks(widths.len()) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let right: Vec<bool> = fields.iter().map(|field| is_number(field.data_type())).collect();
        let rule = widths.iter().map(|width| "-".repeat(width + 2)).collect::<Vec<_>>().join("+");
        writeln!(self.out, "{}", line(&names, &widths, &right))?;
        writeln!(self.out, "{rule}")?;
        for row in self.cells.chunks(widths.len()) {
            writeln!(self.out, "{}", line(row, &widths, &right))?;
        }
        self.out.flush()?;
        Ok(self.written)
    }
}

fn line(cells: &[String], widths: &[usize], right: &[bool]) -> String {
    let padded =
        cells.iter().zip(widths).zip(right).map(|((cell, &width), &right)| {
            if right { format!(" {cell:>width$} ") } else { format!(" {cell:<width$} ") }
        });
    padded.collect::<Vec<_>>().join("|").trim_end().to_owned()
}

fn is_number(data_type: &DataType) -> bool {
    data_type.is_numeric()
}

/// The value with line breaks and tabs escaped: a row of the table is one line.
fn one_line(value: &str) -> String {
    if !value.contains(['\n', '\r', '\t']) {
        return value.to_owned();
    }
    value.replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t")
}
