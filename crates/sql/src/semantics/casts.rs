//! Casts as in PostgreSQL: to integers with rounding, from doubles to numerics by their digits, to texts in its format.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array};
use datafusion::arrow::compute::cast as cast_array;
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::arrow::error::ArrowError;
use datafusion::common::DFSchema;
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, cast};

use super::intervals::is_interval;
use super::kernel::Kernel;
use super::numeric::TO_NUMERIC;
use crate::timestamp_text::as_text;

/// The cast with PostgreSQL's result; `None` if the engine's cast already has it.
pub(super) fn cast_as_postgres(given: &Cast, schema: &DFSchema) -> Option<Expr> {
    // An operand without a type here (an outer column) is not changed.
    let (from, to) = (given.expr.get_type(schema).ok()?, given.field.data_type());
    let value = || given.expr.as_ref().clone();
    match (&from, to) {
        (DataType::Float32 | DataType::Float64, DataType::Int16 | DataType::Int32 | DataType::Int64) => {
            Some(TO_INTEGER.call_as(to.clone(), vec![value()]))
        }
        (DataType::Decimal128(precision, scale), to) if to.is_signed_integer() && *scale > 0 => {
            let whole = precision.saturating_sub(scale.unsigned_abs()).saturating_add(1).min(38);
            Some(cast(cast(value(), DataType::Decimal128(whole, 0)), to.clone()))
        }
        (DataType::Float32 | DataType::Float64, DataType::Decimal128(..)) => {
            Some(cast(TO_NUMERIC.call(vec![value()]), to.clone()))
        }
        (from, to) if to.is_string() && has_own_text(from) => {
            let text = as_text(value());
            Some(if *to == DataType::Utf8 { text } else { cast(text, to.clone()) })
        }
        _ => None,
    }
}

fn has_own_text(data_type: &DataType) -> bool {
    is_interval(data_type)
        || data_type.is_floating()
        || matches!(
            data_type,
            DataType::Binary
                | DataType::LargeBinary
                | DataType::BinaryView
                | DataType::List(_)
                | DataType::LargeList(_)
                | DataType::FixedSizeList(..)
        )
}

/// Rounds a double to an integer, halves to the even one.
const TO_INTEGER: Kernel = Kernel {
    name: "double_to_integer",
    result: |_| Ok(DataType::Int64),
    run: |call| {
        let doubles = cast_array(&call.args[0], &DataType::Float64)?;
        let (name, least, beyond) = match call.result {
            DataType::Int16 => ("smallint", f64::from(i16::MIN), f64::from(i16::MAX) + 1.0),
            DataType::Int32 => ("integer", f64::from(i32::MIN), f64::from(i32::MAX) + 1.0),
            _ => ("bigint", i64::MIN as f64, i64::MAX as f64),
        };
        let whole = doubles.as_primitive::<Float64Type>().iter().map(|value| match value.map(f64::round_ties_even) {
            None => Ok(None),
            Some(value) if value >= least && value < beyond => Ok(Some(value as i64)),
            Some(_) => Err(ArrowError::ArithmeticOverflow(format!("{name} out of range"))),
        });
        let whole: ArrayRef = Arc::new(whole.collect::<Result<Int64Array, ArrowError>>()?);
        Ok(cast_array(&whole, call.result)?)
    },
};
