//! Functions whose result in PostgreSQL depends on the types of their arguments.

use std::sync::Arc;

use datafusion::arrow::array::{AsArray, Decimal128Array, Int32Array};
use datafusion::arrow::compute::cast as cast_array;
use datafusion::arrow::compute::kernels::length::length;
use datafusion::arrow::datatypes::{DataType, Decimal128Type, Field, Float64Type, Int32Type};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, plan_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, ExprSchemable, cast};
use datafusion::scalar::ScalarValue;

use super::kernel::Kernel;
use super::numeric::{self, Rounding};
use super::{joins, operators};
use crate::frontend::ONE_SIDE;

/// Rewrites a call to one with PostgreSQL's result for the types of its arguments.
pub(super) fn rewrite_call(mut call: ScalarFunction, schema: &DFSchema) -> Transformed<Expr> {
    let changed = match call.func.name() {
        ONE_SIDE => return joins::resolve_marked_column(call, schema),
        "character_length" if call.args.iter().all(|arg| arg.get_type(schema).is_ok_and(|own| own.is_binary())) => {
            Some(BYTES.call(std::mem::take(&mut call.args)))
        }
        "gcd" | "lcm" if call.args.iter().all(|arg| is_int4(arg, schema)) => {
            Some(cast(Expr::ScalarFunction(call.clone()), DataType::Int32))
        }
        // The engine returns bigints.
        "generate_series" | "range" if call.args.iter().all(|arg| is_int4(arg, schema)) => {
            let list = DataType::List(Arc::new(Field::new_list_field(DataType::Int32, true)));
            Some(cast(Expr::ScalarFunction(call.clone()), list))
        }
        "array_length" | "array_position" | "cardinality" | "regexp_count" => {
            Some(cast(Expr::ScalarFunction(call.clone()), DataType::Int32))
        }
        "pg_typeof" if call.args.len() == 1 => {
            let own = call.args[0].get_type(schema).ok();
            own.map(|own| Expr::Literal(ScalarValue::from(postgres_name(&own)), None))
        }
        "round" | "trunc" | "ceil" | "floor" => rewrite_rounding(&call, schema),
        "nullif" if type_of_nullif(&call.args, schema).is_some() => {
            type_of_nullif(&call.args, schema).map(|own| cast(Expr::ScalarFunction(call.clone()), own))
        }
        "coalesce" | "greatest" | "least" | "nullif" => {
            let changed = operators::arguments(&mut call.args, schema);
            let call = Expr::ScalarFunction(call);
            return if changed { Transformed::yes(call) } else { Transformed::no(call) };
        }
        // The power of two integers is a double.
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

/// The result type of `nullif`: that of the first argument, if PostgreSQL compares the two types without a cast.
fn type_of_nullif(args: &[Expr], schema: &DFSchema) -> Option<DataType> {
    let [one, other] = args else { return None };
    let (one, other) = (one.get_type(schema).ok()?, other.get_type(schema).ok()?);
    let are_both = |is: fn(&DataType) -> bool| is(&one) && is(&other);
    let is_comparable = are_both(DataType::is_integer)
        || are_both(DataType::is_floating)
        || are_both(|own| matches!(own, DataType::Date32 | DataType::Timestamp(..)));
    (is_comparable && one != other).then_some(one)
}

/// `array_upper(array, dimension)`: the index of the last element; NULL for an empty array or another dimension than 1.
pub(super) const ARRAY_UPPER: Kernel = Kernel {
    name: "array_upper",
    result: |_| Ok(DataType::Int32),
    run: |call| {
        let lengths = cast_array(&length(&call.args[0])?, &DataType::Int32)?;
        let dimensions = cast_array(&call.args[1], &DataType::Int32)?;
        let pairs = lengths.as_primitive::<Int32Type>().iter().zip(dimensions.as_primitive::<Int32Type>().iter());
        let upper = pairs.map(|(length, dimension)| length.filter(|length| *length > 0 && dimension == Some(1)));
        Ok(Arc::new(upper.collect::<Int32Array>()))
    },
};

/// `sign(x)`: a numeric for a numeric, else a double.
pub(super) const SIGN: Kernel = Kernel {
    name: "sign",
    result: |given| match given {
        [DataType::Decimal128(..)] => Ok(DataType::Decimal128(1, 0)),
        [only] if only.is_numeric() || only.is_null() => Ok(DataType::Float64),
        _ => plan_err!("sign needs a number"),
    },
    run: |call| match call.args[0].as_primitive_opt::<Decimal128Type>() {
        Some(numerics) => {
            let signs: Decimal128Array = numerics.unary(i128::signum);
            Ok(Arc::new(signs.with_precision_and_scale(1, 0)?))
        }
        None => {
            let doubles = cast_array(&call.args[0], &DataType::Float64)?;
            let sign = |value: f64| if value == 0.0 || value.is_nan() { value } else { value.signum() };
            Ok(Arc::new(doubles.as_primitive::<Float64Type>().unary::<_, Float64Type>(sign)))
        }
    },
};

fn is_int4(expr: &Expr, schema: &DFSchema) -> bool {
    matches!(expr.get_type(schema), Ok(DataType::Int16 | DataType::Int32))
}

/// `pg_typeof(x)`. Calls whose argument has a known type are replaced by literals.
pub(super) const TYPE_OF: Kernel = Kernel {
    name: "pg_typeof",
    result: |_| Ok(DataType::Utf8),
    run: |call| {
        let name = postgres_name(call.args[0].data_type());
        ScalarValue::from(name).to_array_of_size(call.rows)
    },
};

fn postgres_name(data_type: &DataType) -> String {
    let name = match data_type {
        DataType::Boolean => "boolean",
        DataType::Int8 | DataType::UInt8 | DataType::Int16 => "smallint",
        DataType::UInt16 | DataType::Int32 => "integer",
        DataType::UInt32 | DataType::Int64 | DataType::UInt64 => "bigint",
        DataType::Float16 | DataType::Float32 => "real",
        DataType::Float64 => "double precision",
        DataType::Decimal128(..) | DataType::Decimal256(..) => "numeric",
        DataType::Date32 | DataType::Date64 => "date",
        DataType::Timestamp(_, None) => "timestamp without time zone",
        DataType::Timestamp(_, Some(_)) => "timestamp with time zone",
        DataType::Time32(_) | DataType::Time64(_) => "time without time zone",
        DataType::Interval(_) | DataType::Duration(_) => "interval",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => "bytea",
        DataType::List(element) | DataType::LargeList(element) => {
            return format!("{}[]", postgres_name(element.data_type()));
        }
        _ => "text",
    };
    name.to_owned()
}

/// The number of bytes of a `bytea`.
const BYTES: Kernel = Kernel {
    name: "byte_length",
    result: |_| Ok(DataType::Int32),
    run: |call| Ok(length(&cast_array(&call.args[0], &DataType::Binary)?)?),
};

fn rewrite_rounding(call: &ScalarFunction, schema: &DFSchema) -> Option<Expr> {
    let rounding = match call.func.name() {
        "round" => Rounding::Nearest,
        "trunc" => Rounding::TowardsZero,
        "ceil" => Rounding::Up,
        _ => Rounding::Down,
    };
    let value = call.args.first()?;
    let data_type = value.get_type(schema).ok()?;
    match &call.args[..] {
        // PostgreSQL has these functions for doubles and numerics, and prefers doubles for integers.
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
