//! Intervals: products, comparisons, and their addition to instants by days and months of the session's time zone.

use std::sync::Arc;

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, NaiveDateTime, Offset, TimeDelta, TimeZone, Timelike};
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, IntervalMonthDayNanoArray, TimestampMicrosecondArray,
};
use datafusion::arrow::compute::cast as cast_array;
use datafusion::arrow::datatypes::{
    DataType, Float64Type, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, TimeUnit,
    TimestampMicrosecondType,
};
use datafusion::arrow::error::ArrowError;
use datafusion::common::{DataFusionError, plan_err};
use datafusion::error::Result;

use super::kernel::{Kernel, KernelCall};
use crate::literals::instant;

/// The type of intervals.
pub(super) const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);

const MICROS_PER_DAY: i64 = 86_400_000_000;
const DAYS_PER_MONTH: i64 = 30;

/// `make_interval`, `age` and the `justify` functions.
pub(super) fn functions() -> Vec<Kernel> {
    vec![MAKE_INTERVAL, AGE, JUSTIFY_HOURS, JUSTIFY_DAYS, JUSTIFY_INTERVAL]
}

/// Whether a type is an interval for PostgreSQL; durations are differences of timestamps.
pub(super) fn is_interval(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Interval(_) | DataType::Duration(_))
}

fn out_of_range(of: &str) -> ArrowError {
    ArrowError::ArithmeticOverflow(format!("{of} out of range"))
}

/// An array of intervals or durations as intervals. As in PostgreSQL, a duration becomes days of 24 hours and a rest.
///
/// # Errors
/// If the array has another type.
pub(crate) fn of_array(array: &ArrayRef) -> Result<IntervalMonthDayNanoArray, ArrowError> {
    if let DataType::Duration(_) = array.data_type() {
        let micros = cast_array(array, &DataType::Duration(TimeUnit::Microsecond))?;
        let micros = cast_array(&micros, &DataType::Int64)?;
        return Ok(micros.as_primitive::<Int64Type>().iter().map(|micros| micros.map(days_and_hours)).collect());
    }
    Ok(cast_array(array, &INTERVAL)?.as_primitive::<IntervalMonthDayNanoType>().clone())
}

fn days_and_hours(micros: i64) -> IntervalMonthDayNano {
    // 2^63 microseconds are less than 2^31 days, and a day's nanoseconds are an i64.
    IntervalMonthDayNano::new(0, (micros / MICROS_PER_DAY) as i32, micros % MICROS_PER_DAY * 1_000)
}

/// An interval in microseconds, by which PostgreSQL compares intervals: days have 24 hours and months 30 days.
pub(super) const SPAN: Kernel = Kernel {
    name: "interval_span",
    result: |given| match given {
        [data_type] if is_interval(data_type) => Ok(DataType::Int64),
        _ => plan_err!("interval_span needs an interval"),
    },
    run: |call| {
        let spans = of_array(&call.args[0])?;
        let spans = spans.iter().map(|value| value.map(span).transpose());
        Ok(Arc::new(spans.collect::<Result<Int64Array, ArrowError>>()?))
    },
};

fn span(value: IntervalMonthDayNano) -> Result<i64, ArrowError> {
    let days = i64::from(value.months) * DAYS_PER_MONTH + i64::from(value.days);
    let micros = days.checked_mul(MICROS_PER_DAY).and_then(|days| days.checked_add(value.nanoseconds / 1_000));
    micros.ok_or_else(|| out_of_range("interval"))
}

/// A duration as an interval.
pub(super) const AS_INTERVAL: Kernel =
    Kernel { name: "interval_of", result: |_| Ok(INTERVAL), run: |call| Ok(Arc::new(of_array(&call.args[0])?)) };

/// An interval multiplied by a double.
pub(super) const MULTIPLY: Kernel = Kernel {
    name: "interval_multiply",
    result: |_| Ok(INTERVAL),
    run: |call| scaled(call, |field, factor| field * factor),
};

/// An interval divided by a double; an error if it is zero.
pub(super) const DIVIDE: Kernel = Kernel {
    name: "interval_divide",
    result: |_| Ok(INTERVAL),
    run: |call| {
        let factors = call.args[1].as_primitive::<Float64Type>();
        if factors.iter().flatten().any(|factor| factor == 0.0) {
            return Err(ArrowError::DivideByZero.into());
        }
        scaled(call, |field, factor| field / factor)
    },
};

