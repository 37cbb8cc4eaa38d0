//! Reads Parquet, whose columns have types: a value is accepted where it is exactly a value of the layout's type.

use std::fs::File;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal256Array, Float32Array, Float64Array, LargeStringArray, RecordBatch,
    StringArray, StringViewArray,
};
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, Decimal128Type, DurationMicrosecondType, DurationMillisecondType,
    DurationNanosecondType, DurationSecondType, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use chrono::{DateTime, NaiveDate, TimeDelta};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::cell::Cell;
use super::fault::{Fault, FaultKind};
use super::header::Header;
use super::row_checker::RowChecker;
use crate::Result;
use crate::number::Number;

const ROWS_AT_ONCE: usize = 1024;

/// Reads all rows of a Parquet file.
pub fn read(file: File, checker: &mut RowChecker<'_>) -> Result<()> {
    let unreadable = |line: u64, why: String| {
        Fault::at(FaultKind::Unreadable, line, &why, "a Parquet file", "was the file truncated? Request it again")
    };
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).and_then(|builder| {
        let names: Vec<String> = builder.schema().fields().iter().map(|field| field.name().clone()).collect();
        Ok((names, builder.with_batch_size(ROWS_AT_ONCE).build()?))
    });
    let (names, reader) = match reader {
        Ok(opened) => opened,
        Err(error) => {
            checker.faults.add(unreadable(0, error.to_string()));
            return Ok(());
        }
    };
    let Some(header) = Header::by_name(&names, checker.layout, 0, &mut checker.faults) else { return Ok(()) };
    let mut line = 0;
    for batch in reader {
        match batch {
            Ok(batch) => {
                if !rows(&batch, &header, line, checker)? {
                    return Ok(());
                }
                line += batch.num_rows() as u64;
            }
            Err(error) => {
                checker.faults.add(unreadable(line + 1, error.to_string()));
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Adds the rows of a batch; false where a column has a type that no layout has.
fn rows(batch: &RecordBatch, header: &Header, before: u64, checker: &mut RowChecker<'_>) -> Result<bool> {
    let mut columns = Vec::with_capacity(header.places.len());
    for (column, place) in checker.layout.columns.iter().zip(&header.places) {
        let Some(place) = place else {
            columns.push(None);
            continue;
        };
        let array = plain(batch.column(*place));
        if !array.as_ref().is_some_and(|array| array.is_empty() || cell(array, 0).is_some()) {
            let found = batch.column(*place).data_type().to_string();
            let expected = format!("a column of {}", column.kind.data_type());
            checker.faults.add(Fault::at(FaultKind::Header, 0, &found, expected, "").in_column(&column.name));
            return Ok(false);
        }
        columns.push(array);
    }
    for row in 0..batch.num_rows() {
        let cells: Vec<Cell<'_>> = columns
            .iter()
            .map(|array| array.as_ref().and_then(|array| cell(array, row)).unwrap_or(Cell::Empty))
            .collect();
        checker.row(before + row as u64 + 1, &cells)?;
    }
    Ok(true)
}

/// The array without dictionary encoding.
fn plain(array: &ArrayRef) -> Option<ArrayRef> {
    match array.data_type() {
        DataType::Dictionary(_, values) => arrow::compute::cast(array, values).ok(),
        _ => Some(ArrayRef::clone(array)),
    }
}

/// The values of a column; empty where its type is not supported.
pub fn cells(array: &ArrayRef) -> Vec<Cell<'static>> {
    let Some(array) = plain(array) else { return vec![Cell::Empty; array.len()] };
    (0..array.len()).map(|row| cell(&array, row).map_or(Cell::Empty, |cell| cell.to_owned_cell())).collect()
}

/// A value as a cell; `None` where the type is not supported, such as a list.
fn cell(array: &ArrayRef, row: usize) -> Option<Cell<'_>> {
    let any = array.as_any();
    macro_rules! whole {
        ($kind:ty) => {
            Cell::Exact(Number::whole(i128::from(array.as_primitive::<$kind>().value(row))))
        };
    }
    if array.is_null(row) && !array.data_type().is_nested() {
        return Some(Cell::Empty);
    }
    Some(match array.data_type() {
        DataType::Null => Cell::Empty,
        DataType::Utf8 => Cell::Text(any.downcast_ref::<StringArray>()?.value(row).into()),
        DataType::LargeUtf8 => Cell::Text(any.downcast_ref::<LargeStringArray>()?.value(row).into()),
        DataType::Utf8View => Cell::Text(any.downcast_ref::<StringViewArray>()?.value(row).into()),
        DataType::Boolean => Cell::Bool(any.downcast_ref::<BooleanArray>()?.value(row)),
        DataType::Int8 => whole!(Int8Type),
        DataType::Int16 => whole!(Int16Type),
        DataType::Int32 => whole!(Int32Type),
        DataType::Int64 => whole!(Int64Type),
        DataType::UInt8 => whole!(UInt8Type),
        DataType::UInt16 => whole!(UInt16Type),
        DataType::UInt32 => whole!(UInt32Type),
        DataType::UInt64 => whole!(UInt64Type),
        DataType::Float32 => {
            // By its shortest decimal digits, so that 0.1 stays 0.1; converted directly it would get more digits.
            let number = any.downcast_ref::<Float32Array>()?.value(row);
            Cell::Double(number.to_string().parse().unwrap_or(f64::NAN))
        }
        DataType::Float64 => Cell::Double(any.downcast_ref::<Float64Array>()?.value(row)),
        DataType::Decimal128(_, scale) => exact(array.as_primitive::<Decimal128Type>().value(row), *scale),
        DataType::Decimal256(_, scale) => {
            let array = any.downcast_ref::<Decimal256Array>()?;
            match array.value(row).to_i128() {
                Some(mantissa) => exact(mantissa, *scale),
                None => Cell::Invalid(array.value_as_string(row), "a number of at most 38 digits"),
            }
        }
        DataType::Date32 => date(i64::from(array.as_primitive::<Date32Type>().value(row))),
        DataType::Date64 => date(array.as_primitive::<Date64Type>().value(row).div_euclid(86_400_000)),
        DataType::Timestamp(unit, zone) => timestamp(array, row, unit, zone.is_some()),
        DataType::Duration(unit) => duration(array, row, unit),
        _ => return None,
    })
}

fn exact(mantissa: i128, scale: i8) -> Cell<'static> {
    let number = match u32::try_from(scale) {
        Ok(scale) => Some(Number { mantissa, scale }),
        Err(_) => {
            let power = 10_i128.checked_pow(u32::from(scale.unsigned_abs()));
            power.and_then(|power| mantissa.checked_mul(power)).map(Number::whole)
        }
    };
    number.map_or_else(|| Cell::Invalid(mantissa.to_string(), "a number of at most 38 digits"), Cell::Exact)
}

