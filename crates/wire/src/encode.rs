//! From Arrow to what goes over the wire, in the format that the client asks for; and cursors,
//! which keep what of a batch was not yet asked for.

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

use super::rows::Batches;
use super::values::{binary, sized};
use super::{kinds, problem};
use sql::frontend::names;
use sql::values::Column;

pub(crate) type BatchStream = BoxStream<'static, PgWireResult<RecordBatch>>;

/// The columns as PostgreSQL describes them.
pub(crate) fn fields(schema: &Schema, format: &Format) -> PgWireResult<Vec<FieldInfo>> {
    if let Format::Individual(codes) = format
        && codes.len() != schema.fields().len()
    {
        let message =
            format!("bind message has {} result formats but query has {} columns", codes.len(), schema.fields().len());
        return Err(problem::error("08P01", message));
    }
    let described = schema.fields().iter().enumerate().map(|(at, field)| {
        let pg_type = kinds::of_field(field);
        let (size, modifier) = (size_of(&pg_type), modifier_of(field.data_type()));
        let info = FieldInfo::new(names::shown(field.name()).to_owned(), None, None, pg_type, format.format_for(at));
        info.with_type_size(size).with_type_modifier(modifier)
    });
    Ok(described.collect())
}

/// `pg_type.typlen`.
pub(crate) fn size_of(pg_type: &Type) -> i16 {
    match *pg_type {
        Type::BOOL | Type::CHAR => 1,
        Type::INT2 => 2,
        Type::INT4 | Type::FLOAT4 | Type::DATE | Type::OID => 4,
        Type::INT8 | Type::FLOAT8 | Type::TIMESTAMP | Type::TIMESTAMPTZ | Type::TIME => 8,
        Type::INTERVAL => 16,
        _ => -1,
    }
}

/// `pg_attribute.atttypmod`: of a numeric its precision and scale.
pub(crate) fn modifier_of(data_type: &DataType) -> i32 {
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

/// A batch, ready to be written value by value.
pub(crate) struct Columns {
    columns: Vec<Column>,
    rows: usize,
}

impl Columns {
    pub(crate) fn new(batch: &RecordBatch, zone: &str) -> PgWireResult<Columns> {
        let columns = batch.columns().iter().map(|array| Column::new(array, zone)).collect::<Result<_, _>>();
        Ok(Columns { columns: columns.map_err(unwritable)?, rows: batch.num_rows() })
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

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
                sized(&mut out, |out| binary(column, row, field.datatype(), out))?;
            } else {
                text.clear();
                column.text(row, &mut text)?;
                sized(&mut out, |out| {
                    out.put_slice(text.as_bytes());
                    Ok(())
                })?;
            }
        }
        Ok(DataRow::new(out, i16::try_from(fields.len()).unwrap_or(i16::MAX)))
    }
}

pub(crate) fn unwritable(error: ArrowError) -> PgWireError {
    problem::error("XX000", format!("a value can't be sent: {error}"))
}

/// Rows one by one, made as they are asked for.
pub(crate) fn rows(
    batches: BatchStream,
    fields: Arc<Vec<FieldInfo>>,
    zone: String,
) -> impl Stream<Item = PgWireResult<DataRow>> + Send + 'static {
    let encoded = batches.map(move |batch| {
        let columns = Columns::new(&batch?, &zone)?;
        let fields = Arc::clone(&fields);
        Ok::<_, PgWireError>(stream::iter(
            (0..columns.rows()).map(move |row| columns.row(row, &fields).map_err(unwritable)),
        ))
    });
    encoded.try_flatten()
}

/// A query of which the client takes rows by FETCH.
pub(crate) struct Cursor {
    batches: Option<Batches>,
    rest: Option<RecordBatch>,
}

impl Cursor {
    pub(crate) fn new(batches: Batches) -> Cursor {
        Cursor { batches: Some(batches), rest: None }
    }

    /// At most `rows` of them.
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

/// The next `rows` of a cursor.
pub(crate) fn fetched(cursor: OwnedMutexGuard<Cursor>, rows: usize) -> BatchStream {
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
pub(crate) fn all(batches: Batches) -> BatchStream {
    Box::pin(stream::unfold(batches, |mut batches| async move { batches.next().await.map(|batch| (batch, batches)) }))
}
