//! Operators whose result in PostgreSQL depends on the types of their operands.

use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::compute::cast as cast_array;
use datafusion::arrow::compute::kernels::numeric::sub;
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::functions_nested::expr_fn::array_has_any;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Between, BinaryExpr, Case, Expr, ExprSchemable, Operator, cast, lit};
use datafusion::scalar::ScalarValue;
use sqlparser::ast::BinaryOperator;

use super::intervals::{self, INTERVAL, is_interval};
use super::kernel::Kernel;
use super::{LOCAL, numeric};

/// Plans operators between types for which the engine cannot derive a result type.
#[derive(Debug)]
pub(super) struct IntervalOperators;

impl ExprPlanner for IntervalOperators {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let (Ok(left), Ok(right)) = (expr.left.get_type(schema), expr.right.get_type(schema)) else {
            return Ok(PlannerResult::Original(expr));
        };
        let number = |factor: Expr| cast(factor, DataType::Float64);
        let planned = match expr.op {
            BinaryOperator::Multiply if is_interval(&left) && right.is_numeric() => {
                intervals::MULTIPLY.call(vec![expr.left, number(expr.right)])
            }
            BinaryOperator::Multiply if left.is_numeric() && is_interval(&right) => {
                intervals::MULTIPLY.call(vec![expr.right, number(expr.left)])
            }
            BinaryOperator::Divide if is_interval(&left) && right.is_numeric() => {
                intervals::DIVIDE.call(vec![expr.left, number(expr.right)])
            }
            BinaryOperator::PGOverlap if matches!((&left, &right), (DataType::List(_), DataType::List(_))) => {
                array_has_any(expr.left, expr.right)
            }
            // The engine cannot subtract timestamps whose time zones differ.
            BinaryOperator::Minus
                if matches!(
                    (&left, &right),
                    (DataType::Timestamp(_, Some(_)), DataType::Timestamp(_, Some(_))) if left != right
                ) =>
            {
                let (from, to) = (Box::new(expr.left), Box::new(cast(expr.right, left)));
                Expr::BinaryExpr(BinaryExpr::new(from, Operator::Minus, to))
            }
            BinaryOperator::Plus | BinaryOperator::Minus if is_mixed(&left, &right) => {
                let operator = if expr.op == BinaryOperator::Plus { Operator::Plus } else { Operator::Minus };
                let side = |side: Expr, data_type: &DataType| match data_type {
                    DataType::Duration(_) => intervals::AS_INTERVAL.call(vec![side]),
                    _ => side,
                };
                let (left, right) = (side(expr.left, &left), side(expr.right, &right));
                Expr::BinaryExpr(BinaryExpr::new(Box::new(left), operator, Box::new(right)))
            }
            _ => return Ok(PlannerResult::Original(expr)),
        };
        Ok(PlannerResult::Planned(planned))
    }
}

fn is_mixed(left: &DataType, right: &DataType) -> bool {
    matches!(
        (left, right),
        (DataType::Duration(_), DataType::Interval(_)) | (DataType::Interval(_), DataType::Duration(_))
    )
}

/// Hides a timestamp's cast to a date from the engine's estimates: comparing it with a column, the engine would convert
/// the column's dates to timestamps outside of their range, and fail the query by an internal assertion.
fn with_opaque_days(left: &Expr, right: &Expr, schema: &DFSchema) -> Option<(Expr, Expr)> {
    let is_day = |side: &Expr| match side {
        Expr::Cast(cast) => {
            *cast.field.data_type() == DataType::Date32
                && cast.expr.get_type(schema).is_ok_and(|own| matches!(own, DataType::Timestamp(..)))
        }
        _ => false,
    };
    let is_literal = |side: &Expr| matches!(side, Expr::Literal(..));
    let opaque = |side: &Expr| if is_day(side) { SAME_DAY.call(vec![side.clone()]) } else { side.clone() };
    let changes = (is_day(left) && !is_literal(right)) || (is_day(right) && !is_literal(left));
    changes.then(|| (opaque(left), opaque(right)))
}

