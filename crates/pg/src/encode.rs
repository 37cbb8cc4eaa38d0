//! Encodes Arrow batches as the protocol's rows, in the format that the client requests; and cursors,
//! which keep the rows of a batch that were not fetched yet.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::arrow::error::ArrowError;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt, TryStreamExt};
use pgwire::api::Type;
use pgwire::api::portal::Format;
use pgwire::api::results::{FieldFormat, FieldInfo};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::data::DataRow;
use tokio::sync::OwnedMutexGuard;

use super::execution::Batches;
use super::values::{put_binary, put_sized};
use super::{pg_types, problem};
use sql::frontend::names;
use sql::values::Column;

/// The batches of a query, in order; an error is the last item.
pub(crate) type BatchStream = BoxStream<'static, PgWireResult<RecordBatch>>;

/// The description of result columns that the client is sent.
///
/// # Errors
/// If the client requests a format for another number of columns.
pub(crate) fn fields(schema: &Schema, format: &Format) -> PgWireResult<Vec<FieldInfo>> {
    if let Format::Individual(codes) = format
        && codes.len() != schema.fields().len()
    {
        let message =
            format!("bind message has {} result formats but query has {} columns", codes.len(), schema.fields().len());
        return Err(problem::error("08P01", message));
    }
    let described = schema.fields().iter().enumerate().map(|(at, field)| {
        let pg_type = pg_types::of_field(field);
        let (size, modifier) = (type_size(&pg_type), type_modifier(field.data_type()));
        let info =
            FieldInfo::new(names::displayed(field.name()).to_owned(), None, None, pg_type, format.format_for(at));
        info.with_type_size(size).with_type_modifier(modifier)
    });
    Ok(described.collect())
}

/// `pg_type.typlen` of a type: its size in bytes, or -1 if it varies.
pub(crate) fn type_size(pg_type: &Type) -> i16 {
    match *pg_type {
        Type::BOOL | Type::CHAR => 1,
        Type::INT2 => 2,
        Type::INT4 | Type::FLOAT4 | Type::DATE | Type::OID => 4,
        Type::INT8 | Type::FLOAT8 | Type::TIMESTAMP | Type::TIMESTAMPTZ | Type::TIME => 8,
        Type::INTERVAL => 16,
        _ => -1,
    }
}

/// `pg_attribute.atttypmod` of a column: precision and scale of a numeric, else -1.
pub(crate) fn type_modifier(data_type: &DataType) -> i32 {
    match data_type {
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale)
            if *scale >= 0 =>
        {
            ((i32::from(*precision) << 16) | i32::from(*scale)) + 4
        }
        _ => -1,
    }
}

/// The columns of one batch, from which single values are written.
pub(crate) struct Columns {
    columns: Vec<Column>,
    rows: usize,
}

impl Columns {
    /// The columns of `batch`; instants are written in the time zone `zone`.
    ///
    /// # Errors
    /// If a column's type cannot be sent.
    pub(crate) fn new(batch: &RecordBatch, zone: &str) -> PgWireResult<Columns> {
        let columns = batch.columns().iter().map(|array| Column::new(array, zone)).collect::<Result<_, _>>();
        Ok(Columns { columns: columns.map_err(encoding_error)?, rows: batch.num_rows() })
    }

    /// The number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// The columns, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter()
    }

    fn row(&self, row: usize, fields: &[FieldInfo]) -> Result<DataRow, ArrowError> {
        let mut out = BytesMut::with_capacity(16 * fields.len());
        let mut text = String::new();
        for (column, field) in self.columns.iter().zip(fields) {
            if column.is_null(row) {
                out.put_i32(-1);
            } else if field.format() == FieldFormat::Binary {
                put_sized(&mut out, |out| put_binary(column, row, field.datatype(), out))?;
            } else {
                text.clear();
                column.text(row, &mut text)?;
                put_sized(&mut out, |out| {
                    out.put_slice(text.as_bytes());
                    Ok(())
                })?;
            }
        }
        Ok(DataRow::new(out, i16::try_from(fields.len()).unwrap_or(i16::MAX)))
    }
}

/// The error for a value that cannot be encoded.
pub(crate) fn encoding_error(error: ArrowError) -> PgWireError {
    problem::error("XX000", format!("a value cannot be sent: {error}"))
}

/// The encoded rows of `batches`; each is encoded when it is polled.
pub(crate) fn data_rows(
    batches: BatchStream,
    fields: Arc<Vec<FieldInfo>>,
    zone: String,
) -> impl Stream<Item = PgWireResult<DataRow>> + Send + 'static {
    let encoded = batches.map(move |batch| {
        let columns = Columns::new(&batch?, &zone)?;
        let fields = Arc::clone(&fields);
        Ok::<_, PgWireError>(stream::iter(
            (0..columns.rows()).map(move |row| columns.row(row, &fields).map_err(encoding_error)),
        ))
    });
    encoded.try_flatten()
}

/// A query whose rows the client reads by FETCH.
pub(crate) struct Cursor {
    batches: Option<Batches>,
    rest: Option<RecordBatch>,
}

impl Cursor {
    /// A cursor before the first row.
    pub(crate) fn new(batches: Batches) -> Cursor {
        Cursor { batches: Some(batches), rest: None }
    }

    /// The next batch, cut to at most `rows` rows.
    async fn next(&mut self, rows: usize) -> Option<PgWireResult<RecordBatch>> {
        let batch = match self.rest.take() {
            Some(rest) => rest,
            None => match self.batches.as_mut()?.next().await {
                Some(Ok(batch)) => batch,
                other => {
                    self.batches = None;
                    return other;
                }
            },
        };
        if batch.num_rows() > rows {
            self.rest = Some(batch.slice(rows, batch.num_rows() - rows));
            return Some(Ok(batch.slice(0, rows)));
        }
        Some(Ok(batch))
    }
}

/// The next `rows` rows of a cursor, which is locked until the stream is dropped.
pub(crate) fn fetch(cursor: OwnedMutexGuard<Cursor>, rows: usize) -> BatchStream {
    let taken = stream::unfold((cursor, rows), |(mut cursor, left)| async move {
        if left == 0 {
            return None;
        }
        let batch = cursor.next(left).await?;
        let left = batch.as_ref().map_or(0, |batch| left - batch.num_rows());
        Some((batch, (cursor, left)))
    });
    Box::pin(taken)
}

/// All batches of a query.
pub(crate) fn all_batches(batches: Batches) -> BatchStream {
    Box::pin(stream::unfold(batches, |mut batches| async move { batches.next().await.map(|batch| (batch, batches)) }))
}
