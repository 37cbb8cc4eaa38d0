//! `width_bucket`: the number of the range that a value is in, of equal ranges or between the limits of an array.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, Int32Array};
use datafusion::arrow::compute::{CastOptions, cast, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int32Type, i256};
use datafusion::common::{exec_datafusion_err, exec_err, plan_err};
use datafusion::error::Result;

use super::kernel::{Kernel, KernelCall};
use super::numeric::{exact, out_of_range};

/// `width_bucket(value, low, high, count)` and `width_bucket(value, limits)`.
pub(super) const WIDTH_BUCKET: Kernel = Kernel {
    name: "width_bucket",
    result: |given| match given {
        [_, _, _, _] | [_, DataType::List(_) | DataType::LargeList(_)] => Ok(DataType::Int32),
        _ => plan_err!("width_bucket takes a value, two bounds and a count, or a value and an array of limits"),
    },
    run: |call| match &call.args[..] {
        [value, limits] => between_limits(value, limits),
        _ => in_ranges(call),
    },
};

fn in_ranges(call: &KernelCall<'_>) -> Result<ArrayRef> {
    let counts = cast(&call.args[3], &DataType::Int32)?;
    let counts = counts.as_primitive::<Int32Type>();
    let types: Option<Vec<DataType>> = call.args[..3].iter().map(|array| exact(array.data_type())).collect();
    let buckets = match types {
        Some(types) => {
            let scale = types.iter().map(|own| if let DataType::Decimal128(_, scale) = own { *scale } else { 0 }).max();
            let common = DataType::Decimal128(38, scale.unwrap_or(0));
            let options = CastOptions { safe: false, ..CastOptions::default() };
            let columns = call.args[..3].iter().map(|array| cast_with_options(array, &common, &options));
            let columns = columns.collect::<Result<Vec<ArrayRef>, _>>()?;
            let of = |at: usize| -> &Decimal128Array { columns[at].as_primitive::<Decimal128Type>() };
            each(call.rows, &columns, counts, |row, count| {
                exact_bucket(of(0).value(row), of(1).value(row), of(2).value(row), count)
            })?
        }
        None => {
            let columns = call.args[..3].iter().map(|array| cast(array, &DataType::Float64));
            let columns = columns.collect::<Result<Vec<ArrayRef>, _>>()?;
            let of = |at: usize, row: usize| columns[at].as_primitive::<Float64Type>().value(row);
            each(call.rows, &columns, counts, |row, count| double_bucket(of(0, row), of(1, row), of(2, row), count))?
        }
    };
    Ok(Arc::new(buckets))
}

fn each(
    rows: usize,
    columns: &[ArrayRef],
    counts: &Int32Array,
    bucket: impl Fn(usize, i32) -> Result<i32>,
) -> Result<Int32Array> {
    let buckets = (0..rows).map(|row| {
        if counts.is_null(row) || columns.iter().any(|column| column.is_null(row)) {
            return Ok(None);
        }
        match counts.value(row) {
            count @ 1..=2_147_483_646 => bucket(row, count).map(Some),
            _ => exec_err!("count must be greater than zero"),
        }
    });
    buckets.collect()
}

/// The bucket of a value before the first range (0) or after the last (`count + 1`). `high` may be below `low`.
fn outside<T: PartialOrd>(value: T, low: T, high: T, count: i32) -> Option<i32> {
    let (before, after) = if high < low { (value > low, value <= high) } else { (value < low, value >= high) };
    if before { Some(0) } else { after.then_some(count + 1) }
}

fn exact_bucket(value: i128, low: i128, high: i128, count: i32) -> Result<i32> {
    if low == high {
        return exec_err!("lower bound cannot equal upper bound");
    }
    if let Some(outside) = outside(value, low, high, count) {
        return Ok(outside);
    }
    let distance = |from: i128, to: i128| i256::from_i128(to).wrapping_sub(i256::from_i128(from)).wrapping_abs();
    let product = distance(low, value).checked_mul(i256::from(count)).ok_or_else(out_of_range)?;
    let position = product.checked_div(distance(low, high)).and_then(i256::to_i128).ok_or_else(out_of_range)?;
    i32::try_from(position + 1).map_err(|_| exec_datafusion_err!("integer out of range"))
}

fn double_bucket(value: f64, low: f64, high: f64, count: i32) -> Result<i32> {
    if value.is_nan() || low.is_nan() || high.is_nan() {
        return exec_err!("operand, lower bound, and upper bound cannot be NaN");
    }
    if !low.is_finite() || !high.is_finite() {
        return exec_err!("lower and upper bounds must be finite");
    }
    if low == high {
        return exec_err!("lower bound cannot equal upper bound");
    }
    if let Some(outside) = outside(value, low, high, count) {
        return Ok(outside);
    }
    let position = (value - low) / (high - low) * f64::from(count);
    Ok((position.floor() as i32).min(count - 1) + 1)
}

/// The number of limits that are at most the value; the limits are in ascending order.
fn between_limits(values: &ArrayRef, limits: &ArrayRef) -> Result<ArrayRef> {
    let limits =
        limits.as_list_opt::<i32>().ok_or_else(|| exec_datafusion_err!("width_bucket needs an array of limits"))?;
    let common = match (exact(values.data_type()), exact(&limits.value_type())) {
        (Some(DataType::Decimal128(_, value)), Some(DataType::Decimal128(_, limit))) => {
            DataType::Decimal128(38, value.max(limit))
        }
        _ if values.data_type().is_numeric() => DataType::Float64,
        _ => values.data_type().clone(),
    };
    let values = cast(values, &common)?;
    let buckets = (0..values.len()).map(|row| {
        if values.is_null(row) || limits.is_null(row) {
            return Ok(None);
        }
        let limits = cast(&limits.value(row), &common)?;
        if limits.null_count() > 0 {
            return exec_err!("thresholds array must not contain NULLs");
        }
        let value = datafusion::arrow::array::Scalar::new(values.slice(row, 1));
        let reached = datafusion::arrow::compute::kernels::cmp::lt_eq(&limits, &value)?;
        Ok(i32::try_from(reached.true_count()).ok())
    });
    Ok(Arc::new(buckets.collect::<Result<Int32Array>>()?))
}

#[cfg(test)]
mod tests {
    use super::{double_bucket, exact_bucket};

    #[test]
    fn buckets_begin_at_their_lower_bound() {
        assert_eq!(exact_bucket(29, 0, 100, 100).unwrap(), 30);
        assert_eq!(exact_bucket(100, 0, 100, 100).unwrap(), 101);
        assert_eq!(exact_bucket(-1, 0, 100, 100).unwrap(), 0);
        assert_eq!(exact_bucket(10, 10, 0, 5).unwrap(), 1);
        assert_eq!(exact_bucket(0, 10, 0, 5).unwrap(), 6);
        assert!(exact_bucket(0, 1, 1, 5).is_err());
        assert_eq!(double_bucket(5.35, 0.024, 10.06, 5).unwrap(), 3);
        assert!(double_bucket(f64::NAN, 0.0, 1.0, 5).is_err());
    }
}