/// The operator with operands for which the engine returns PostgreSQL's result; `None` if it already does.
pub(super) fn binary(binary: &BinaryExpr, schema: &DFSchema, zone: &str) -> Option<Expr> {
    // An operand without a type here (an outer column) is not changed.
    let (left, right) = (binary.left.get_type(schema).ok()?, binary.right.get_type(schema).ok()?);
    let op = binary.op;
    let with = |left, right| Some(Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right))));
    let (own_left, own_right) = (|| binary.left.as_ref().clone(), || binary.right.as_ref().clone());
    match op {
        Operator::Plus | Operator::Minus => {
            let is_plus = op == Operator::Plus;
            let by = |interval: Expr| if is_plus { interval } else { intervals::NEGATE.call(vec![interval]) };
            match (&left, &right) {
                (DataType::Date32, DataType::Interval(_)) => return with(cast(own_left(), LOCAL), own_right()),
                (DataType::Interval(_), DataType::Date32) => return with(own_left(), cast(own_right(), LOCAL)),
                // In UTC all days have 24 hours, and the engine uses statistics only with its own operator.
                (DataType::Timestamp(_, Some(_)), by_type) if is_interval(by_type) && zone != "UTC" => {
                    return Some(intervals::MOVE_INSTANT.call(vec![own_left(), by(own_right())]));
                }
                (by_type, DataType::Timestamp(_, Some(_))) if is_interval(by_type) && zone != "UTC" && is_plus => {
                    return Some(intervals::MOVE_INSTANT.call(vec![own_right(), own_left()]));
                }
                (DataType::Date32, DataType::Date32) if !is_plus => {
                    return Some(DAYS_BETWEEN.call(vec![own_left(), own_right()]));
                }
                (DataType::Timestamp(_, Some(_)), DataType::Timestamp(_, None) | DataType::Date32) if !is_plus => {
                    return with(own_left(), cast(own_right(), left));
                }
                (DataType::Timestamp(_, None) | DataType::Date32, DataType::Timestamp(_, Some(_))) if !is_plus => {
                    return with(cast(own_left(), right), own_right());
                }
                _ => {}
            }
        }
        Operator::Divide => match (numeric::exact(&left), numeric::exact(&right)) {
            (Some(_), Some(_)) if !(left.is_integer() && right.is_integer()) => {
                return Some(numeric::divide((own_left(), left), (own_right(), right)));
            }
            _ if left.is_floating() || right.is_floating() => {
                let args = vec![as_double(own_left(), &left), as_double(own_right(), &right)];
                return Some(numeric::DIVIDE_DOUBLES.call_as(DataType::Float64, args));
            }
            _ => {}
        },
        _ if is_comparison(op) => {
            if (is_interval(&left) && (is_interval(&right) || right.is_string()))
                || (left.is_string() && is_interval(&right))
            {
                return with(interval_span(own_left(), &left), interval_span(own_right(), &right));
            }
            let sides = with_opaque_days(&binary.left, &binary.right, schema)
                .or_else(|| Some((own_left(), timestamp_literal(&binary.right, &left)?)))
                .or_else(|| Some((timestamp_literal(&binary.left, &right)?, own_right())))
                .or_else(|| Some((own_left(), date_as_time(own_right(), &right, &left)?)))
                .or_else(|| Some((date_as_time(own_left(), &left, &right)?, own_right())));
            if let Some((left, right)) = sides {
                return with(left, right);
            }
            // A local time is an instant in the session's zone. The cast is on its side, so that the engine can use
            // the statistics of the other one.
            if is_instant(&left) && is_local_time(&right) {
                return with(own_left(), cast(own_right(), left));
            }
            if is_local_time(&left) && is_instant(&right) {
                return with(cast(own_left(), right), own_right());
            }
        }
        _ => {}
    }
    let is_wanted = (op.is_numerical_operators() || is_comparison(op)) && is_double_and_numeric(&left, &right);
    is_wanted.then(|| with(as_double(own_left(), &left), as_double(own_right(), &right)))?
}

/// An interval as one number that orders intervals as PostgreSQL does; a text is read as an interval first.
fn interval_span(side: Expr, own: &DataType) -> Expr {
    intervals::SPAN.call(vec![if own.is_string() { cast(side, INTERVAL) } else { side }])
}