fn scaled(call: &KernelCall<'_>, by: fn(f64, f64) -> f64) -> Result<ArrayRef> {
    let intervals = of_array(&call.args[0])?;
    let factors = call.args[1].as_primitive::<Float64Type>();
    let products = intervals.iter().zip(factors.iter()).map(|pair| match pair {
        (Some(value), Some(factor)) => {
            product(value, |field| by(field, factor)).map(Some).ok_or_else(|| out_of_range("interval"))
        }
        _ => Ok(None),
    });
    Ok(Arc::new(products.collect::<Result<IntervalMonthDayNanoArray, ArrowError>>()?))
}

/// Applies `by` to each field; as in PostgreSQL's `interval_mul`, fractions of months become days and fractions of days
/// become time. `None` if the result is out of range.
fn product(value: IntervalMonthDayNano, by: impl Fn(f64) -> f64) -> Option<IntervalMonthDayNano> {
    const SECONDS_PER_DAY: f64 = 86_400.0;
    let whole = |number: f64| (number.abs() < f64::from(i32::MAX)).then_some(number as i32);
    let micros_exact = |number: f64| (number * 1e6).round_ties_even() / 1e6;
    let (months_by, days_by) = (by(value.months.into()), by(value.days.into()));
    let (months, mut days) = (whole(months_by)?, whole(days_by)?);
    let rest_days = micros_exact((months_by - f64::from(months)) * DAYS_PER_MONTH as f64);
    let mut seconds = micros_exact((days_by - f64::from(days) + rest_days - rest_days.trunc()) * SECONDS_PER_DAY);
    if seconds.abs() >= SECONDS_PER_DAY {
        let more = (seconds / SECONDS_PER_DAY).trunc();
        days = days.checked_add(whole(more)?)?;
        seconds -= more * SECONDS_PER_DAY;
    }
    let days = days.checked_add(whole(rest_days.trunc())?)?;
    let micros = (by((value.nanoseconds / 1_000) as f64) + seconds * 1e6).round_ties_even();
    (micros.abs() < 9.2e15).then(|| IntervalMonthDayNano::new(months, days, micros as i64 * 1_000))
}

/// `-interval`.
pub(super) const NEGATE: Kernel = Kernel {
    name: "interval_negate",
    result: |_| Ok(INTERVAL),
    run: |call| {
        let negated = of_array(&call.args[0])?;
        let negated = negated.iter().map(|value| value.map(negate).transpose());
        Ok(Arc::new(negated.collect::<Result<IntervalMonthDayNanoArray, ArrowError>>()?))
    },
};

fn negate(value: IntervalMonthDayNano) -> Result<IntervalMonthDayNano, ArrowError> {
    let parts = (value.months.checked_neg(), value.days.checked_neg(), value.nanoseconds.checked_neg());
    match parts {
        (Some(months), Some(days), Some(nanos)) => Ok(IntervalMonthDayNano::new(months, days, nanos)),
        _ => Err(out_of_range("interval")),
    }
}

/// An instant plus an interval: months and days are added to the local time in the session's time zone, the rest to the
/// instant.
pub(super) const MOVE_INSTANT: Kernel = Kernel {
    name: "timestamptz_add",
    result: |given| match given {
        [instant @ DataType::Timestamp(_, Some(_)), _] => {
            Ok(DataType::Timestamp(TimeUnit::Microsecond, zone_of(instant)))
        }
        _ => plan_err!("timestamptz_add needs a timestamp with time zone and an interval"),
    },
    run: |call| {
        let zone: Tz = call.zone.parse().map_err(DataFusionError::from)?;
        let own = zone_of(call.args[0].data_type());
        let micros = cast_array(&call.args[0], &DataType::Timestamp(TimeUnit::Microsecond, own.clone()))?;
        let micros = micros.as_primitive::<TimestampMicrosecondType>();
        let intervals = of_array(&call.args[1])?;
        let moved = micros.iter().zip(intervals.iter()).map(|pair| match pair {
            (Some(micros), Some(by)) => {
                add_to_instant(micros, by, &zone).map(Some).ok_or_else(|| out_of_range("timestamp"))
            }
            _ => Ok(None),
        });
        let moved = moved.collect::<Result<TimestampMicrosecondArray, ArrowError>>()?;
        Ok(Arc::new(moved.with_timezone_opt(own)))
    },
};

