//! Calls whose meaning in PostgreSQL depends on their arguments' types.

use datafusion::arrow::compute::cast as cast_array;
use datafusion::arrow::compute::kernels::length::length;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, ExprSchemable, cast};
use datafusion::scalar::ScalarValue;

use super::kernel::Kernel;
use super::numeric::{self, Rounding};
use super::{joins, operators};
use crate::frontend::ONE_SIDE;

pub(super) fn typed(mut call: ScalarFunction, schema: &DFSchema) -> Transformed<Expr> {
    let changed = match call.func.name() {
        ONE_SIDE => return joins::unmarked(call, schema),
        "character_length" if call.args.iter().all(|arg| arg.get_type(schema).is_ok_and(|own| own.is_binary())) => {
            Some(BYTES.call(std::mem::take(&mut call.args)))
        }
        "round" | "trunc" | "ceil" | "floor" => rounded(&call, schema),
        "coalesce" | "greatest" | "least" | "nullif" => {
            let changed = operators::arguments(&mut call.args, schema);
            let call = Expr::ScalarFunction(call);
            return if changed { Transformed::yes(call) } else { Transformed::no(call) };
        }
        // An integer to the power of another is a double.
        "power" if call.args.iter().all(|arg| arg.get_type(schema).is_ok_and(|own| own.is_integer())) => {
            call.args = call.args.into_iter().map(|arg| cast(arg, DataType::Float64)).collect();
            return Transformed::yes(Expr::ScalarFunction(call));
        }
        _ => None,
    };
    match changed {
        Some(changed) => Transformed::yes(changed),
        None => Transformed::no(Expr::ScalarFunction(call)),
    }
}

/// The length of bytes.
const BYTES: Kernel = Kernel {
    name: "byte_length",
    result: |_| Ok(DataType::Int32),
    run: |call| Ok(length(&cast_array(&call.args[0], &DataType::Binary)?)?),
};

fn rounded(call: &ScalarFunction, schema: &DFSchema) -> Option<Expr> {
    let rounding = match call.func.name() {
        "round" => Rounding::Nearest,
        "trunc" => Rounding::TowardsZero,
        "ceil" => Rounding::Up,
        _ => Rounding::Down,
    };
    let value = call.args.first()?;
    let data_type = value.get_type(schema).ok()?;
    match &call.args[..] {
        // PostgreSQL has these of doubles and of numerics, and prefers doubles.
        [_] if data_type.is_integer() => {
            let double = cast(value.clone(), DataType::Float64);
            Some(call.func.call(vec![double]))
        }
        [_] => numeric::round_to(rounding, value.clone(), &data_type, 0),
        [_, digits] => {
            let exact = numeric::exact(&data_type)?;
            let value = if exact == data_type { value.clone() } else { cast(value.clone(), exact.clone()) };
            match constant(digits) {
                Some(digits) => numeric::round_to(rounding, value, &exact, digits),
                None => Some(numeric::round_by_row(rounding, value, &exact, digits.clone())),
            }
        }
        _ => None,
    }
}

fn constant(expr: &Expr) -> Option<i64> {
    match expr {
        Expr::Literal(ScalarValue::Int32(value), _) => value.map(i64::from),
        Expr::Literal(ScalarValue::Int64(value), _) => *value,
        Expr::Negative(inner) => constant(inner).map(|value| -value),
        _ => None,
    }
}