/// The days from the second date to the first. The engine's own difference is a duration in its range analysis.
const DAYS_BETWEEN: Kernel = Kernel {
    name: "days_between",
    result: |_| Ok(DataType::Int32),
    run: |call| {
        let days = |array: &ArrayRef| cast_array(&cast_array(array, &DataType::Date32)?, &DataType::Int32);
        Ok(sub(&days(&call.args[0])?, &days(&call.args[1])?)?)
    },
};

/// Returns its argument; the engine makes no estimates about it.
const SAME_DAY: Kernel =
    Kernel { name: "same_day", result: |given| Ok(given[0].clone()), run: |call| Ok(Arc::clone(&call.args[0])) };

fn is_comparison(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

fn is_local_time(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(_, None) | DataType::Date32)
}

fn is_instant(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(_, Some(_)))
}

fn is_numeric(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Decimal128(..) | DataType::Decimal256(..))
}

fn is_double_and_numeric(left: &DataType, right: &DataType) -> bool {
    (left.is_floating() && is_numeric(right)) || (is_numeric(left) && right.is_floating())
}

/// A number as a double; a numeric literal is parsed as a double, so that no digit is lost.
fn as_double(expr: Expr, data_type: &DataType) -> Expr {
    if let Expr::Literal(value @ ScalarValue::Decimal128(Some(_), ..), _) = &expr
        && let Ok(double) = value.to_string().parse::<f64>()
    {
        return lit(double);
    }
    if *data_type == DataType::Float64 { expr } else { cast(expr, DataType::Float64) }
}

/// Casts the alternatives of one value to doubles if some are doubles and others numerics; `Err` if nothing changes.
fn with_doubles(values: Vec<Expr>, schema: &DFSchema) -> std::result::Result<Vec<Expr>, Vec<Expr>> {
    let types: Vec<Option<DataType>> = values.iter().map(|value| value.get_type(schema).ok()).collect();
    let has = |is: fn(&DataType) -> bool| types.iter().flatten().any(is);
    if !has(DataType::is_floating) || !has(is_numeric) {
        return Err(values);
    }
    let double = |(value, data_type): (Expr, Option<DataType>)| match data_type {
        Some(data_type) if is_numeric(&data_type) => as_double(value, &data_type),
        _ => value,
    };
    Ok(values.into_iter().zip(types).map(double).collect())
}

/// Casts the alternatives of one value to a type that holds all of them exactly; `Err` if nothing changes. Until its
/// type coercion, the engine would assume the type of the first one.
fn with_common_numeric(values: Vec<Expr>, schema: &DFSchema) -> std::result::Result<Vec<Expr>, Vec<Expr>> {
    let types: Vec<DataType> = values.iter().map(|value| value.get_type(schema).unwrap_or(DataType::Null)).collect();
    let mut known = types.iter().filter(|data_type| !data_type.is_null());
    let Some(first) = known.next() else { return Err(values) };
    if known.all(|data_type| data_type == first) {
        return Err(values);
    }
    let numerics: Option<Vec<(u8, i8)>> = types
        .iter()
        .filter(|data_type| !data_type.is_null())
        .map(|data_type| match numeric::exact(data_type) {
            Some(DataType::Decimal128(precision, scale)) => Some((precision, scale)),
            _ => None,
        })
        .collect();
    let Some(numerics) = numerics else { return Err(values) };
    let common = if types.iter().any(is_numeric) {
        let scale = numerics.iter().map(|(_, scale)| *scale).max().unwrap_or(0);
        let whole =
            numerics.iter().map(|(precision, scale)| i16::from(*precision) - i16::from(*scale)).max().unwrap_or(1);
        let precision = u8::try_from((whole + i16::from(scale)).clamp(1, 38)).unwrap_or(38);
        DataType::Decimal128(precision, scale)
    } else {
        [DataType::Int64, DataType::Int32].into_iter().find(|wide| types.contains(wide)).unwrap_or(DataType::Int64)
    };
    let one = |(value, data_type): (Expr, DataType)| {
        if data_type == common || data_type.is_null() { value } else { cast(value, common.clone()) }
    };
    Ok(values.into_iter().zip(types).map(one).collect())
}

