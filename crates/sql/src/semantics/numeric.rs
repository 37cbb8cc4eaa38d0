//! Numerics: quotients and their scale, rounding to a scale, and conversion from doubles.
//!
//! PostgreSQL chooses the scale of each quotient by the values of its operands, so that it has 16 significant digits or
//! more. Here all values of a column have one scale: [`SCALE`] digits, or that of an operand if it is larger. A
//! quotient is rounded to the digit to which PostgreSQL rounds it, and padded with zeros. So it is the same number,
//! except for quotients so small that PostgreSQL returns more than [`SCALE`] digits.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, Float64Array};
use datafusion::arrow::compute::cast as cast_array;
use datafusion::arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type, i256};
use datafusion::arrow::error::ArrowError;
use datafusion::common::{DataFusionError, exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, cast};

use super::kernel::{Kernel, KernelCall};

/// Decimals of a quotient, of an average, and of a numeric that is made from a double.
pub(super) const SCALE: i8 = 20;

const PRECISION: u8 = 38;

/// The least number of significant digits of a quotient in PostgreSQL.
const SIGNIFICANT: i32 = 16;

/// The numeric type that holds all values of an integer or numeric type exactly; `None` for other types.
pub(super) fn exact(data_type: &DataType) -> Option<DataType> {
    Some(match data_type {
        DataType::Decimal128(..) => data_type.clone(),
        DataType::Int16 => DataType::Decimal128(5, 0),
        DataType::Int32 => DataType::Decimal128(10, 0),
        DataType::Int64 => DataType::Decimal128(19, 0),
        DataType::UInt64 => DataType::Decimal128(20, 0),
        _ => return None,
    })
}

fn scale_of(data_type: &DataType) -> i8 {
    match data_type {
        DataType::Decimal128(_, scale) => *scale,
        _ => 0,
    }
}

/// The type of a quotient of two exact types.
pub(super) fn quotient_type(left: &DataType, right: &DataType) -> DataType {
    DataType::Decimal128(PRECISION, SCALE.max(scale_of(left)).max(scale_of(right)))
}

/// `left / right` of numerics, or of a numeric and an integer.
pub(super) fn divide(left: (Expr, DataType), right: (Expr, DataType)) -> Expr {
    let result = quotient_type(&left.1, &right.1);
    let side = |(expr, data_type): (Expr, DataType)| match exact(&data_type) {
        Some(exact) if exact != data_type => cast(expr, exact),
        _ => expr,
    };
    DIVIDE.call_as(result, vec![side(left), side(right)])
}

const DIVIDE: Kernel = Kernel {
    name: "numeric_divide",
    result: |given| match given {
        [left, right] => Ok(quotient_type(left, right)),
        _ => plan_err!("numeric_divide takes two numerics"),
    },
    run: |call| quotients(&call.args[0], &call.args[1], call.result),
};

/// The quotients of two columns of numerics; NULL if one is NULL.
///
/// # Errors
/// If a divisor is zero or a quotient has more than 38 digits.
pub(super) fn quotients(left: &ArrayRef, right: &ArrayRef, result: &DataType) -> Result<ArrayRef> {
    let (left_scale, right_scale, scale) = (scale_of(left.data_type()), scale_of(right.data_type()), scale_of(result));
    let (left, right) = (numerics(left)?, numerics(right)?);
    let quotients = left.iter().zip(right.iter()).map(|pair| match pair {
        (Some(left), Some(right)) => quotient((left, left_scale), (right, right_scale), scale).map(Some),
        _ => Ok(None),
    });
    let quotients = quotients.collect::<Result<Decimal128Array, ArrowError>>()?;
    Ok(Arc::new(quotients.with_precision_and_scale(PRECISION, scale)?))
}

fn numerics(array: &ArrayRef) -> Result<Decimal128Array> {
    match array.as_primitive_opt::<Decimal128Type>() {
        Some(numerics) => Ok(numerics.clone()),
        None => exec_err!("expected a numeric, got {}", array.data_type()),
    }
}

/// The error for a result with more than 38 digits.
pub(super) fn out_of_range() -> ArrowError {
    ArrowError::ArithmeticOverflow("numeric out of range: more than 38 digits".to_owned())
}

