//! Writes values in PostgreSQL's binary format.

use bytes::{BufMut, BytesMut};
use datafusion::arrow::array::LargeListArray;
use datafusion::arrow::error::ArrowError;
use pgwire::api::Type;
use sql::values::Column;

use super::pg_types;

/// Days from 1970-01-01, the engine's epoch, to 2000-01-01, PostgreSQL's.
pub(crate) const DAYS_TO_2000: i32 = 10_957;
/// Microseconds from the engine's epoch to PostgreSQL's.
pub(crate) const MICROS_TO_2000: i64 = 946_684_800_000_000;

/// Writes the value in `row`, which must not be NULL, as a value of `pg_type`, without its length.
///
/// # Errors
/// If the value is an array of arrays or is too long.
pub(crate) fn put_binary(column: &Column, row: usize, pg_type: &Type, out: &mut BytesMut) -> Result<(), ArrowError> {
    match column {
        Column::Bool(array) => out.put_u8(u8::from(array.value(row))),
        Column::Int16(array) => out.put_i16(array.value(row)),
        Column::Int32(array) => out.put_i32(array.value(row)),
        Column::Int64(array) => out.put_i64(array.value(row)),
        Column::Float32(array) => out.put_f32(array.value(row)),
        Column::Float64(array) => out.put_f64(array.value(row)),
        Column::Decimal(array) => put_numeric(&sql::values::numeric(array, row), out),
        Column::BigDecimal(array) => put_numeric(&array.value_as_string(row), out),
        Column::Date(array) => out.put_i32(array.value(row) - DAYS_TO_2000),
        Column::Time(array) => out.put_i64(array.value(row)),
        Column::Instant(array, _) => out.put_i64(array.value(row) - MICROS_TO_2000),
        Column::Interval(array) => {
            let value = array.value(row);
            out.put_i64(value.nanoseconds / 1_000);
            out.put_i32(value.days);
            out.put_i32(value.months);
        }
        Column::Bytes(array) => out.put_slice(array.value(row)),
        Column::Text(array) if *pg_type == Type::CHAR => {
            out.put_u8(array.value(row).bytes().next().unwrap_or_default());
        }
        Column::Text(array) => out.put_slice(array.value(row).as_bytes()),
        Column::List { lists, elements, element } => {
            return put_binary_list(lists, elements, &pg_types::of_data_type(element), row, out);
        }
    }
    Ok(())
}

/// Writes an array of one dimension. Nested lists may have rows of different lengths, which PostgreSQL's arrays cannot.
fn put_binary_list(
    lists: &LargeListArray,
    elements: &Column,
    element: &Type,
    row: usize,
    out: &mut BytesMut,
) -> Result<(), ArrowError> {
    if matches!(elements, Column::List { .. }) {
        let message = "arrays of arrays can only be sent as text: request results in text format".to_owned();
        return Err(ArrowError::NotYetImplemented(message));
    }
    let offsets = lists.value_offsets();
    let (start, end) = (offsets[row] as usize, offsets[row + 1] as usize);
    let length = i32::try_from(end - start).map_err(|_| ArrowError::ComputeError("array too long".to_owned()))?;
    let nulls = (start..end).any(|at| elements.is_null(at));
    out.put_i32(i32::from(length > 0));
    out.put_i32(i32::from(nulls));
    out.put_u32(element.oid());
    if length > 0 {
        out.put_i32(length);
        out.put_i32(1);
    }
    for at in start..end {
        if elements.is_null(at) {
            out.put_i32(-1);
        } else {
            put_sized(out, |out| put_binary(elements, at, element, out))?;
        }
    }
    Ok(())
}

/// Writes what `write` writes, after its length in four bytes.
///
/// # Errors
/// Those of `write`, and if it writes more than 2 GB.
pub(crate) fn put_sized(
    out: &mut BytesMut,
    write: impl FnOnce(&mut BytesMut) -> Result<(), ArrowError>,
) -> Result<(), ArrowError> {
    let start = out.len();
    out.put_i32(0);
    write(out)?;
    let length = i32::try_from(out.len() - start - 4);
    let length = length.map_err(|_| ArrowError::ComputeError("a value is longer than 2 GB".to_owned()))?;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

/// Writes a decimal number as numeric: digits to base 10000, a weight, a sign and the number of decimals.
pub(crate) fn put_numeric(text: &str, out: &mut BytesMut) {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let whole = whole.trim_start_matches('0');
    let whole = format!("{}{whole}", "0".repeat((4 - whole.len() % 4) % 4));
    let fraction_padded = format!("{fraction}{}", "0".repeat((4 - fraction.len() % 4) % 4));
    let mut weight = whole.len() as i64 / 4 - 1;
    let all = format!("{whole}{fraction_padded}");
    let group = |chunk: &[u8]| chunk.iter().fold(0_i16, |sum, digit| sum * 10 + i16::from(digit - b'0'));
    let mut groups: Vec<i16> = all.as_bytes().chunks(4).map(group).collect();
    while groups.last() == Some(&0) {
        groups.pop();
    }
    let leading = groups.iter().take_while(|group| **group == 0).count();
    groups.drain(..leading);
    weight -= leading as i64;
    if groups.is_empty() {
        weight = 0;
    }
    out.put_i16(groups.len() as i16);
    out.put_i16(weight as i16);
    out.put_u16(if negative && !groups.is_empty() { 0x4000 } else { 0 });
    out.put_i16(fraction.len() as i16);
    groups.into_iter().for_each(|group| out.put_i16(group));
}