/// Rewrites `x BETWEEN low AND high` as two comparisons if one of them must be rewritten.
pub(super) fn between(between: &Between, schema: &DFSchema, zone: &str) -> Option<Expr> {
    let side = |op: Operator, bound: &Expr| BinaryExpr::new(between.expr.clone(), op, Box::new(bound.clone()));
    let (low, high) = (side(Operator::GtEq, &between.low), side(Operator::LtEq, &between.high));
    let (new_low, new_high) = (binary(&low, schema, zone), binary(&high, schema, zone));
    if new_low.is_none() && new_high.is_none() {
        return None;
    }
    let low = new_low.unwrap_or(Expr::BinaryExpr(low));
    let within = low.and(new_high.unwrap_or(Expr::BinaryExpr(high)));
    Some(if between.negated { Expr::Not(Box::new(within)) } else { within })
}

/// A text literal that is compared with a timestamp, as a timestamp with microseconds: the engine would compare
/// nanoseconds, which end in 2262.
fn timestamp_literal(side: &Expr, other: &DataType) -> Option<Expr> {
    let is_text = matches!(side, Expr::Literal(value, _) if value.data_type().is_string());
    match other {
        DataType::Timestamp(_, zone) if is_text => {
            Some(cast(side.clone(), DataType::Timestamp(TimeUnit::Microsecond, zone.clone())))
        }
        _ => None,
    }
}

/// A date that is compared with a timestamp, as one with microseconds.
fn date_as_time(side: Expr, own: &DataType, other: &DataType) -> Option<Expr> {
    let is_mixed = *own == DataType::Date32 && matches!(other, DataType::Timestamp(_, None));
    is_mixed.then(|| cast(side, LOCAL))
}

/// Casts the values of an IN list to doubles or timestamps if needed; `Err` if nothing changes.
pub(super) fn in_list(mut list: InList, schema: &DFSchema) -> std::result::Result<Expr, Expr> {
    if let Ok(data_type) = list.expr.get_type(schema)
        && list.list.iter().any(|value| timestamp_literal(value, &data_type).is_some())
    {
        let literal = |value: Expr| timestamp_literal(&value, &data_type).unwrap_or(value);
        list.list = list.list.into_iter().map(literal).collect();
        return Ok(Expr::InList(list));
    }
    let mut all = vec![*list.expr];
    all.append(&mut list.list);
    let (all, changed) = match with_doubles(all, schema) {
        Ok(all) => (all, true),
        Err(all) => (all, false),
    };
    let mut all = all.into_iter();
    list.expr = Box::new(all.next().unwrap_or_else(|| lit(ScalarValue::Null)));
    list.list = all.collect();
    if changed { Ok(Expr::InList(list)) } else { Err(Expr::InList(list)) }
}

/// Casts the results of CASE to a common type if needed; `Err` if nothing changes.
pub(super) fn case(mut case: Case, schema: &DFSchema) -> std::result::Result<Expr, Expr> {
    let has_else = case.else_expr.is_some();
    let results = case.when_then_expr.iter().map(|(_, then)| then.as_ref().clone());
    let results: Vec<Expr> = results.chain(case.else_expr.iter().map(|other| other.as_ref().clone())).collect();
    let results = with_doubles(results, schema).or_else(|results| with_common_numeric(results, schema));
    let Ok(mut results) = results else { return Err(Expr::Case(case)) };
    if has_else {
        case.else_expr = results.pop().map(Box::new);
    }
    for ((_, then), result) in case.when_then_expr.iter_mut().zip(results) {
        **then = result;
    }
    Ok(Expr::Case(case))
}

/// Casts the arguments of a function such as `coalesce` to doubles if needed, and returns whether any was changed.
pub(super) fn arguments(args: &mut Vec<Expr>, schema: &DFSchema) -> bool {
    match with_doubles(std::mem::take(args), schema) {
        Ok(changed) => {
            *args = changed;
            true
        }
        Err(same) => {
            *args = same;
            false
        }
    }
}
