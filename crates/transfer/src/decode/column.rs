//! The builders of columns: vectors that become Arrow's buffers without a copy.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, BooleanBufferBuilder, ListArray, PrimitiveArray,
    StringArray, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use arrow::error::ArrowError;

use super::bytes::Reader;
use super::value_error::ValueError;
use super::{numeric, text};
use crate::type_map::ColumnKind;

/// Days from 1970-01-01, from which Arrow counts, to 2000-01-01, from which PostgreSQL counts.
pub const EPOCH_DAYS: i32 = 10_957;
/// [`EPOCH_DAYS`] in microseconds.
pub const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// 0001-01-01 in days since 1970, which stands for `-infinity`: the first day that every reader can display.
pub const DAY_FIRST: i32 = -719_162;
/// 9999-12-31 in days since 1970, which stands for `infinity`: the last day that every reader can display.
pub const DAY_LAST: i32 = 2_932_896;
/// The first microsecond of [`DAY_FIRST`].
pub const MICROS_FIRST: i64 = -62_135_596_800_000_000;
/// The last microsecond of [`DAY_LAST`].
pub const MICROS_LAST: i64 = 253_402_300_799_999_999;

const AS_TEXT: &str =
    "transfer the column as text: in the transfer's file, [tables.\"SCHEMA.TABLE\".columns.COLUMN] as = \"text\"";

/// The builder of a column whose values have one size.
pub struct Fixed<T> {
    values: Vec<T>,
    nulls: Nulls,
}

/// The validity of a column's rows. The bitmap is created with the first NULL.
#[derive(Default)]
struct Nulls {
    bits: Option<BooleanBufferBuilder>,
    length: usize,
}

impl Nulls {
    #[inline]
    fn valid(&mut self) {
        if let Some(bits) = &mut self.bits {
            bits.append(true);
        }
        self.length += 1;
    }

    fn null(&mut self) {
        let length = self.length;
        self.bits
            .get_or_insert_with(|| {
                let mut bits = BooleanBufferBuilder::new(length + 1024);
                bits.append_n(length, true);
                bits
            })
            .append(false);
        self.length += 1;
    }

    fn finish(&mut self) -> Option<NullBuffer> {
        self.length = 0;
        self.bits.take().map(|mut bits| NullBuffer::new(bits.finish()))
    }
}

impl<T: Default + Copy> Fixed<T> {
    fn new() -> Self {
        Fixed { values: Vec::new(), nulls: Nulls::default() }
    }

    #[inline]
    fn push(&mut self, value: T) {
        self.values.push(value);
        self.nulls.valid();
    }

    fn null(&mut self) {
        self.values.push(T::default());
        self.nulls.null();
    }

    fn take(&mut self) -> (Vec<T>, Option<NullBuffer>) {
        let capacity = self.values.len();
        (std::mem::replace(&mut self.values, Vec::with_capacity(capacity)), self.nulls.finish())
    }
}

/// The builder of a column whose values have different lengths.
pub struct Variable {
    /// The bytes of all values, one after the other.
    pub values: Vec<u8>,
    offsets: Vec<i32>,
    nulls: Nulls,
}

impl Variable {
    fn new() -> Self {
        Variable { values: Vec::new(), offsets: vec![0], nulls: Nulls::default() }
    }

    #[inline]
    fn end_value(&mut self) {
        // The sum fits: a batch ends long before 2 GiB, and a value of PostgreSQL has at most 1 GiB.
        self.offsets.push(self.values.len() as i32);
        self.nulls.valid();
    }

    fn null(&mut self) {
        self.offsets.push(self.values.len() as i32);
        self.nulls.null();
    }

    fn take(&mut self) -> (OffsetBuffer<i32>, Vec<u8>, Option<NullBuffer>) {
        let offsets = std::mem::replace(&mut self.offsets, vec![0]);
        let capacity = self.values.len();
        let values = std::mem::replace(&mut self.values, Vec::with_capacity(capacity));
        (OffsetBuffer::new(ScalarBuffer::from(offsets)), values, self.nulls.finish())
    }
}

