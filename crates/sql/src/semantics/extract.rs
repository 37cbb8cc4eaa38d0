//! `extract(field FROM value)` as a numeric, with the decimals of a second.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use datafusion::arrow::compute::cast as cast_array;
use datafusion::arrow::datatypes::{DataType, Int64Type, TimeUnit};
use datafusion::arrow::error::ArrowError;
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::functions::datetime::date_part;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult};
use datafusion::logical_expr::{Expr, cast};
use datafusion::scalar::ScalarValue;

use super::intervals;
use super::kernel::{Kernel, KernelCall};
use super::numeric::scaled;

/// Plans `extract`.
#[derive(Debug)]
pub(super) struct ExtractFields;

impl ExprPlanner for ExtractFields {
    fn plan_extract(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        let [Expr::Literal(ScalarValue::Utf8(Some(field)), _), value] = &args[..] else {
            return Ok(PlannerResult::Original(args));
        };
        let part = |field: &str| date_part().call(vec![Expr::Literal(ScalarValue::from(field), None), value.clone()]);
        Ok(PlannerResult::Planned(match field.to_lowercase().as_str() {
            "epoch" => scaled(6, EPOCH.call(vec![value.clone()])),
            "second" | "seconds" => scaled(6, OF_MINUTE.call(vec![value.clone()])),
            "millisecond" | "milliseconds" => scaled(3, OF_MINUTE.call(vec![value.clone()])),
            "microsecond" | "microseconds" => scaled(0, OF_MINUTE.call(vec![value.clone()])),
            "century" | "centuries" => periods_of_year(CENTURIES, part("year")),
            "decade" | "decades" => periods_of_year(DECADES, part("year")),
            "millennium" | "millennia" => periods_of_year(MILLENNIA, part("year")),
            "julian" => return plan_err!("extract(julian FROM ...) is not supported: use to_char(..., 'J')"),
            other => cast(part(other), DataType::Decimal128(10, 0)),
        }))
    }
}

fn periods_of_year(kernel: Kernel, years: Expr) -> Expr {
    cast(kernel.call(vec![cast(years, DataType::Int64)]), DataType::Decimal128(10, 0))
}

/// Centuries: the years 1 to 100 are the first one. The engine counts a year 0, which is 1 BC.
const CENTURIES: Kernel = years_kernel("centuries", |call| period_numbers(&call.args[0], 100));
const MILLENNIA: Kernel = years_kernel("millennia", |call| period_numbers(&call.args[0], 1000));
const DECADES: Kernel = years_kernel("decades", |call| {
    Ok(Arc::new(call.args[0].as_primitive::<Int64Type>().unary::<_, Int64Type>(|year| year.div_euclid(10))))
});

const fn years_kernel(name: &'static str, run: fn(&KernelCall<'_>) -> Result<ArrayRef>) -> Kernel {
    Kernel { name, result: |_| Ok(DataType::Int64), run }
}

fn period_numbers(years: &ArrayRef, length: i64) -> Result<ArrayRef> {
    let period = |year: i64| match year {
        1.. => (year + length - 1) / length,
        _ => -((length - year) / length),
    };
    Ok(Arc::new(years.as_primitive::<Int64Type>().unary::<_, Int64Type>(period)))
}

/// Microseconds since 1970, or those of an interval; as in PostgreSQL, a year has 365.25 days and a month 30.
const EPOCH: Kernel =
    Kernel { name: "epoch_microseconds", result: |_| Ok(DataType::Int64), run: |call| epoch(&call.args[0]) };

/// Microseconds since the start of the minute.
const OF_MINUTE: Kernel = Kernel {
    name: "microseconds_of_minute",
    result: |_| Ok(DataType::Int64),
    run: |call| {
        const MINUTE: i64 = 60_000_000;
        let value = &call.args[0];
        if intervals::is_interval(value.data_type()) {
            let of = intervals::of_array(value)?;
            let micros = of.iter().map(|value| value.map(|value| value.nanoseconds / 1_000 % MINUTE));
            return Ok(Arc::new(micros.collect::<Int64Array>()));
        }
        let micros = epoch(value)?;
        let micros = micros.as_primitive::<Int64Type>();
        Ok(Arc::new(micros.unary::<_, Int64Type>(|micros| micros.rem_euclid(MINUTE))))
    },
};

fn epoch(value: &ArrayRef) -> Result<ArrayRef> {
    if intervals::is_interval(value.data_type()) {
        let spans = intervals::of_array(value)?;
        let micros = spans.iter().map(|value| value.map(of_interval).transpose());
        return Ok(Arc::new(micros.collect::<Result<Int64Array, ArrowError>>()?));
    }
    if let DataType::Time32(_) | DataType::Time64(_) = value.data_type() {
        let micros = cast_array(value, &DataType::Time64(TimeUnit::Microsecond))?;
        return Ok(cast_array(&micros, &DataType::Int64)?);
    }
    let zone = match value.data_type() {
        DataType::Timestamp(_, zone) => zone.clone(),
        _ => None,
    };
    let micros: ArrayRef = cast_array(value, &DataType::Timestamp(TimeUnit::Microsecond, zone))?;
    let micros = cast_array(&micros, &DataType::Int64)?;
    Ok(Arc::new(micros.as_primitive::<Int64Type>().clone()))
}

fn of_interval(value: datafusion::arrow::datatypes::IntervalMonthDayNano) -> Result<i64, ArrowError> {
    let (years, months) = (i64::from(value.months / 12), i64::from(value.months % 12));
    // 365.25 days are a whole number of seconds.
    let seconds = years * 31_557_600 + (months * 30 + i64::from(value.days)) * 86_400;
    let micros = seconds.checked_mul(1_000_000).and_then(|micros| micros.checked_add(value.nanoseconds / 1_000));
    micros.ok_or_else(|| ArrowError::ArithmeticOverflow("interval out of range".to_owned()))
}
