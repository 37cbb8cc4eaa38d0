//! `last(value, ts)` and `first(value, ts)`: the value of the row with the newest or oldest instant of a group, without
//! a sort. `max_by` and `min_by` are other names for them.
//!
//! Rows whose instant is NULL are ignored. Rows whose value is NULL are not: the result is NULL where the newest row
//! has NULL.

use std::mem::size_of;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, Int64Array, PrimitiveArray, downcast_primitive,
    new_empty_array,
};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::{cast, nullif};
use datafusion::arrow::datatypes::{DataType, Decimal128Type, Field, FieldRef, Float64Type, Int64Type};

use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum End {
    First,
    Last,
}

impl End {
    fn beats(self, key: i64, held: i64) -> bool {
        match self {
            End::First => key < held,
            End::Last => key > held,
        }
    }
}

/// The aggregate `first` or `last`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Point {
    end: End,
    signature: Signature,
    aliases: Vec<String>,
}

impl Point {
    /// The aggregate `first`, or `min_by`.
    pub(crate) fn first() -> Point {
        Point::new(End::First, "min_by")
    }

    /// The aggregate `last`, or `max_by`.
    pub(crate) fn last() -> Point {
        Point::new(End::Last, "max_by")
    }

    fn new(end: End, alias: &str) -> Point {
        Point { end, signature: Signature::user_defined(Volatility::Immutable), aliases: vec![alias.to_owned()] }
    }
}

impl AggregateUDFImpl for Point {
    fn name(&self) -> &str {
        match self.end {
            End::First => "first",
            End::Last => "last",
        }
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let name = self.name();
        match given {
            [value, key] if is_key(key) => Ok(vec![value.clone(), key.clone()]),
            [_, key] => plan_err!(
                "{name}(value, by) orders by an instant, a date or a number of up to 18 digits, not by {key}; \
                 {name}_value(value ORDER BY by) orders by anything"
            ),
            _ => plan_err!("{name} takes a value and what orders it: {name}(value, ts)"),
        }
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        Ok(given[0].clone())
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let value = Field::new(format_state_name(args.name, "value"), args.return_field.data_type().clone(), true);
        let key = Field::new(format_state_name(args.name, "key"), DataType::Int64, true);
        Ok(vec![Arc::new(value), Arc::new(key)])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let value = ScalarValue::try_from(args.return_field.data_type())?;
        Ok(Box::new(SinglePoint { end: self.end, value, key: None }))
    }

    fn groups_accumulator_supported(&self, _args: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        let of = args.return_field.data_type().clone();
        macro_rules! plain {
            ($type:ty) => {{
                let values = PrimitiveValues::<$type> { of, values: Vec::new(), valid: Vec::new() };
                return Ok(Box::new(GroupedPoints::new(self.end, values)));
            }};
        }
        downcast_primitive! {
            &of => (plain),
            _ => {}
        }
        Ok(Box::new(GroupedPoints::new(
            self.end,
            ScalarValues { of, values: Vec::new(), newest: Vec::new(), bytes: 0 },
        )))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::NotSupported
    }
}

fn is_key(of: &DataType) -> bool {
    let unsigned = matches!(of, DataType::UInt8 | DataType::UInt16 | DataType::UInt32);
    let number = of.is_signed_integer() || unsigned || of.is_floating();
    number || small_decimal(of) || matches!(of, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64)
}

/// Whether a decimal's unscaled value fits in 64 bits.
fn small_decimal(of: &DataType) -> bool {
    matches!(of, DataType::Decimal128(precision, _) if *precision <= 18)
}

/// The values by which rows are ordered, as integers in the same order. Their type must be one that `is_key` accepts.
pub(crate) fn keys(of: &ArrayRef) -> Result<Int64Array> {
    if of.data_type().is_floating() {
        let floats = cast(of, &DataType::Float64)?;
        let ordered = |float: f64| {
            let bits = float.to_bits().cast_signed();
            bits ^ (((bits >> 63).cast_unsigned()) >> 1).cast_signed()
        };
        return Ok(floats.as_primitive::<Float64Type>().unary(ordered));
    }
    if small_decimal(of.data_type()) {
        let unscaled = |value: i128| i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX });
        return Ok(of.as_primitive::<Decimal128Type>().unary(unscaled));
    }
    let whole = if *of.data_type() == DataType::Date32 { cast(of, &DataType::Int32)? } else { Arc::clone(of) };
    Ok(cast(&whole, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}

/// The accumulator without GROUP BY.
#[derive(Debug)]
struct SinglePoint {
    end: End,
    value: ScalarValue,
    key: Option<i64>,
}

impl SinglePoint {
    fn take(&mut self, values: &ArrayRef, keys: &Int64Array) -> Result<()> {
        let mut won = None;
        for (row, key) in keys.iter().enumerate() {
            if let Some(key) = key
                && self.key.is_none_or(|held| self.end.beats(key, held))
            {
                self.key = Some(key);
                won = Some(row);
            }
        }
        if let Some(row) = won {
            self.value = ScalarValue::try_from_array(values, row)?;
            self.value.compact();
        }
        Ok(())
    }
}

impl Accumulator for SinglePoint {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.take(&values[0], &keys(&values[1])?)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.take(&states[0], states[1].as_primitive())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.value.clone(), ScalarValue::Int64(self.key)])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(self.value.clone())
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.value.size()
    }
}