/// The builder of one column, by its kind.
pub enum Column {
    Bool(Fixed<bool>),
    I16(Fixed<i16>),
    I32(Fixed<i32>),
    I64(Fixed<i64>),
    /// Unsigned 32 bits, as a larger integer.
    U32(Fixed<i64>),
    F32(Fixed<f32>),
    F64(Fixed<f64>),
    /// Integers of `10^-scale`, with precision and scale.
    Decimal(Fixed<i128>, u8, i8),
    /// Days since 1970.
    Date(Fixed<i32>),
    /// Microseconds since 1970.
    Timestamp(Fixed<i64>),
    /// Values whose binary format is their text.
    Text(Variable),
    /// A version byte and the text.
    Jsonb(Variable),
    /// Values that stay bytes.
    Bytes(Variable),
    /// Values whose text is formatted from their binary format, by this function, with the type's name for errors.
    Formatted(Variable, fn(&[u8], &mut Vec<u8>) -> Option<()>, &'static str),
    /// An array, with its elements.
    List(Nested, Box<Column>),
    /// A composite, with its fields.
    Struct(Nested, Vec<Column>),
    /// A range: lower and upper bound, then lower_inclusive, upper_inclusive and empty.
    Range(Nested, Box<[Column; 2]>, [Fixed<bool>; 3]),
    /// A multirange, whose binary format is a sequence of ranges.
    Multirange(Nested, Box<Column>),
}

/// The builder of a column that consists of other columns. Only lists have offsets.
pub struct Nested {
    offsets: Vec<i32>,
    nulls: Nulls,
}

impl Nested {
    fn new() -> Self {
        Nested { offsets: vec![0], nulls: Nulls::default() }
    }

    fn close_list(&mut self, added: usize) -> Result<(), ValueError> {
        let last = self.offsets.last().copied().unwrap_or(0);
        let next = i32::try_from(added).ok().and_then(|added| last.checked_add(added));
        self.offsets.push(next.ok_or_else(|| ValueError::new("more than 2 billion list elements in one batch"))?);
        self.nulls.valid();
        Ok(())
    }

    fn take(&mut self) -> (OffsetBuffer<i32>, Option<NullBuffer>) {
        let offsets = std::mem::replace(&mut self.offsets, vec![0]);
        (OffsetBuffer::new(ScalarBuffer::from(offsets)), self.nulls.finish())
    }
}

impl Column {
    /// An empty column of a kind.
    pub fn new(kind: &ColumnKind) -> Self {
        let formatted = |write, what| Column::Formatted(Variable::new(), write, what);
        match kind {
            ColumnKind::Bool => Column::Bool(Fixed::new()),
            ColumnKind::I16 => Column::I16(Fixed::new()),
            ColumnKind::I32 => Column::I32(Fixed::new()),
            ColumnKind::I64 => Column::I64(Fixed::new()),
            ColumnKind::U32 => Column::U32(Fixed::new()),
            ColumnKind::F32 => Column::F32(Fixed::new()),
            ColumnKind::F64 => Column::F64(Fixed::new()),
            ColumnKind::Decimal { precision, scale } => Column::Decimal(Fixed::new(), *precision, *scale),
            ColumnKind::Date => Column::Date(Fixed::new()),
            ColumnKind::Timestamp { .. } => Column::Timestamp(Fixed::new()),
            ColumnKind::Text => Column::Text(Variable::new()),
            ColumnKind::Jsonb => Column::Jsonb(Variable::new()),
            ColumnKind::Bytes => Column::Bytes(Variable::new()),
            ColumnKind::NumericText => formatted(numeric::write_text, "numeric"),
            ColumnKind::Uuid => formatted(text::uuid, "uuid"),
            ColumnKind::Time => formatted(text::time, "time"),
            ColumnKind::TimeTz => formatted(text::time_tz, "time with time zone"),
            ColumnKind::Interval => formatted(text::interval, "interval"),
            ColumnKind::Inet => formatted(text::inet, "inet"),
            ColumnKind::MacAddress => formatted(text::mac_address, "macaddr"),
            ColumnKind::List(element) => Column::List(Nested::new(), Box::new(Column::new(element))),
            ColumnKind::Struct(fields) => {
                Column::Struct(Nested::new(), fields.iter().map(|(_, kind)| Column::new(kind)).collect())
            }
            ColumnKind::Range(bound) => Column::Range(
                Nested::new(),
                Box::new([Column::new(bound), Column::new(bound)]),
                [Fixed::new(), Fixed::new(), Fixed::new()],
            ),
            ColumnKind::Multirange(bound) => {
                Column::Multirange(Nested::new(), Box::new(Column::new(&ColumnKind::Range(bound.clone()))))
            }
        }
    }