fn date(days: i64) -> Cell<'static> {
    let date = TimeDelta::try_days(days).and_then(|days| NaiveDate::default().checked_add_signed(days));
    date.map_or_else(|| Cell::Invalid(days.to_string(), "a valid date"), Cell::Date)
}

fn timestamp(array: &ArrayRef, row: usize, unit: &TimeUnit, is_instant: bool) -> Cell<'static> {
    let micros = match unit {
        TimeUnit::Second => array.as_primitive::<TimestampSecondType>().value(row).checked_mul(1_000_000),
        TimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().value(row).checked_mul(1000),
        TimeUnit::Microsecond => Some(array.as_primitive::<TimestampMicrosecondType>().value(row)),
        TimeUnit::Nanosecond => {
            let nanos = array.as_primitive::<TimestampNanosecondType>().value(row);
            (nanos % 1000 == 0).then_some(nanos / 1000)
        }
    };
    let at = micros.and_then(|micros| Some((micros, DateTime::from_timestamp_micros(micros)?)));
    match at {
        Some((micros, _)) if is_instant => Cell::Instant(micros),
        Some((_, at)) => Cell::Local(at.naive_utc()),
        None => Cell::Invalid(String::new(), "a valid time of whole microseconds"),
    }
}

fn duration(array: &ArrayRef, row: usize, unit: &TimeUnit) -> Cell<'static> {
    let (value, per_second) = match unit {
        TimeUnit::Second => (array.as_primitive::<DurationSecondType>().value(row), 1),
        TimeUnit::Millisecond => (array.as_primitive::<DurationMillisecondType>().value(row), 1000),
        TimeUnit::Microsecond => (array.as_primitive::<DurationMicrosecondType>().value(row), 1_000_000),
        TimeUnit::Nanosecond => (array.as_primitive::<DurationNanosecondType>().value(row), 1_000_000_000),
    };
    match value % per_second {
        0 => Cell::Seconds(value / per_second),
        _ => Cell::Invalid(value.to_string(), "a whole number of seconds"),
    }
}
