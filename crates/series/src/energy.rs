//! `energy(power, step)` and `mean_power(energy, step)`: power in kW gives energy in kWh, MW gives MWh. Each row may
//! have a step of its own. Decimals stay decimals, with six more digits after the point.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, Float64Array};
use datafusion::arrow::datatypes::{
    DataType, Decimal128Type, DurationNanosecondType, Float64Type, Int64Type, IntervalMonthDayNanoType,
};
use datafusion::common::{exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::width::{self, HOUR, SECOND, Width};

/// The digits after the point that a result has more than its argument.
const DIGITS: i8 = 6;
const MILLION: i128 = 1_000_000;

/// The function `energy` or `mean_power`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct EnergyFunction {
    name: &'static str,
    /// Computes energy from power, and not power from energy.
    energy: bool,
    signature: Signature,
}

impl EnergyFunction {
    /// Both functions.
    pub(crate) fn all() -> [EnergyFunction; 2] {
        let of =
            |name, energy| EnergyFunction { name, energy, signature: Signature::user_defined(Volatility::Immutable) };
        [of("energy", true), of("mean_power", false)]
    }

    /// What a value is multiplied by and divided by, in lowest terms.
    fn factor(&self, step: i64) -> Result<(i128, i128)> {
        if step <= 0 {
            return exec_err!("{}: a step must be greater than zero", self.name);
        }
        let (a, b) = (i128::from(step), i128::from(HOUR));
        let common = gcd(a, b);
        Ok(if self.energy { (a / common, b / common) } else { (b / common, a / common) })
    }
}

fn gcd(a: i128, b: i128) -> i128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The type to which a value is coerced; `None` for types that are no numbers.
pub(crate) fn coerced_value(given: &DataType) -> Option<DataType> {
    match given {
        DataType::Decimal128(..) => Some(given.clone()),
        DataType::Null => Some(DataType::Float64),
        other if other.is_numeric() => Some(DataType::Float64),
        _ => None,
    }
}

fn coerced_step(given: &DataType) -> Option<DataType> {
    if given.is_integer() { Some(DataType::Int64) } else { width::coerced(given) }
}

impl ScalarUDFImpl for EnergyFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        if let [value, step] = given
            && let (Some(value), Some(step)) = (coerced_value(value), coerced_step(step))
        {
            return Ok(vec![value, step]);
        }
        plan_err!(
            "{0} takes a number and a step (an interval, a text or whole seconds): {0}(value, '10 min')",
            self.name
        )
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        Ok(match given[0] {
            DataType::Decimal128(_, scale) => DataType::Decimal128(38, scale.saturating_add(DIGITS).min(38)),
            _ => DataType::Float64,
        })
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let steps = Steps::of(&call.args[1])?;
        let values = call.args[0].to_array(call.number_rows)?;
        let out: ArrayRef = if let Some(decimals) = values.as_primitive_opt::<Decimal128Type>() {
            let mut out = Vec::with_capacity(decimals.len());
            for (row, value) in decimals.iter().enumerate() {
                out.push(match (value, steps.at(row)?) {
                    (Some(value), Some(step)) => Some(self.decimal(value, step)?),
                    _ => None,
                });
            }
            Arc::new(Decimal128Array::from(out).with_data_type(call.return_type().clone()))
        } else {
            let mut out = Vec::with_capacity(values.len());
            for (row, value) in values.as_primitive::<Float64Type>().iter().enumerate() {
                out.push(match (value, steps.at(row)?) {
                    (Some(value), Some(step)) => {
                        let (by, over) = self.factor(step)?;
                        Some(value * by as f64 / over as f64)
                    }
                    _ => None,
                });
            }
            Arc::new(Float64Array::from(out))
        };
        Ok(ColumnarValue::Array(out))
    }
}

impl EnergyFunction {
    fn decimal(&self, value: i128, step: i64) -> Result<i128> {
        let (by, over) = self.factor(step)?;
        match value.checked_mul(MILLION).and_then(|value| value.checked_mul(by)) {
            Some(product) => Ok(rounded(product, over)),
            None => exec_err!("{}: {value} is too large for a decimal of 38 digits", self.name),
        }
    }
}

/// `value / over`, rounded to the nearest integer, halves away from zero. `over` must be positive.
pub(crate) fn rounded(value: i128, over: i128) -> i128 {
    let half = if value < 0 { -(over / 2) } else { over / 2 };
    (value + half) / over
}

/// The steps of rows, in nanoseconds.
pub(crate) enum Steps {
    /// The same for all rows.
    One(Option<i64>),
    /// Each row's own.
    Column(ArrayRef),
}

impl Steps {
    /// The steps of an argument: an interval, a duration, a text or whole seconds.
    pub(crate) fn of(value: &ColumnarValue) -> Result<Steps> {
        match value {
            ColumnarValue::Scalar(scalar) => {
                let one = Steps::Column(scalar.to_array()?);
                Ok(Steps::One(one.at(0)?))
            }
            ColumnarValue::Array(array) => Ok(Steps::Column(Arc::clone(array))),
        }
    }

    /// The step of a row, `None` for NULL; an error where it has months or is not an interval.
    pub(crate) fn at(&self, row: usize) -> Result<Option<i64>> {
        let column = match self {
            Steps::One(step) => return Ok(*step),
            Steps::Column(column) => column,
        };
        if column.is_null(row) {
            return Ok(None);
        }
        let nanos = match column.data_type() {
            DataType::Int64 => column.as_primitive::<Int64Type>().value(row).saturating_mul(SECOND),
            DataType::Utf8 => Width::of_text(column.as_string::<i32>().value(row))?.elapsed()?,
            DataType::Duration(_) => column.as_primitive::<DurationNanosecondType>().value(row),
            _ => Width::of_interval(column.as_primitive::<IntervalMonthDayNanoType>().value(row))?.elapsed()?,
        };
        Ok(Some(nanos))
    }
}
