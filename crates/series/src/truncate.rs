//! `date_trunc(unit, ts [, zone])` with PostgreSQL's results, in the session's time zone unless another one is given.
//! Times of day are truncated by DataFusion's own function.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::functions::datetime::date_trunc::DateTruncFunc;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use datafusion::scalar::ScalarValue;

use super::bucket::ordering_of;
use super::calendar::first_day;
use super::column::{coerced_instant, constant, each, instants, is_text, per_second, text, zone};
use super::floor::{ClockChanges, Floor};
use super::width::{DAY, HOUR, SECOND, Width};

const DATE_TRUNC: &str = "date_trunc";

/// The function `date_trunc`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct DateTrunc {
    signature: Signature,
    aliases: Vec<String>,
    times: DateTruncFunc,
}

impl Default for DateTrunc {
    fn default() -> Self {
        DateTrunc {
            signature: Signature::user_defined(Volatility::Immutable),
            aliases: vec!["datetrunc".to_owned()],
            times: DateTruncFunc::new(),
        }
    }
}

impl ScalarUDFImpl for DateTrunc {
    fn name(&self) -> &str {
        DATE_TRUNC
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        match given {
            [unit, time @ (DataType::Time32(_) | DataType::Time64(_))] if is_text(unit) => {
                Ok(vec![DataType::Utf8, time.clone()])
            }
            [unit, instant, zones @ ..] if is_text(unit) && zones.len() <= 1 && zones.iter().all(is_text) => {
                let Some(instant) = coerced_instant(instant) else {
                    return plan_err!("date_trunc takes a unit and an instant, not {instant}");
                };
                let mut types = vec![DataType::Utf8, instant];
                types.extend(zones.iter().map(|_| DataType::Utf8));
                Ok(types)
            }
            _ => plan_err!(
                "date_trunc takes a unit, an instant and, optionally, a time zone: \
                 date_trunc('day', ts, 'Europe/Paris')"
            ),
        }
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        Ok(given[1].clone())
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if !matches!(call.return_type(), DataType::Timestamp(..)) {
            return self.times.invoke_with_args(call);
        }
        if call.args.iter().any(|value| matches!(value, ColumnarValue::Scalar(scalar) if scalar.is_null())) {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from(call.return_type())?));
        }
        let unit = text(constant(&call.args[0], DATE_TRUNC, "the unit")?).unwrap_or_default();
        let zoned = call.args.get(2).map(|value| constant(value, DATE_TRUNC, "the time zone")).transpose()?;
        let of = call.args[1].data_type();
        let (time_unit, column_zone) = instants(&of)?;
        let zone = zone(zoned.and_then(text), &of, &call.config_options)?;
        let per_second = per_second(time_unit);
        let (width, origin) = width_of(unit)?;
        let finer = matches!(width, Width::Fixed(nanos) if nanos % (SECOND / per_second) != 0);
        if finer {
            return Ok(call.args[1].clone());
        }
        let origin = origin.map(|month| first_day(month) * (DAY / SECOND) * per_second);
        let mut floor = Floor::new(width, zone, per_second, origin, ClockChanges::DateTrunc)?;
        let truncated = each(&call.args[1], column_zone.cloned(), |instant| floor.of(instant))?;
        floor.checked(DATE_TRUNC)?;
        Ok(truncated)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        Ok(ordering_of(inputs, 1))
    }
}

/// The width of a unit and, for multiples of a year, a month in which one begins.
fn width_of(unit: &str) -> Result<(Width, Option<i64>)> {
    let years = |count: i64, from: i64| (Width::Months(12 * count), Some(12 * from));
    Ok(match unit.to_lowercase().as_str() {
        "microsecond" | "microseconds" => (Width::Fixed(1_000), None),
        "millisecond" | "milliseconds" => (Width::Fixed(1_000_000), None),
        "second" | "seconds" => (Width::Fixed(SECOND), None),
        "minute" | "minutes" => (Width::Fixed(60 * SECOND), None),
        "hour" | "hours" => (Width::Fixed(HOUR), None),
        "day" | "days" => (Width::Fixed(DAY), None),
        "week" | "weeks" => (Width::Fixed(7 * DAY), None),
        "month" | "months" => (Width::Months(1), None),
        "quarter" => (Width::Months(3), None),
        "year" | "years" => (Width::Months(12), None),
        "decade" | "decades" => years(10, 2000),
        // The 21st century began in 2001.
        "century" | "centuries" => years(100, 2001),
        "millennium" | "millennia" => years(1000, 2001),
        other => {
            return plan_err!(
                "date_trunc: '{other}' is not a unit; use microsecond, millisecond, second, minute, hour, day, \
                 week, month, quarter, year, decade, century or millennium"
            );
        }
    })
}
