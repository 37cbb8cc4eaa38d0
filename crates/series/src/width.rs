//! The width of a bucket or the step of a series, from an interval or a text such as `15 min`.

use datafusion::arrow::compute::kernels::cast_utils::parse_interval_month_day_nano;
use datafusion::arrow::datatypes::{DataType, IntervalMonthDayNano, IntervalUnit, TimeUnit};
use datafusion::common::{plan_datafusion_err, plan_err};
use datafusion::error::Result;
use datafusion::scalar::ScalarValue;

pub(crate) const SECOND: i64 = 1_000_000_000;
pub(crate) const HOUR: i64 = 3_600 * SECOND;
pub(crate) const DAY: i64 = 24 * HOUR;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd)]
pub(crate) enum Width {
    Months(i64),
    /// Nanoseconds on the local clock: a day is one, whatever number of hours it has.
    Fixed(i64),
}

impl Width {
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

    pub(crate) fn of_text(text: &str) -> Result<Width> {
        Width::of_interval(interval_of(text)?)
    }

    pub(crate) fn of_interval(interval: IntervalMonthDayNano) -> Result<Width> {
        let IntervalMonthDayNano { months, days, nanoseconds } = interval;
        let fixed = i64::from(days).checked_mul(DAY).and_then(|days| days.checked_add(nanoseconds));
        match (months, fixed) {
            (0, Some(fixed)) if fixed > 0 => Ok(Width::Fixed(fixed)),
            (1.., Some(0)) => Ok(Width::Months(months.into())),
            (0, _) => plan_err!("a width must be longer than nothing"),
            _ => plan_err!("a width is whole months and years, or days and shorter, not both"),
        }
    }

    /// Nanoseconds, where the width is the same everywhere in time: a step in elapsed time.
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

/// What a width or a step may be written as, after coercion.
pub(crate) fn coerced(given: &DataType) -> Option<DataType> {
    match given {
        DataType::Interval(_) => Some(DataType::Interval(IntervalUnit::MonthDayNano)),
        DataType::Duration(_) => Some(DataType::Duration(TimeUnit::Nanosecond)),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Some(DataType::Utf8),
        _ => None,
    }
}