    /// Adds a NULL.
    pub fn null(&mut self) {
        match self {
            Column::Bool(c) => c.null(),
            Column::I16(c) => c.null(),
            Column::I32(c) | Column::Date(c) => c.null(),
            Column::I64(c) | Column::U32(c) | Column::Timestamp(c) => c.null(),
            Column::F32(c) => c.null(),
            Column::F64(c) => c.null(),
            Column::Decimal(c, ..) => c.null(),
            Column::Text(c) | Column::Jsonb(c) | Column::Bytes(c) | Column::Formatted(c, ..) => c.null(),
            Column::List(nested, _) | Column::Multirange(nested, _) => {
                nested.offsets.push(nested.offsets.last().copied().unwrap_or(0));
                nested.nulls.null();
            }
            Column::Struct(nested, fields) => {
                fields.iter_mut().for_each(Column::null);
                nested.nulls.null();
            }
            Column::Range(nested, bounds, flags) => {
                bounds.iter_mut().for_each(Column::null);
                flags.iter_mut().for_each(Fixed::null);
                nested.nulls.null();
            }
        }
    }

    /// Decodes a value and adds it.
    #[inline]
    pub fn push(&mut self, value: &[u8]) -> Result<(), ValueError> {
        match self {
            Column::I64(c) => c.push(i64::from_be_bytes(exactly(value)?)),
            Column::I32(c) => c.push(i32::from_be_bytes(exactly(value)?)),
            Column::F64(c) => c.push(f64::from_be_bytes(exactly(value)?)),
            Column::Timestamp(c) => c.push(instant(i64::from_be_bytes(exactly(value)?))?),
            Column::I16(c) => c.push(i16::from_be_bytes(exactly(value)?)),
            Column::F32(c) => c.push(f32::from_be_bytes(exactly(value)?)),
            Column::U32(c) => c.push(i64::from(u32::from_be_bytes(exactly(value)?))),
            Column::Bool(c) => c.push(exactly::<1>(value)?[0] != 0),
            Column::Date(c) => c.push(day(i32::from_be_bytes(exactly(value)?))?),
            Column::Decimal(c, precision, scale) => c.push(numeric::decimal(value, *precision, *scale)?),
            Column::Text(c) | Column::Bytes(c) => {
                c.values.extend_from_slice(value);
                c.end_value();
            }
            Column::Jsonb(c) => {
                let [1, text @ ..] = value else { return Err(ValueError::new("a jsonb of an unknown version")) };
                c.values.extend_from_slice(text);
                c.end_value();
            }
            Column::Formatted(c, write, what) => {
                write(value, &mut c.values).ok_or_else(|| ValueError::new(format!("not a {what} in binary form")))?;
                c.end_value();
            }
            nested => return nested.push_nested(value),
        }
        Ok(())
    }

