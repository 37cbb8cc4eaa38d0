//! Values of a record batch as text, in PostgreSQL's formats: timestamps with a space and a short offset, bytes in hex.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, RecordBatch};
use arrow::datatypes::{DataType, Int64Type, TimeUnit};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::values::{self, numeric, write_bytes, write_instant};

/// For timestamps inside lists and structs, which Arrow's formatter writes.
const NESTED: FormatOptions<'static> = FormatOptions::new()
    .with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.f"))
    .with_timestamp_tz_format(Some("%Y-%m-%d %H:%M:%S%.f%:z"))
    .with_datetime_format(Some("%Y-%m-%d %H:%M:%S%.f"));

/// A record batch whose values can be written one by one.
pub struct Cells<'a> {
    columns: Vec<Column<'a>>,
}

enum Column<'a> {
    Instants {
        array: ArrayRef,
        unit: TimeUnit,
        zone: Option<Tz>,
    },
    Bytes(ArrayRef),
    Numerics(Decimal128Array),
    /// As in casts to text.
    Intervals(ArrayRef, values::Column),
    Other {
        array: &'a dyn Array,
        formatter: ArrayFormatter<'a>,
    },
}

impl<'a> Cells<'a> {
    /// Prepares the columns of `batch`.
    ///
    /// # Errors
    /// Where a column has a time zone that is not known, or a type that Arrow can't format.
    pub fn of(batch: &'a RecordBatch) -> Result<Self, ArrowError> {
        let columns = batch.columns().iter().map(Column::of).collect::<Result<_, _>>()?;
        Ok(Cells { columns })
    }

    /// Appends a value to `text`, and returns true; for NULL, appends nothing and returns false.
    ///
    /// # Panics
    /// Where `column` or `row` is not in the batch.
    pub fn write(&self, column: usize, row: usize, text: &mut String) -> Result<bool, ArrowError> {
        let column = &self.columns[column];
        let array: &dyn Array = match column {
            Column::Instants { array, .. } | Column::Bytes(array) => array.as_ref(),
            Column::Numerics(array) => array,
            Column::Intervals(array, _) => array.as_ref(),
            Column::Other { array, .. } => *array,
        };
        if array.is_null(row) {
            return Ok(false);
        }
        match column {
            Column::Instants { array, unit, zone } => {
                let value = array.as_primitive::<Int64Type>().value(row);
                write_instant(value, *unit, zone.as_ref(), text)?;
            }
            Column::Bytes(array) => write_bytes(array.as_binary::<i64>().value(row), text),
            Column::Numerics(array) => text.push_str(&numeric(array, row)),
            Column::Intervals(_, column) => column.text(row, text)?,
            Column::Other { formatter, .. } => {
                write!(text, "{}", formatter.value(row)).map_err(|e| ArrowError::CastError(e.to_string()))?;
            }
        }
        Ok(true)
    }
}

impl<'a> Column<'a> {
    fn of(array: &'a ArrayRef) -> Result<Column<'a>, ArrowError> {
        Ok(match array.data_type() {
            DataType::Timestamp(unit, zone) => Column::Instants {
                array: arrow::compute::cast(array, &DataType::Int64)?,
                unit: *unit,
                zone: zone.as_deref().map(str::parse).transpose()?,
            },
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
                Column::Bytes(arrow::compute::cast(array, &DataType::LargeBinary)?)
            }
            DataType::Interval(_) | DataType::Duration(_) => {
                Column::Intervals(Arc::clone(array), values::Column::new(array, "UTC")?)
            }
            DataType::Decimal128(..) => Column::Numerics(array.as_primitive().clone()),
            _ => Column::Other { array: array.as_ref(), formatter: ArrayFormatter::try_new(array.as_ref(), &NESTED)? },
        })
    }
}