fn zone_of(data_type: &DataType) -> Option<Arc<str>> {
    match data_type {
        DataType::Timestamp(_, zone) => zone.clone(),
        _ => None,
    }
}

fn add_to_instant(micros: i64, by: IntervalMonthDayNano, zone: &Tz) -> Option<i64> {
    let mut at = DateTime::from_timestamp_micros(micros)?;
    for (months, days) in [(by.months, 0), (0, by.days)] {
        if (months, days) != (0, 0) {
            let utc = at.naive_utc();
            let offset = zone.offset_from_utc_datetime(&utc).fix().local_minus_utc();
            let local = utc.checked_add_signed(TimeDelta::seconds(offset.into()))?;
            at = instant(add_to_local(local, months, days)?, zone)?;
        }
    }
    at.timestamp_micros().checked_add(by.nanoseconds / 1_000)
}

fn add_to_local(local: NaiveDateTime, months: i32, days: i32) -> Option<NaiveDateTime> {
    let size = |number: i32| number.unsigned_abs();
    let local = match months {
        0.. => local.checked_add_months(Months::new(size(months)))?,
        _ => local.checked_sub_months(Months::new(size(months)))?,
    };
    match days {
        0.. => local.checked_add_days(Days::new(size(days).into())),
        _ => local.checked_sub_days(Days::new(size(days).into())),
    }
}

/// `make_interval(years, months, weeks, days, hours, mins, secs)`.
const MAKE_INTERVAL: Kernel = Kernel {
    name: "make_interval",
    result: |given| match given.len() {
        0..=7 => Ok(INTERVAL),
        _ => plan_err!("make_interval needs years, months, weeks, days, hours, mins and secs"),
    },
    run: |call| {
        let doubles = call.args.iter().map(|arg| cast_array(arg, &DataType::Float64)).collect::<Result<Vec<_>, _>>()?;
        let parts = (0..call.rows).map(|row| {
            let mut parts = [0.0; 7];
            for (part, doubles) in parts.iter_mut().zip(&doubles) {
                if doubles.is_null(row) {
                    return Ok(None);
                }
                *part = doubles.as_primitive::<Float64Type>().value(row);
            }
            interval_of_parts(parts).map(Some).ok_or_else(|| out_of_range("interval"))
        });
        Ok(Arc::new(parts.collect::<Result<IntervalMonthDayNanoArray, ArrowError>>()?))
    },
};

fn interval_of_parts([years, months, weeks, days, hours, minutes, seconds]: [f64; 7]) -> Option<IntervalMonthDayNano> {
    let whole = |number: f64| (number.abs() < f64::from(i32::MAX)).then_some(number as i32);
    let micros = ((hours * 3_600.0 + minutes * 60.0) * 1e6 + (seconds * 1e6).round_ties_even()) as i64;
    let nanos = micros.checked_mul(1_000)?;
    Some(IntervalMonthDayNano::new(whole(years * 12.0 + months)?, whole(weeks * 7.0 + days)?, nanos))
}

const JUSTIFY_HOURS: Kernel = Kernel {
    name: "justify_hours",
    result: |_| Ok(INTERVAL),
    run: |call| {
        justify(call, |months, days, micros| {
            with_hours((months, days + micros / MICROS_PER_DAY, micros % MICROS_PER_DAY))
        })
    },
};

const JUSTIFY_DAYS: Kernel = Kernel {
    name: "justify_days",
    result: |_| Ok(INTERVAL),
    run: |call| {
        justify(call, |months, days, micros| with_days((months + days / DAYS_PER_MONTH, days % DAYS_PER_MONTH, micros)))
    },
};

const JUSTIFY_INTERVAL: Kernel = Kernel {
    name: "justify_interval",
    result: |_| Ok(INTERVAL),
    run: |call| {
        justify(call, |months, days, micros| {
            let days = days + micros / MICROS_PER_DAY;
            with_hours(with_days((months + days / DAYS_PER_MONTH, days % DAYS_PER_MONTH, micros % MICROS_PER_DAY)))
        })
    },
};

type Parts = (i64, i64, i64);

