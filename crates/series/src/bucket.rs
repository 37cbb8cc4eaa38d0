//! `time_bucket(width, ts [, zone] [, origin])`: the beginning of an instant's calendar bucket.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::plan_err;
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use datafusion::scalar::ScalarValue;

use super::column::{coerced_instant, constant, each, instants, is_text, per_second, text, ticks, zone};
use super::floor::{ClockChanges, Floor};
use super::width::{self, Width};

/// The function's name.
pub(crate) const TIME_BUCKET: &str = "time_bucket";

/// The function `time_bucket`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct TimeBucket {
    signature: Signature,
}

impl Default for TimeBucket {
    fn default() -> Self {
        TimeBucket { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for TimeBucket {
    fn name(&self) -> &str {
        TIME_BUCKET
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        coerced(TIME_BUCKET, given)
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        Ok(given[1].clone())
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let given = &call.args;
        if given.iter().any(|value| matches!(value, ColumnarValue::Scalar(scalar) if scalar.is_null())) {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from(call.return_type())?));
        }
        let constants: Vec<_> = [0].into_iter().chain(2..given.len()).collect();
        let constants: Result<Vec<_>> =
            constants.into_iter().map(|at| constant(&given[at], TIME_BUCKET, "all but the instant")).collect();
        let mut floor = floor(&constants?, &given[1].data_type(), &call.config_options)?;
        let (_, zone) = instants(call.return_type())?;
        let buckets = each(&given[1], zone.cloned(), |instant| floor.of(instant))?;
        floor.checked(TIME_BUCKET)?;
        Ok(buckets)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        Ok(ordering_of(inputs, 1))
    }
}

/// The ordering of buckets: that of their instants, the argument `instant`, where all other arguments are constant.
pub(crate) fn ordering_of(inputs: &[ExprProperties], instant: usize) -> SortProperties {
    let others = inputs.iter().enumerate().filter(|(at, _)| *at != instant);
    let constant = others.into_iter().all(|(_, input)| input.sort_properties == SortProperties::Singleton);
    if constant { inputs[instant].sort_properties } else { SortProperties::Unordered }
}

/// The types to which arguments `(width, ts [, zone] [, origin])` are coerced; the origin gets the type of the
/// instants.
pub(crate) fn coerced(function: &str, given: &[DataType]) -> Result<Vec<DataType>> {
    let usage = || {
        plan_err!(
            "{function} takes a width, an instant and, optionally, a time zone and an origin: \
             {function}('1 day', ts, 'Europe/Paris')"
        )
    };
    if !(2..=4).contains(&given.len()) {
        return usage();
    }
    let (Some(width), Some(instant)) = (width::coerced(&given[0]), coerced_instant(&given[1])) else {
        return usage();
    };
    let mut types = vec![width, instant.clone()];
    match &given[2..] {
        [] => {}
        [zone] if is_text(zone) => types.push(DataType::Utf8),
        [origin] if coerced_instant(origin).is_some() => types.push(instant),
        [zone, origin] if is_text(zone) && coerced_instant(origin).is_some() => {
            types.extend([DataType::Utf8, instant]);
        }
        _ => return usage(),
    }
    Ok(types)
}

/// The floor of a column of type `of`, from the constant arguments: the width and, if given, the zone and the origin.
pub(crate) fn floor(constants: &[&ScalarValue], of: &DataType, config: &ConfigOptions) -> Result<Floor> {
    let (unit, column_zone) = instants(of)?;
    let per_second = per_second(unit);
    let zone = zone(constants[1..].iter().find_map(|value| text(value)), of, config)?;
    let origin = constants[1..].iter().find_map(|value| ticks(value)).map(|origin| match column_zone {
        None => origin,
        Some(_) => origin + zone.span(origin.div_euclid(per_second)).offset * per_second,
    });
    Floor::new(Width::of(constants[0])?, Arc::clone(&zone), per_second, origin, ClockChanges::TimeBucket)
}