/// A quotient at `scale`, rounded to the number of decimals that PostgreSQL's `select_div_scale` chooses.
fn quotient(left: (i128, i8), right: (i128, i8), scale: i8) -> Result<i128, ArrowError> {
    if right.0 == 0 {
        return Err(ArrowError::DivideByZero);
    }
    let ((left_weight, left_digit), (right_weight, right_digit)) = (leading(left), leading(right));
    let weight = left_weight - right_weight - i32::from(left_digit <= right_digit);
    let shown = (SIGNIFICANT - 4 * weight).max(left.1.into()).max(right.1.into()).clamp(0, scale.into());
    // The shift is not negative, since a quotient has at least the scales of its operands.
    let shift = (shown + i32::from(right.1) - i32::from(left.1)).unsigned_abs();
    let quotient = match 10_i128.checked_pow(shift).and_then(|power| left.0.checked_mul(power)) {
        Some(dividend) => rounded(dividend, right.0),
        None => {
            let power = i256::from_i128(10).checked_pow(shift).ok_or_else(out_of_range)?;
            let dividend = i256::from_i128(left.0).checked_mul(power).ok_or_else(out_of_range)?;
            rounded_wide(dividend, i256::from_i128(right.0)).ok_or_else(out_of_range)?
        }
    };
    let zeros = 10_i128.pow((i32::from(scale) - shown).unsigned_abs());
    quotient.checked_mul(zeros).filter(|value| fits(*value)).ok_or_else(out_of_range)
}

fn fits(value: i128) -> bool {
    value.unsigned_abs() < 10_u128.pow(PRECISION.into())
}

/// The weight of a number's first digit to base 10000, and the digit.
fn leading((value, scale): (i128, i8)) -> (i32, u128) {
    let value = value.unsigned_abs();
    if value == 0 {
        return (0, 0);
    }
    let exponent = value.ilog10().cast_signed() - i32::from(scale);
    let weight = exponent.div_euclid(4);
    let shift = i32::from(scale) + 4 * weight;
    let power = 10_u128.pow(shift.unsigned_abs());
    (weight, if shift >= 0 { value / power } else { value * power })
}

/// The quotient as a whole number; halves are rounded away from zero.
fn rounded(dividend: i128, divisor: i128) -> i128 {
    let (quotient, rest) = (dividend / divisor, dividend % divisor);
    if rest.unsigned_abs() >= divisor.unsigned_abs() - rest.unsigned_abs() {
        quotient + if (dividend < 0) == (divisor < 0) { 1 } else { -1 }
    } else {
        quotient
    }
}

fn rounded_wide(dividend: i256, divisor: i256) -> Option<i128> {
    divide_half_away(dividend, divisor)?.to_i128()
}

fn divide_half_away(dividend: i256, divisor: i256) -> Option<i256> {
    let (quotient, rest) = (dividend.checked_div(divisor)?, dividend.checked_rem(divisor)?);
    let (rest, size) = (rest.wrapping_abs(), divisor.wrapping_abs());
    let away = i256::from_i128(if (dividend < i256::ZERO) == (divisor < i256::ZERO) { 1 } else { -1 });
    if rest >= size.wrapping_sub(rest) { quotient.checked_add(away) } else { Some(quotient) }
}

/// A quotient whose decimals after the first `shown` are zeros.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quotient {
    value: i256,
    shown: u32,
}

impl Quotient {
    /// The quotient as a numeric.
    ///
    /// # Errors
    /// If it has more than 38 digits.
    pub(super) fn numeric(self) -> Result<i128, ArrowError> {
        self.value.to_i128().filter(|value| fits(*value)).ok_or_else(out_of_range)
    }
}

/// The quotient of a wide number, with its scale, by a whole number, rounded as [`quotients`] are.
///
/// # Errors
/// If an intermediate result has more than 76 digits.
pub(super) fn wide_quotient(dividend: (i256, i32), divisor: i256, scale: i8) -> Result<Quotient, ArrowError> {
    let (weight, digit) = leading_wide(dividend);
    let (divisor_weight, divisor_digit) = leading_wide((divisor, 0));
    let weight = weight - divisor_weight - i32::from(digit <= divisor_digit);
    let shown = (SIGNIFICANT - 4 * weight).max(dividend.1).clamp(0, scale.into());
    let power = |exponent: i32| i256::from_i128(10).checked_pow(exponent.unsigned_abs()).ok_or_else(out_of_range);
    let shift = shown - dividend.1;
    let (dividend, divisor) = match shift {
        0.. => (dividend.0.checked_mul(power(shift)?), Some(divisor)),
        _ => (Some(dividend.0), divisor.checked_mul(power(shift)?)),
    };
    let (dividend, divisor) = dividend.zip(divisor).ok_or_else(out_of_range)?;
    let quotient = divide_half_away(dividend, divisor).ok_or_else(out_of_range)?;
    let value = quotient.checked_mul(power(i32::from(scale) - shown)?).ok_or_else(out_of_range)?;
    Ok(Quotient { value, shown: shown.unsigned_abs() })
}

