//! `resample(ts, energy, step, width [, zone])`: distributes the energy of a row over the buckets that its step covers,
//! as a list of `(ts, value)` to unnest and sum. Each bucket gets the share of the step's time that is in it, and the
//! shares sum to the row's energy exactly.
//!
//! `expected_points(period, ts, step [, zone])`: how many steps the calendar period of `ts` has.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Array, Float64Array, Int64Array, ListArray, StructArray,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Decimal128Type, Field, Fields, Float64Type, Int64Type};
use datafusion::common::{exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use datafusion::scalar::ScalarValue;

use super::column::{coerced_instant, constant, instants, is_text, per_second};
use super::energy::{Steps, coerced_value, rounded};
use super::floor::Floor;
use super::width::{self, SECOND};
use super::{bucket, energy};

/// The most buckets that one row is distributed over.
const PIECES_MAX: usize = 1_000_000;

/// The function `resample`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Resample {
    signature: Signature,
}

impl Default for Resample {
    fn default() -> Self {
        Resample { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

fn piece(instant: &DataType, value: &DataType) -> Fields {
    Fields::from(vec![Field::new("ts", instant.clone(), true), Field::new("value", value.clone(), true)])
}

fn coerced_step(given: &DataType) -> Option<DataType> {
    if given.is_integer() { Some(DataType::Int64) } else { width::coerced(given) }
}

impl ScalarUDFImpl for Resample {
    fn name(&self) -> &'static str {
        "resample"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        if let [instant, value, step, to, zones @ ..] = given
            && zones.len() <= 1
            && zones.iter().all(is_text)
            && let (Some(instant), Some(value), Some(step), Some(to)) =
                (coerced_instant(instant), coerced_value(value), coerced_step(step), width::coerced(to))
        {
            let zones = zones.iter().map(|_| DataType::Utf8);
            return Ok([instant, value, step, to].into_iter().chain(zones).collect());
        }
        plan_err!(
            "resample takes an instant, an energy, its step and a width: resample(ts, energy_kwh, '10 min', '15 min')"
        )
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        let of = DataType::Struct(piece(&given[0], &given[1]));
        Ok(DataType::List(Arc::new(Field::new_list_field(of, true))))
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let of = call.args[0].data_type();
        let constants = call.args[3..].iter().map(|value| constant(value, "resample", "the width and the time zone"));
        let constants = constants.collect::<Result<Vec<&ScalarValue>>>()?;
        let mut floor = bucket::floor(&constants, &of, &call.config_options)?;
        let tick = SECOND / per_second(instants(&of)?.0);
        let steps = Steps::of(&call.args[2])?;
        let starts = cast(&call.args[0].to_array(call.number_rows)?, &DataType::Int64)?;
        let starts = starts.as_primitive::<Int64Type>();
        let mut pieces = Pieces::default();
        for row in 0..call.number_rows {
            let start = starts.is_valid(row).then(|| starts.value(row));
            pieces.row(start, steps.at(row)?.map(|step| step / tick), &mut floor)?;
        }
        pieces.list(&of, &call.args[1].to_array(call.number_rows)?).map(ColumnarValue::Array)
    }
}

/// The pieces of all rows of a batch. Times are in ticks.
#[derive(Default)]
struct Pieces {
    /// The beginning of each piece's bucket.
    buckets: Vec<i64>,
    /// The time from the beginning of the row's step to the end of each piece.
    until: Vec<i64>,
    /// The number of pieces of each row.
    lengths: Vec<usize>,
    steps: Vec<Option<i64>>,
}

impl Pieces {
    fn row(&mut self, start: Option<i64>, step: Option<i64>, floor: &mut Floor) -> Result<()> {
        let before = self.buckets.len();
        let whole = start.zip(step);
        if let Some((start, step)) = whole {
            if step <= 0 {
                return exec_err!("resample: a step must be greater than zero");
            }
            let end = start.saturating_add(step);
            let mut bucket = floor.of(start);
            while bucket < end {
                let next = floor.next(bucket);
                self.buckets.push(bucket);
                self.until.push(next.min(end) - start);
                if self.buckets.len() - before > PIECES_MAX {
                    return exec_err!("resample: one row covers more than {PIECES_MAX} buckets");
                }
                bucket = next;
            }
        }
        self.lengths.push(self.buckets.len() - before);
        self.steps.push(whole.map(|(_, step)| step));
        Ok(())
    }

    fn list(self, of: &DataType, values: &ArrayRef) -> Result<ArrayRef> {
        let shares: ArrayRef = if let Some(decimals) = values.as_primitive_opt::<Decimal128Type>() {
            let part = |value: i128, until: i64, step: i64| match value.checked_mul(i128::from(until)) {
                Some(product) => rounded(product, i128::from(step)),
                // The product has more than 38 digits: divide first.
                None => value / i128::from(step) * i128::from(until),
            };
            let shares: Decimal128Array = self.shares(decimals.iter(), 0, part).into_iter().collect();
            Arc::new(shares.with_data_type(values.data_type().clone()))
        } else {
            let floats = values.as_primitive::<Float64Type>();
            let part = |value: f64, until: i64, step: i64| value * (until as f64 / step as f64);
            Arc::new(self.shares(floats.iter(), 0.0, part).into_iter().collect::<Float64Array>())
        };
        let buckets = cast(&Int64Array::from(self.buckets), of)?;
        let fields = piece(of, values.data_type());
        let pieces = StructArray::try_new(fields.clone(), vec![buckets, shares], None)?;
        let rows = NullBuffer::from_iter(self.steps.iter().map(Option::is_some));
        let field = Arc::new(Field::new_list_field(DataType::Struct(fields), true));
        let list = ListArray::try_new(field, OffsetBuffer::from_lengths(self.lengths), Arc::new(pieces), Some(rows))?;
        Ok(Arc::new(list))
    }

    /// A piece's share is the row's total up to its end, less the total up to its beginning. So the shares sum exactly
    /// to the row's value.
    fn shares<T: Copy + std::ops::Sub<Output = T>>(
        &self,
        values: impl Iterator<Item = Option<T>>,
        zero: T,
        part: impl Fn(T, i64, i64) -> T,
    ) -> Vec<Option<T>> {
        let mut out = Vec::with_capacity(self.buckets.len());
        for ((value, length), step) in values.zip(&self.lengths).zip(&self.steps) {
            let mut before = zero;
            let from = out.len();
            for until in &self.until[from..from + length] {
                out.push(value.zip(*step).map(|(value, step)| {
                    let total = if *until == step { value } else { part(value, *until, step) };
                    let share = total - before;
                    before = total;
                    share
                }));
            }
        }
        out
    }
}

/// The function `expected_points`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct ExpectedPoints {
    signature: Signature,
}

impl Default for ExpectedPoints {
    fn default() -> Self {
        ExpectedPoints { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for ExpectedPoints {
    fn name(&self) -> &'static str {
        "expected_points"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        if let [period, instant, step, zones @ ..] = given
            && zones.len() <= 1
            && zones.iter().all(is_text)
            && let (Some(period), Some(instant), Some(step)) =
                (width::coerced(period), coerced_instant(instant), coerced_step(step))
        {
            let zones = zones.iter().map(|_| DataType::Utf8);
            return Ok([period, instant, step].into_iter().chain(zones).collect());
        }
        plan_err!(
            "expected_points takes a period, an instant in it and a step: \
             expected_points('1 month', ts, '1 hour', 'Europe/Paris')"
        )
    }

    fn return_type(&self, _given: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let of = call.args[1].data_type();
        let constants = [0].into_iter().chain(3..call.args.len());
        let constants = constants.map(|at| constant(&call.args[at], "expected_points", "the period and the time zone"));
        let mut floor = bucket::floor(&constants.collect::<Result<Vec<_>>>()?, &of, &call.config_options)?;
        let tick = SECOND / per_second(instants(&of)?.0);
        let steps = energy::Steps::of(&call.args[2])?;
        let starts = cast(&call.args[1].to_array(call.number_rows)?, &DataType::Int64)?;
        let mut known = None;
        let mut out = Vec::with_capacity(call.number_rows);
        for (row, instant) in starts.as_primitive::<Int64Type>().iter().enumerate() {
            let Some((instant, step)) = instant.zip(steps.at(row)?) else {
                out.push(None);
                continue;
            };
            if step < tick {
                return exec_err!("expected_points: the step is finer than the column's instants");
            }
            let from = floor.of(instant);
            let to = match known {
                Some((start, end)) if start == from => end,
                _ => floor.next(from),
            };
            known = Some((from, to));
            out.push(Some((to - from) / (step / tick)));
        }
        Ok(ColumnarValue::Array(Arc::new(Int64Array::from(out))))
    }
}