    fn push_nested(&mut self, value: &[u8]) -> Result<(), ValueError> {
        let mut reader = Reader::new(value);
        match self {
            Column::List(nested, element) => push_list(nested, element, &mut reader),
            Column::Struct(nested, fields) => push_struct(nested, fields, &mut reader),
            Column::Range(nested, bounds, flags) => push_range(nested, bounds, flags, &mut reader),
            Column::Multirange(nested, ranges) => {
                let count = reader.i32().and_then(|c| usize::try_from(c).ok()).ok_or_else(ends_too_early)?;
                for _ in 0..count {
                    let range = reader.value().flatten().ok_or_else(ends_too_early)?;
                    ranges.push(range)?;
                }
                nested.close_list(count)
            }
            _ => Err(ValueError::new("a flat column has no parts")),
        }
    }

    /// Takes the rows added so far as an array of a type, which must be that of the column's kind.
    pub fn finish(&mut self, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Column::Bool(c) => {
                let (values, nulls) = c.take();
                Arc::new(BooleanArray::new(values.into(), nulls))
            }
            Column::I16(c) => primitive::<Int16Type>(c, data_type),
            Column::I32(c) => primitive::<Int32Type>(c, data_type),
            Column::I64(c) | Column::U32(c) => primitive::<Int64Type>(c, data_type),
            Column::F32(c) => primitive::<Float32Type>(c, data_type),
            Column::F64(c) => primitive::<Float64Type>(c, data_type),
            Column::Decimal(c, ..) => primitive::<Decimal128Type>(c, data_type),
            Column::Date(c) => primitive::<Date32Type>(c, data_type),
            Column::Timestamp(c) => primitive::<TimestampMicrosecondType>(c, data_type),
            Column::Text(c) | Column::Jsonb(c) | Column::Formatted(c, ..) => {
                let (offsets, values, nulls) = c.take();
                Arc::new(StringArray::try_new(offsets, values.into(), nulls)?)
            }
            Column::Bytes(c) => {
                let (offsets, values, nulls) = c.take();
                Arc::new(BinaryArray::try_new(offsets, values.into(), nulls)?)
            }
            Column::List(nested, element) | Column::Multirange(nested, element) => {
                let DataType::List(field) = data_type else { return Err(wrong_type(data_type)) };
                let values = element.finish(field.data_type())?;
                let (offsets, nulls) = nested.take();
                Arc::new(ListArray::try_new(Arc::clone(field), offsets, values, nulls)?)
            }
            Column::Struct(nested, columns) => {
                let DataType::Struct(fields) = data_type else { return Err(wrong_type(data_type)) };
                let arrays = columns
                    .iter_mut()
                    .zip(fields)
                    .map(|(c, f)| c.finish(f.data_type()))
                    .collect::<Result<Vec<_>, _>>()?;
                let (_, nulls) = nested.take();
                Arc::new(StructArray::try_new(fields.clone(), arrays, nulls)?)
            }
            Column::Range(nested, bounds, flags) => {
                let DataType::Struct(fields) = data_type else { return Err(wrong_type(data_type)) };
                let mut arrays = Vec::with_capacity(5);
                for bound in bounds.iter_mut() {
                    arrays.push(bound.finish(fields[0].data_type())?);
                }
                for flag in flags {
                    let (values, nulls) = flag.take();
                    arrays.push(Arc::new(BooleanArray::new(values.into(), nulls)));
                }
                let (_, nulls) = nested.take();
                Arc::new(StructArray::try_new(fields.clone(), arrays, nulls)?)
            }
        })
    }
}

fn wrong_type(data_type: &DataType) -> ArrowError {
    ArrowError::SchemaError(format!("a column is not of the type {data_type}"))
}

fn ends_too_early() -> ValueError {
    ValueError::new("the value ends too early")
}

#[inline]
fn exactly<const N: usize>(value: &[u8]) -> Result<[u8; N], ValueError> {
    value.try_into().map_err(|_| ValueError::new(format!("{} bytes where {N} were expected", value.len())))
}

fn primitive<T: ArrowPrimitiveType>(column: &mut Fixed<T::Native>, data_type: &DataType) -> ArrayRef
where
    T::Native: Default,
{
    let (values, nulls) = column.take();
    let array = PrimitiveArray::<T>::new(ScalarBuffer::from(values), nulls);
    // Only the time zone or the decimal's precision and scale can differ from the default type.
    if array.data_type() == data_type { Arc::new(array) } else { Arc::new(array.with_data_type(data_type.clone())) }
}