fn leading_wide((value, scale): (i256, i32)) -> (i32, u128) {
    let digits = value.wrapping_abs().to_string();
    if digits == "0" {
        return (0, 0);
    }
    let exponent = i32::try_from(digits.len()).unwrap_or_default() - 1 - scale;
    let weight = exponent.div_euclid(4);
    // The number of decimal digits in the first digit to base 10000.
    let count = usize::try_from(exponent - 4 * weight + 1).unwrap_or(1);
    let digit = format!("{digits:0<count$}").get(..count).and_then(|digits| digits.parse().ok());
    (weight, digit.unwrap_or_default())
}

/// The square root of a quotient, with as many decimals as the quotient shows.
///
/// # Errors
/// If an intermediate result has too many digits.
pub(super) fn square_root(square: Quotient, scale: i8) -> Result<i128, ArrowError> {
    let power = |exponent: u32| i256::from_i128(10).checked_pow(exponent).ok_or_else(out_of_range);
    let zeros = power(u32::from(scale.unsigned_abs()) - square.shown)?;
    let number = (square.value / zeros).checked_mul(power(square.shown)?).ok_or_else(out_of_range)?;
    if number == i256::ZERO {
        return Ok(0);
    }
    let mut root = i256::from_i128(10_i128.pow(u32::try_from(number.to_string().len().div_ceil(2)).unwrap_or(38)));
    // Newton's method, starting above the root.
    loop {
        let next = (root + number / root) / i256::from_i128(2);
        if next >= root {
            break;
        }
        root = next;
    }
    let is_nearer_above = number - root * root > root;
    let root = if is_nearer_above { root + i256::ONE } else { root };
    let root = root.checked_mul(zeros).and_then(i256::to_i128);
    root.filter(|root| fits(*root)).ok_or_else(out_of_range)
}

/// How decimals are removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rounding {
    Nearest,
    TowardsZero,
    Up,
    Down,
}

/// A numeric rounded to a constant number of `digits`, which becomes its scale; `None` if the value is not a numeric.
pub(super) fn round_to(rounding: Rounding, value: Expr, data_type: &DataType, digits: i64) -> Option<Expr> {
    let DataType::Decimal128(precision, scale) = data_type else { return None };
    let shown = i8::try_from(digits.clamp(0, PRECISION.into())).ok()?;
    let whole = i16::from(*precision) - i16::from(*scale) + 1;
    let precision = u8::try_from((whole + i16::from(shown)).clamp(1, PRECISION.into())).ok()?;
    let result = DataType::Decimal128(precision, shown);
    let kernel = match rounding {
        // A cast of Arrow to a smaller scale rounds in this way.
        Rounding::Nearest if digits >= 0 => return Some(cast(value, result)),
        Rounding::Nearest => ROUND,
        Rounding::TowardsZero => TRUNC,
        Rounding::Up => CEIL,
        Rounding::Down => FLOOR,
    };
    Some(kernel.call_as(result, vec![value, cast(datafusion::logical_expr::lit(digits), DataType::Int64)]))
}

/// `round` or `trunc` to a number of digits that is not constant; the value keeps its type.
pub(super) fn round_by_row(rounding: Rounding, value: Expr, data_type: &DataType, digits: Expr) -> Expr {
    let kernel = if rounding == Rounding::Nearest { ROUND } else { TRUNC };
    kernel.call_as(data_type.clone(), vec![value, cast(digits, DataType::Int64)])
}

const fn rounding_kernel(name: &'static str, run: fn(&KernelCall<'_>) -> Result<ArrayRef>) -> Kernel {
    Kernel { name, result: |given| Ok(given[0].clone()), run }
}

const ROUND: Kernel = rounding_kernel("numeric_round", |call| round_column(Rounding::Nearest, call));
const TRUNC: Kernel = rounding_kernel("numeric_trunc", |call| round_column(Rounding::TowardsZero, call));
const CEIL: Kernel = rounding_kernel("numeric_ceil", |call| round_column(Rounding::Up, call));
const FLOOR: Kernel = rounding_kernel("numeric_floor", |call| round_column(Rounding::Down, call));