/// The values of groups: `set` is called for each row that is newer or older than its group's, `end_of_batch` once
/// after all rows of a batch.
trait Values: Send + 'static {
    fn resize(&mut self, groups: usize);
    fn set(&mut self, group: usize, array: &ArrayRef, row: usize);
    fn end_of_batch(&mut self, array: &ArrayRef) -> Result<()>;
    fn take(&mut self, emit: EmitTo) -> Result<ArrayRef>;
    fn size(&self) -> usize;
}

struct GroupedPoints<V> {
    end: End,
    values: V,
    keys: Vec<i64>,
    seen: Vec<bool>,
}

impl<V: Values> GroupedPoints<V> {
    fn new(end: End, values: V) -> Self {
        GroupedPoints { end, values, keys: Vec::new(), seen: Vec::new() }
    }

    fn add(
        &mut self,
        array: &ArrayRef,
        keys: &Int64Array,
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.values.resize(total);
        self.keys.resize(total, 0);
        self.seen.resize(total, false);
        let filter = filter.map(truths);
        let plain = keys.null_count() == 0 && filter.is_none();
        for (row, (group, key)) in groups.iter().zip(keys.values()).enumerate() {
            let counts = plain || (keys.is_valid(row) && filter.as_ref().is_none_or(|filter| filter.is_valid(row)));
            if counts && (!self.seen[*group] || self.end.beats(*key, self.keys[*group])) {
                self.seen[*group] = true;
                self.keys[*group] = *key;
                self.values.set(*group, array, row);
            }
        }
        self.values.end_of_batch(array)
    }
}

/// The rows for which a filter is true, and not false or NULL.
fn truths(filter: &BooleanArray) -> NullBuffer {
    let truths = match filter.nulls() {
        Some(nulls) => filter.values() & nulls.inner(),
        None => filter.values().clone(),
    };
    NullBuffer::new(truths)
}

impl<V: Values> GroupsAccumulator for GroupedPoints<V> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.add(&values[0], &keys(&values[1])?, groups, filter, total)
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.add(&states[0], states[1].as_primitive(), groups, None, total)
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        emit.take_needed(&mut self.keys);
        emit.take_needed(&mut self.seen);
        self.values.take(emit)
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        let seen = NullBuffer::from(emit.take_needed(&mut self.seen));
        let keys = Int64Array::new(emit.take_needed(&mut self.keys).into(), Some(seen));
        Ok(vec![self.values.take(emit)?, Arc::new(keys)])
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let keys: ArrayRef = Arc::new(keys(&values[1])?);
        let keys = match filter.map(truths) {
            Some(truths) => nullif(&keys, &BooleanArray::new(!truths.inner(), None))?,
            None => keys,
        };
        Ok(vec![Arc::clone(&values[0]), keys])
    }

    fn size(&self) -> usize {
        self.values.size() + self.keys.capacity() * size_of::<i64>() + self.seen.capacity()
    }
}

struct PrimitiveValues<T: ArrowPrimitiveType> {
    of: DataType,
    values: Vec<T::Native>,
    valid: Vec<bool>,
}

impl<T: ArrowPrimitiveType> Values for PrimitiveValues<T> {
    fn resize(&mut self, groups: usize) {
        self.values.resize(groups, T::default_value());
        self.valid.resize(groups, false);
    }

    fn set(&mut self, group: usize, array: &ArrayRef, row: usize) {
        let array = array.as_primitive::<T>();
        self.values[group] = array.value(row);
        self.valid[group] = array.is_valid(row);
    }

    fn end_of_batch(&mut self, _array: &ArrayRef) -> Result<()> {
        Ok(())
    }

    fn take(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let valid = NullBuffer::from(emit.take_needed(&mut self.valid));
        let values = emit.take_needed(&mut self.values);
        Ok(Arc::new(PrimitiveArray::<T>::new(values.into(), Some(valid)).with_data_type(self.of.clone())))
    }

    fn size(&self) -> usize {
        self.values.capacity() * size_of::<T::Native>() + self.valid.capacity()
    }
}

/// Values of all other types, such as texts. They are copied once per batch and group, not for each row that `set`
/// gets.
struct ScalarValues {
    of: DataType,
    values: Vec<Option<ScalarValue>>,
    newest: Vec<(usize, usize)>,
    bytes: usize,
}

impl Values for ScalarValues {
    fn resize(&mut self, groups: usize) {
        self.values.resize(groups, None);
    }

    fn set(&mut self, group: usize, _array: &ArrayRef, row: usize) {
        self.newest.push((group, row));
    }

    fn end_of_batch(&mut self, array: &ArrayRef) -> Result<()> {
        // Of each group, the last row that was set is the result.
        self.newest.sort_unstable();
        for at in 0..self.newest.len() {
            let (group, row) = self.newest[at];
            if self.newest.get(at + 1).is_some_and(|next| next.0 == group) {
                continue;
            }
            let mut value = ScalarValue::try_from_array(array, row)?;
            value.compact();
            self.bytes += value.size();
            if let Some(old) = self.values[group].replace(value) {
                self.bytes -= old.size();
            }
        }
        self.newest.clear();
        Ok(())
    }

    fn take(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let taken = emit.take_needed(&mut self.values);
        self.bytes -= taken.iter().flatten().map(ScalarValue::size).sum::<usize>();
        if taken.is_empty() {
            return Ok(new_empty_array(&self.of));
        }
        let null = ScalarValue::try_from(&self.of)?;
        ScalarValue::iter_to_array(taken.into_iter().map(|value| value.unwrap_or_else(|| null.clone())))
    }

    fn size(&self) -> usize {
        self.bytes + self.values.capacity() * size_of::<Option<ScalarValue>>()
    }
}