#[inline]
fn instant(micros: i64) -> Result<i64, ValueError> {
    match micros.checked_add(EPOCH_MICROS) {
        Some(at) if (MICROS_FIRST..=MICROS_LAST).contains(&at) => Ok(at),
        _ if micros == i64::MAX => Ok(MICROS_LAST),
        _ if micros == i64::MIN => Ok(MICROS_FIRST),
        _ => Err(ValueError::new("a time outside the years 1 to 9999").hint(AS_TEXT)),
    }
}

#[inline]
fn day(days: i32) -> Result<i32, ValueError> {
    match days.checked_add(EPOCH_DAYS) {
        Some(at) if (DAY_FIRST..=DAY_LAST).contains(&at) => Ok(at),
        _ if days == i32::MAX => Ok(DAY_LAST),
        _ if days == i32::MIN => Ok(DAY_FIRST),
        _ => Err(ValueError::new("a date outside the years 1 to 9999").hint(AS_TEXT)),
    }
}

fn push_list(nested: &mut Nested, element: &mut Column, reader: &mut Reader<'_>) -> Result<(), ValueError> {
    let dimensions = reader.i32().ok_or_else(ends_too_early)?;
    let (_has_null, _element_oid) = (reader.i32(), reader.i32());
    if dimensions == 0 {
        return nested.close_list(0);
    }
    if dimensions != 1 {
        return Err(ValueError::new(format!("an array of {dimensions} dimensions, where a list has one")).hint(AS_TEXT));
    }
    let count = reader.i32().and_then(|c| usize::try_from(c).ok()).ok_or_else(ends_too_early)?;
    let lower = reader.i32().ok_or_else(ends_too_early)?;
    if lower != 1 {
        return Err(ValueError::new(format!("an array that starts at {lower}, where a list starts at 1")).hint(AS_TEXT));
    }
    for _ in 0..count {
        match reader.value().ok_or_else(ends_too_early)? {
            None => element.null(),
            Some(value) => element.push(value)?,
        }
    }
    nested.close_list(count)
}

fn push_struct(nested: &mut Nested, fields: &mut [Column], reader: &mut Reader<'_>) -> Result<(), ValueError> {
    let count = reader.i32().ok_or_else(ends_too_early)?;
    if usize::try_from(count) != Ok(fields.len()) {
        return Err(ValueError::new(format!("a composite of {count} fields, not {}", fields.len())));
    }
    for field in fields {
        let _oid = reader.i32();
        match reader.value().ok_or_else(ends_too_early)? {
            None => field.null(),
            Some(value) => field.push(value)?,
        }
    }
    nested.nulls.valid();
    Ok(())
}

// PostgreSQL's flags of a range (src/include/utils/rangetypes.h).
const EMPTY: u8 = 0x01;
const LOWER_INCLUSIVE: u8 = 0x02;
const UPPER_INCLUSIVE: u8 = 0x04;
const LOWER_INFINITE: u8 = 0x08;
const UPPER_INFINITE: u8 = 0x10;

fn push_range(
    nested: &mut Nested,
    bounds: &mut [Column; 2],
    flags: &mut [Fixed<bool>; 3],
    reader: &mut Reader<'_>,
) -> Result<(), ValueError> {
    let bits = reader.u8().ok_or_else(ends_too_early)?;
    for (bound, infinite) in bounds.iter_mut().zip([LOWER_INFINITE, UPPER_INFINITE]) {
        if bits & (EMPTY | infinite) != 0 {
            bound.null();
        } else {
            bound.push(reader.value().flatten().ok_or_else(ends_too_early)?)?;
        }
    }
    for (flag, bit) in flags.iter_mut().zip([LOWER_INCLUSIVE, UPPER_INCLUSIVE, EMPTY]) {
        flag.push(bits & bit != 0);
    }
    nested.nulls.valid();
    Ok(())
}