fn round_column(rounding: Rounding, call: &KernelCall<'_>) -> Result<ArrayRef> {
    let (from, to) = (scale_of(call.args[0].data_type()), scale_of(call.result));
    let values = numerics(&call.args[0])?;
    let digits = call.args[1].as_primitive::<Int64Type>();
    let rounded = values.iter().zip(digits.iter()).map(|pair| match pair {
        (Some(value), Some(digits)) => round_value(rounding, (value, from), digits, to).map(Some),
        _ => Ok(None),
    });
    let rounded = rounded.collect::<Result<Decimal128Array, ArrowError>>()?;
    let DataType::Decimal128(precision, scale) = call.result else { return exec_err!("expected a numeric to round") };
    Ok(Arc::new(rounded.with_precision_and_scale(*precision, *scale)?))
}

fn round_value(rounding: Rounding, (value, from): (i128, i8), digits: i64, to: i8) -> Result<i128, ArrowError> {
    let dropped = (i64::from(from) - digits).clamp(0, 39);
    let rounded_value = if dropped == 0 {
        value
    } else if dropped == 39 {
        0
    } else {
        let unit = 10_i128.checked_pow(dropped as u32).ok_or_else(out_of_range)?;
        let whole = match rounding {
            Rounding::Nearest => rounded(value, unit),
            Rounding::TowardsZero => value / unit,
            Rounding::Up => -(-value).div_euclid(unit),
            Rounding::Down => value.div_euclid(unit),
        };
        whole.checked_mul(unit).ok_or_else(out_of_range)?
    };
    let change = i32::from(to) - i32::from(from);
    let power = 10_i128.checked_pow(change.unsigned_abs()).ok_or_else(out_of_range)?;
    if change >= 0 { rounded_value.checked_mul(power).ok_or_else(out_of_range) } else { Ok(rounded_value / power) }
}

/// `x::numeric` without precision: the argument's own scale, or [`SCALE`] for a double.
pub(super) const TO_NUMERIC: Kernel = Kernel {
    name: "to_numeric",
    result: |given| match given {
        [data_type] => Ok(exact(data_type).unwrap_or(DataType::Decimal128(PRECISION, SCALE))),
        _ => plan_err!("to_numeric takes one value"),
    },
    run: |call| {
        let value = &call.args[0];
        match value.data_type() {
            DataType::Float32 | DataType::Float64 => {
                let doubles = cast_array(value, &DataType::Float64)?;
                numerics_of_doubles(doubles.as_primitive::<Float64Type>(), value.data_type() == &DataType::Float32)
            }
            _ => {
                let options = datafusion::arrow::compute::CastOptions { safe: false, ..Default::default() };
                Ok(datafusion::arrow::compute::cast_with_options(value, call.result, &options)?)
            }
        }
    },
};

/// Doubles as numerics, with 15 significant digits as in PostgreSQL; reals with 6.
fn numerics_of_doubles(doubles: &Float64Array, is_single: bool) -> Result<ArrayRef> {
    let digits = if is_single { 5 } else { 14 };
    let numerics = doubles.iter().map(|value| value.map(|value| numeric_of_double(value, digits)).transpose());
    let numerics = numerics.collect::<Result<Decimal128Array, ArrowError>>()?;
    Ok(Arc::new(numerics.with_precision_and_scale(PRECISION, SCALE)?))
}