fn justify(call: &KernelCall<'_>, carried: fn(i64, i64, i64) -> Parts) -> Result<ArrayRef> {
    let intervals = of_array(&call.args[0])?;
    let justified = intervals.iter().map(|value| {
        let Some(value) = value else { return Ok(None) };
        let parts = carried(value.months.into(), value.days.into(), value.nanoseconds / 1_000);
        let months = i32::try_from(parts.0).map_err(|_| out_of_range("interval"))?;
        let days = i32::try_from(parts.1).map_err(|_| out_of_range("interval"))?;
        Ok(Some(IntervalMonthDayNano::new(months, days, parts.2 * 1_000)))
    });
    Ok(Arc::new(justified.collect::<Result<IntervalMonthDayNanoArray, ArrowError>>()?))
}

/// Gives days and time the sign of the months.
fn with_days((mut months, mut days, micros): Parts) -> Parts {
    if months > 0 && (days < 0 || (days == 0 && micros < 0)) {
        (months, days) = (months - 1, days + DAYS_PER_MONTH);
    } else if months < 0 && (days > 0 || (days == 0 && micros > 0)) {
        (months, days) = (months + 1, days - DAYS_PER_MONTH);
    }
    (months, days, micros)
}

/// Gives the time the sign of the days.
fn with_hours((months, mut days, mut micros): Parts) -> Parts {
    if days > 0 && micros < 0 {
        (days, micros) = (days - 1, micros + MICROS_PER_DAY);
    } else if days < 0 && micros > 0 {
        (days, micros) = (days + 1, micros - MICROS_PER_DAY);
    }
    (months, days, micros)
}

/// `age(later, earlier)`, by local times.
const AGE: Kernel = Kernel {
    name: "age",
    result: |given| match given {
        [_, _] => Ok(INTERVAL),
        _ => plan_err!("age needs two timestamps: write age(ts) as age(current_date, ts)"),
    },
    run: |call| {
        let zone: Tz = call.zone.parse().map_err(DataFusionError::from)?;
        let (later, earlier) = (local_times(&call.args[0], &zone)?, local_times(&call.args[1], &zone)?);
        let ages = later.into_iter().zip(earlier).map(|(later, earlier)| Some(age(later?, earlier?)));
        Ok(Arc::new(ages.collect::<IntervalMonthDayNanoArray>()))
    },
};

/// Local times: for instants those of the session's time zone.
fn local_times(array: &ArrayRef, zone: &Tz) -> Result<Vec<Option<NaiveDateTime>>> {
    let is_instant = zone_of(array.data_type()).is_some();
    let micros = cast_array(array, &DataType::Timestamp(TimeUnit::Microsecond, zone_of(array.data_type())))?;
    let to_local = |micros: i64| {
        let utc = DateTime::from_timestamp_micros(micros)?.naive_utc();
        let offset = if is_instant { zone.offset_from_utc_datetime(&utc).fix().local_minus_utc() } else { 0 };
        utc.checked_add_signed(TimeDelta::seconds(offset.into()))
    };
    Ok(micros.as_primitive::<TimestampMicrosecondType>().iter().map(|micros| to_local(micros?)).collect())
}

fn age(later: NaiveDateTime, earlier: NaiveDateTime) -> IntervalMonthDayNano {
    let is_negative = later < earlier;
    let (to, from) = if is_negative { (earlier, later) } else { (later, earlier) };
    let micros =
        |at: NaiveDateTime| i64::from(at.num_seconds_from_midnight()) * 1_000_000 + i64::from(at.nanosecond() / 1_000);
    let mut months =
        (i64::from(to.year()) - i64::from(from.year())) * 12 + i64::from(to.month()) - i64::from(from.month());
    let (mut days, mut rest) = (i64::from(to.day()) - i64::from(from.day()), micros(to) - micros(from));
    if rest < 0 {
        (days, rest) = (days - 1, rest + MICROS_PER_DAY);
    }
    if days < 0 {
        // The incomplete month is the one of the earlier time.
        (months, days) = (months - 1, days + days_of_month(from));
    }
    let sign = if is_negative { -1 } else { 1 };
    IntervalMonthDayNano::new((sign * months) as i32, (sign * days) as i32, sign * rest * 1_000)
}

fn days_of_month(at: NaiveDateTime) -> i64 {
    let first = at.date().with_day(1);
    let next = first.and_then(|first| first.checked_add_months(Months::new(1)));
    first.zip(next).map_or(DAYS_PER_MONTH, |(first, next): (NaiveDate, NaiveDate)| (next - first).num_days())
}
