//! The width of a bucket or the step of a series: an interval, or a text such as `15 min`.

use datafusion::arrow::compute::kernels::cast_utils::parse_interval_month_day_nano;
use datafusion::arrow::datatypes::{DataType, IntervalMonthDayNano, IntervalUnit, TimeUnit};
use datafusion::common::{plan_datafusion_err, plan_err};
use datafusion::error::Result;
use datafusion::scalar::ScalarValue;

/// Nanoseconds in a second.
pub(crate) const SECOND: i64 = 1_000_000_000;
/// Nanoseconds in an hour.
pub(crate) const HOUR: i64 = 3_600 * SECOND;
/// Nanoseconds in a day of 24 hours.
pub(crate) const DAY: i64 = 24 * HOUR;

/// The width of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd)]
pub(crate) enum Width {
    /// Whole months, a year being twelve of them.
    Months(i64),
    /// Nanoseconds on the local clock: a day is a day, whatever number of hours it has.
    Fixed(i64),
}

impl Width {
    /// The width of an interval, a duration or a text.
    pub(crate) fn of(value: &ScalarValue) -> Result<Width> {
        let interval = match value {
            ScalarValue::IntervalMonthDayNano(Some(interval)) => *interval,
            ScalarValue::IntervalYearMonth(Some(months)) => IntervalMonthDayNano::new(*months, 0, 0),
            ScalarValue::IntervalDayTime(Some(of)) => {
                IntervalMonthDayNano::new(0, of.days, i64::from(of.milliseconds) * 1_000_000)
            }
            ScalarValue::DurationSecond(Some(n)) => IntervalMonthDayNano::new(0, 0, n.saturating_mul(SECOND)),
            ScalarValue::DurationMillisecond(Some(n)) => IntervalMonthDayNano::new(0, 0, n.saturating_mul(1_000_000)),
            ScalarValue::DurationMicrosecond(Some(n)) => IntervalMonthDayNano::new(0, 0, n.saturating_mul(1_000)),
            ScalarValue::DurationNanosecond(Some(n)) => IntervalMonthDayNano::new(0, 0, *n),
            ScalarValue::Utf8(Some(text)) | ScalarValue::LargeUtf8(Some(text)) | ScalarValue::Utf8View(Some(text)) => {
                interval_of(text)?
            }
            other => {
                return plan_err!(
                    "a width is an interval such as '15 min' or '1 month', the same for all rows, not {other}"
                );
            }
        };
        Width::of_interval(interval)
    }

    /// The width of a text such as `15 min`.
    pub(crate) fn of_text(text: &str) -> Result<Width> {
        Width::of_interval(interval_of(text)?)
    }

    /// The width of an interval, which must be positive and either of months or of days and less.
    pub(crate) fn of_interval(interval: IntervalMonthDayNano) -> Result<Width> {
        let IntervalMonthDayNano { months, days, nanoseconds } = interval;
        let fixed = i64::from(days).checked_mul(DAY).and_then(|days| days.checked_add(nanoseconds));
        match (months, fixed) {
            (0, Some(fixed)) if fixed > 0 => Ok(Width::Fixed(fixed)),
            (1.., Some(0)) => Ok(Width::Months(months.into())),
            (0, _) => plan_err!("a width must be greater than zero"),
            _ => plan_err!("a width has either years and months, or days and shorter units, not both"),
        }
    }

    /// The width as elapsed time, in nanoseconds; an error for months, whose lengths differ.
    pub(crate) fn elapsed(self) -> Result<i64> {
        match self {
            Width::Fixed(nanos) => Ok(nanos),
            Width::Months(_) => plan_err!("months differ in length: a step is seconds, minutes, hours or days"),
        }
    }
}

fn interval_of(text: &str) -> Result<IntervalMonthDayNano> {
    parse_interval_month_day_nano(text).map_err(|_| {
        plan_datafusion_err!("'{text}' is not an interval; write it as '15 min', '1 hour', '1 day' or '1 month'")
    })
}

/// The type to which a width or a step is coerced; `None` for types that are neither.
pub(crate) fn coerced(given: &DataType) -> Option<DataType> {
    match given {
        DataType::Interval(_) => Some(DataType::Interval(IntervalUnit::MonthDayNano)),
        DataType::Duration(_) => Some(DataType::Duration(TimeUnit::Nanosecond)),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Some(DataType::Utf8),
        _ => None,
    }
}