fn numeric_of_double(value: f64, digits: usize) -> Result<i128, ArrowError> {
    if !value.is_finite() {
        return Err(ArrowError::InvalidArgumentError(format!(
            "{value} cannot be converted to numeric, which has numbers of up to 38 digits only"
        )));
    }
    let text = format!("{value:.digits$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let read = mantissa.replace('.', "").parse::<i128>().ok().zip(exponent.parse::<i32>().ok());
    let (mantissa, exponent) = read.ok_or_else(out_of_range)?;
    let shift = exponent - i32::try_from(digits).unwrap_or_default() + i32::from(SCALE);
    match shift {
        0.. => {
            let power = 10_i128.checked_pow(shift.unsigned_abs()).ok_or_else(out_of_range)?;
            mantissa.checked_mul(power).filter(|value| fits(*value)).ok_or_else(out_of_range)
        }
        -38..0 => Ok(rounded(mantissa, 10_i128.pow(shift.unsigned_abs()))),
        _ => Ok(0),
    }
}

/// Divides doubles; an error if the divisor is zero.
pub(super) const DIVIDE_DOUBLES: Kernel = Kernel {
    name: "double_divide",
    result: |given| Ok(given[0].clone()),
    run: |call| {
        let divisors = cast_array(&call.args[1], &DataType::Float64)?;
        let dividends = cast_array(&call.args[0], &DataType::Float64)?;
        let (left, right) = (dividends.as_primitive::<Float64Type>(), divisors.as_primitive::<Float64Type>());
        let quotients = left.iter().zip(right.iter()).map(|pair| match pair {
            (Some(left), Some(right)) if right == 0.0 && !left.is_nan() => Err(ArrowError::DivideByZero),
            (Some(left), Some(right)) => Ok(Some(left / right)),
            _ => Ok(None),
        });
        let quotients = quotients.collect::<Result<Vec<_>, _>>().map_err(DataFusionError::from)?;
        let quotients: ArrayRef = Arc::new(Float64Array::from(quotients));
        Ok(cast_array(&quotients, call.result)?)
    },
};

/// An integer that counts units of a scale as a numeric: with scale 6, microseconds become seconds.
pub(super) fn scaled(scale: i8, value: Expr) -> Expr {
    SCALED.call_as(DataType::Decimal128(20, scale), vec![cast(value, DataType::Int64)])
}

const SCALED: Kernel = Kernel {
    name: "numeric_scaled",
    result: |_| Ok(DataType::Decimal128(20, 6)),
    run: |call| {
        let whole = call.args[0].as_primitive::<Int64Type>();
        let numerics: Decimal128Array = whole.iter().map(|value| value.map(i128::from)).collect();
        Ok(Arc::new(numerics.with_precision_and_scale(20, scale_of(call.result))?))
    },
};

#[cfg(test)]
mod tests {
    use super::{i256, numeric_of_double, quotient, rounded, square_root, wide_quotient};

    #[test]
    fn quotients_are_rounded_where_postgres_rounds_them() {
        // 1 / 3, 10 / 3, 2 / 3, 1 / 30000, 1000000 / 3
        assert_eq!(quotient((1, 0), (3, 0), 20).unwrap(), 33_333_333_333_333_333_333);
        assert_eq!(quotient((10, 0), (3, 0), 20).unwrap(), 333_333_333_333_333_330_000);
        assert_eq!(quotient((-20, 1), (3, 0), 20).unwrap(), -66_666_666_666_666_666_667);
        assert!(quotient((1, 0), (0, 0), 20).is_err());
        assert!(quotient((i128::pow(10, 37), 0), (1, 0), 20).is_err());
    }

    #[test]
    fn wide_quotients_and_their_roots_have_the_digits_of_postgres() {
        // SELECT variance(x), stddev(x) FROM (VALUES (1), (2), (4)) AS v(x)
        let variance = wide_quotient((i256::from_i128(14), 0), i256::from_i128(6), 20).unwrap();
        assert_eq!(variance.numeric().unwrap(), 233_333_333_333_333_330_000);
        assert_eq!(square_root(variance, 20).unwrap(), 152_752_523_165_194_670_000);
        let none = wide_quotient((i256::ZERO, 4), i256::from_i128(6), 20).unwrap();
        assert_eq!(square_root(none, 20).unwrap(), 0);
        // Of 1000000 and 4000000: 4500000000000, 2121320.34355964
        let variance = wide_quotient((i256::from_i128(9_000_000_000_000), 0), i256::from_i128(2), 20).unwrap();
        assert_eq!(variance.numeric().unwrap() / 10_i128.pow(20), 4_500_000_000_000);
    }

    #[test]
    fn halves_go_away_from_zero() {
        for (dividend, divisor, expected) in [(5, 2, 3), (-5, 2, -3), (5, -2, -3), (4, 3, 1), (-4, -3, 1), (5, 3, 2)] {
            assert_eq!(rounded(dividend, divisor), expected, "{dividend} / {divisor}");
        }
    }

    #[test]
    fn doubles_have_fifteen_digits() {
        assert_eq!(numeric_of_double(0.1 + 0.2, 14).unwrap(), 30_000_000_000_000_000_000);
        assert_eq!(numeric_of_double(-2.5, 14).unwrap(), -250_000_000_000_000_000_000);
        assert_eq!(numeric_of_double(1e-30, 14).unwrap(), 0);
        assert!(numeric_of_double(1e30, 14).is_err());
        assert!(numeric_of_double(f64::NAN, 14).is_err());
    }
}
