//! Helpers of the functions over instants: constant arguments, and changes of a column's values in its own unit.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use datafusion::arrow::datatypes::{
    ArrowTimestampType, DataType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use datafusion::common::{internal_err, plan_err};
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;
use datafusion::scalar::ScalarValue;

use super::zone::Zone;

/// How many of a unit a second has.
pub(crate) fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

/// The unit and the time zone of a timestamp type; an error for any other type.
pub(crate) fn instants(of: &DataType) -> Result<(TimeUnit, Option<&Arc<str>>)> {
    match of {
        DataType::Timestamp(unit, zone) => Ok((*unit, zone.as_ref())),
        other => internal_err!("{other} is not a timestamp type"),
    }
}

/// The zone in which a function computes over a column of type `of`: the given one, else the column's unless that is
/// UTC, else the session's. Timestamps without time zone are local times already, for which it is UTC.
pub(crate) fn zone(given: Option<&str>, of: &DataType, config: &ConfigOptions) -> Result<Arc<Zone>> {
    let (_, column) = instants(of)?;
    match (column, given) {
        (None, _) => Ok(Zone::utc()),
        (Some(_), Some(given)) => Zone::named(given),
        (Some(zone), None) if !matches!(&**zone, "UTC" | "+00:00" | "Etc/UTC" | "Z") => Zone::named(zone),
        (Some(_), None) => config.execution.time_zone.as_deref().map_or_else(|| Ok(Zone::utc()), Zone::named),
    }
}

/// The value of an argument that must be constant; `what` names it in the error.
pub(crate) fn constant<'a>(value: &'a ColumnarValue, function: &str, what: &str) -> Result<&'a ScalarValue> {
    match value {
        ColumnarValue::Scalar(scalar) => Ok(scalar),
        ColumnarValue::Array(_) => plan_err!("{function}: {what} must be the same for all rows, not a column"),
    }
}

/// The text of a value; `None` for NULL and other types.
pub(crate) fn text(value: &ScalarValue) -> Option<&str> {
    value.try_as_str().flatten()
}

/// The value of a timestamp in its unit; `None` for NULL and other types.
pub(crate) fn ticks(value: &ScalarValue) -> Option<i64> {
    match value {
        ScalarValue::TimestampSecond(ticks, _)
        | ScalarValue::TimestampMillisecond(ticks, _)
        | ScalarValue::TimestampMicrosecond(ticks, _)
        | ScalarValue::TimestampNanosecond(ticks, _) => *ticks,
        _ => None,
    }
}

/// Applies `change` to each value of a timestamp, array or scalar. The result's time zone is `zone`.
pub(crate) fn each(
    value: &ColumnarValue,
    zone: Option<Arc<str>>,
    change: impl FnMut(i64) -> i64,
) -> Result<ColumnarValue> {
    Ok(match value {
        ColumnarValue::Array(array) => ColumnarValue::Array(each_of(array, zone, change)?),
        ColumnarValue::Scalar(scalar) => {
            let array = each_of(&scalar.to_array()?, zone, change)?;
            ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?)
        }
    })
}

/// As [`each`], for an array.
pub(crate) fn each_of(array: &ArrayRef, zone: Option<Arc<str>>, change: impl FnMut(i64) -> i64) -> Result<ArrayRef> {
    fn mapped<T: ArrowTimestampType>(
        array: &ArrayRef,
        zone: Option<Arc<str>>,
        mut change: impl FnMut(i64) -> i64,
    ) -> ArrayRef {
        let array = array.as_primitive::<T>();
        let values: Vec<i64> = array.values().iter().map(|value| change(*value)).collect();
        Arc::new(PrimitiveArray::<T>::new(values.into(), array.nulls().cloned()).with_timezone_opt(zone))
    }
    Ok(match instants(array.data_type())?.0 {
        TimeUnit::Second => mapped::<TimestampSecondType>(array, zone, change),
        TimeUnit::Millisecond => mapped::<TimestampMillisecondType>(array, zone, change),
        TimeUnit::Microsecond => mapped::<TimestampMicrosecondType>(array, zone, change),
        TimeUnit::Nanosecond => mapped::<TimestampNanosecondType>(array, zone, change),
    })
}

/// The timestamp type to which an argument is coerced; `None` for types that are no instants.
pub(crate) fn coerced_instant(given: &DataType) -> Option<DataType> {
    match given {
        DataType::Timestamp(..) => Some(given.clone()),
        DataType::Date32 | DataType::Date64 => Some(DataType::Timestamp(TimeUnit::Microsecond, None)),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => {
            Some(DataType::Timestamp(TimeUnit::Microsecond, None))
        }
        _ => None,
    }
}

/// Whether a type is one of Arrow's string types.
pub(crate) fn is_text(given: &DataType) -> bool {
    matches!(given, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}
