//! Limits for functions whose result can be much larger than their arguments: its size is estimated before the call.
//!
//! The values of a batch are computed at once, outside of the memory that operators reserve. So a call may return at
//! most [`BATCH_BYTES_MAX`] for a batch, and one value may have at most the size that PostgreSQL allows.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, FieldRef, Int64Type, IntervalMonthDayNanoType, TimeUnit};
use datafusion::error::{DataFusionError, Result};
use datafusion::functions::{string, unicode};
use datafusion::functions_nested::{range, repeat};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

/// The most bytes that one call may return for a batch.
const BATCH_BYTES_MAX: u128 = 256 << 20;

/// The most bytes of one value, as in PostgreSQL.
const VALUE_BYTES_MAX: u128 = 1 << 30;

/// Estimates the bytes of a row's result from its arguments.
type Estimate = fn(&[ArrayRef], usize) -> u128;

/// The engine's functions with a limit, under their own names.
pub(super) fn functions() -> Vec<ScalarUDF> {
    let limited = |inner: Arc<ScalarUDF>, estimate: Estimate| ScalarUDF::from(LimitedFunction { inner, estimate });
    vec![
        limited(string::repeat(), |args, row| length(&args[0], row) * number(&args[1], row)),
        // A character has at most four bytes.
        limited(unicode::lpad(), |args, row| 4 * number(&args[1], row)),
        limited(unicode::rpad(), |args, row| 4 * number(&args[1], row)),
        limited(string::replace(), |args, row| {
            let found = length(&args[0], row) / length(&args[1], row).max(1);
            length(&args[0], row) + found * length(&args[2], row)
        }),
        limited(repeat::array_repeat_udf(), |args, row| number(&args[1], row) * 16),
        limited(range::gen_series_udf(), steps),
        limited(range::range_udf(), steps),
    ]
}

fn length(array: &ArrayRef, row: usize) -> u128 {
    if array.is_null(row) {
        return 0;
    }
    let bytes = match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(row).len(),
        DataType::LargeUtf8 => array.as_string::<i64>().value(row).len(),
        DataType::Utf8View => array.as_string_view().value(row).len(),
        _ => 0,
    };
    bytes as u128
}

fn number(array: &ArrayRef, row: usize) -> u128 {
    whole(array, row).map_or(0, |number| number.max(0).unsigned_abs())
}

fn whole(array: &ArrayRef, row: usize) -> Option<i128> {
    if let Some(numbers) = array.as_primitive_opt::<Int64Type>() {
        return numbers.is_valid(row).then(|| numbers.value(row).into());
    }
    let value = cast(&array.slice(row, 1), &DataType::Int64).ok()?;
    value.is_valid(0).then(|| value.as_primitive::<Int64Type>().value(0).into())
}

/// The bytes of a series from its first to its last value, by its step.
fn steps(args: &[ArrayRef], row: usize) -> u128 {
    const DAY: i128 = 86_400_000_000;
    let micros = |array: &ArrayRef| match array.data_type() {
        DataType::Timestamp(_, zone) => {
            cast(array, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone())).unwrap_or_else(|_| Arc::clone(array))
        }
        _ => Arc::clone(array),
    };
    let (first, last) = match args {
        [last] => (Some(0), whole(last, row)),
        [first, last, ..] => (whole(&micros(first), row), whole(&micros(last), row)),
        [] => (None, None),
    };
    let unit = if matches!(args[0].data_type(), DataType::Date32) { DAY } else { 1 };
    let step = args.get(2).map_or(Some(1), |step| match step.as_primitive_opt::<IntervalMonthDayNanoType>() {
        Some(spans) => spans.is_valid(row).then(|| {
            let span = spans.value(row);
            (i128::from(span.months) * 28 + i128::from(span.days)) * DAY + i128::from(span.nanoseconds / 1000)
        }),
        None => whole(step, row).map(|step| step * unit),
    });
    match (first, last, step) {
        (Some(first), Some(last), Some(step)) if step != 0 => ((last - first) * unit / step).max(0).unsigned_abs() * 8,
        _ => 0,
    }
}

#[derive(Debug)]
struct LimitedFunction {
    inner: Arc<ScalarUDF>,
    estimate: Estimate,
}

impl PartialEq for LimitedFunction {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner
    }
}

impl Eq for LimitedFunction {}

impl std::hash::Hash for LimitedFunction {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl ScalarUDFImpl for LimitedFunction {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        self.inner.return_type(given)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(given)
    }

    fn simplify(&self, args: Vec<Expr>, context: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.inner.simplify(args, context)
    }

    fn short_circuits(&self) -> bool {
        self.inner.short_circuits()
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_scalar = call.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if is_scalar { 1 } else { call.number_rows };
        let whole = |arg: &ColumnarValue| -> Result<ArrayRef> {
            let array = arg.to_array(rows)?;
            Ok(if array.data_type().is_integer() { cast(&array, &DataType::Int64)? } else { array })
        };
        let args = call.args.iter().map(whole).collect::<Result<Vec<_>>>()?;
        let mut total = 0;
        for row in 0..rows {
            let bytes = (self.estimate)(&args, row);
            if bytes > VALUE_BYTES_MAX {
                return Err(too_large(format!("{}: requested length too large", self.name())));
            }
            total += bytes;
        }
        if total > BATCH_BYTES_MAX {
            let (given, max) = (total >> 20, BATCH_BYTES_MAX >> 20);
            return Err(too_large(format!(
                "{} would return {given} MiB for {rows} rows at once; the limit is {max} MiB",
                self.name()
            )));
        }
        self.inner.invoke_with_args(call)
    }
}

fn too_large(message: String) -> DataFusionError {
    DataFusionError::ResourcesExhausted(message)
}
