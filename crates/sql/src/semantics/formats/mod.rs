//! `to_char`, `to_timestamp` and `to_date` with PostgreSQL's patterns. A pattern that is not supported is an error,
//! never a wrong result.

mod numbers;
mod parse;
mod times;

use std::sync::Arc;

use chrono::{DateTime, FixedOffset, NaiveDateTime, Offset, TimeDelta, TimeZone};
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Date32Array, StringArray, TimestampMicrosecondArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type, TimeUnit, TimestampMicrosecondType};
use datafusion::common::{DataFusionError, exec_datafusion_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::scalar::ScalarValue;

/// `to_char`, `to_timestamp` and `to_date`.
pub(super) fn functions() -> Vec<ScalarUDF> {
    let all = [Target::Text, Target::Instant, Target::Date];
    all.into_iter().map(|target| ScalarUDF::from(FormatFunction::new(target))).collect()
}

/// The result of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Target {
    Text,
    Instant,
    Date,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct FormatFunction {
    target: Target,
    signature: Signature,
    /// The names of the engine's own function: a session that is made from another would register it again under them.
    aliases: Vec<String>,
}

impl FormatFunction {
    fn new(target: Target) -> FormatFunction {
        let aliases = if target == Target::Text { vec!["date_format".to_owned()] } else { Vec::new() };
        FormatFunction { target, signature: Signature::variadic_any(Volatility::Stable), aliases }
    }
}

const INSTANT: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

impl ScalarUDFImpl for FormatFunction {
    fn name(&self) -> &str {
        match self.target {
            Target::Text => "to_char",
            Target::Instant => "to_timestamp",
            Target::Date => "to_date",
        }
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        let is_text = |data_type: &DataType| data_type.is_string() || data_type.is_null();
        match (self.target, given) {
            (Target::Text, [value, pattern]) if is_text(pattern) && !value.is_string() => Ok(DataType::Utf8),
            (Target::Instant, [text, pattern]) if is_text(text) && is_text(pattern) => Ok(instant()),
            (Target::Instant, [value]) if value.is_numeric() || is_text(value) => Ok(instant()),
            (Target::Date, [text, pattern]) if is_text(text) && is_text(pattern) => Ok(DataType::Date32),
            _ => {
                let types: Vec<String> = given.iter().map(ToString::to_string).collect();
                plan_err!(
                    "No function matches {}({}): to_char(value, pattern), to_timestamp(text, pattern), \
                     to_timestamp(seconds) and to_date(text, pattern) are supported",
                    self.name(),
                    types.join(", ")
                )
            }
        }
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = call.number_rows;
        let is_scalar = call.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if is_scalar { 1 } else { rows };
        let values = call.args.iter().map(|arg| arg.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let zone = call.config_options.execution.time_zone.as_deref().unwrap_or("UTC");
        let zone: Tz = zone.parse().map_err(DataFusionError::from)?;
        let answer: ArrayRef = match (self.target, &values[..]) {
            (Target::Text, [value, pattern]) => to_text(value, &texts(pattern)?)?,
            (Target::Instant, [text]) if !text.data_type().is_numeric() => cast(text, &instant())?,
            (Target::Instant, [seconds]) => {
                let seconds = cast(seconds, &DataType::Float64)?;
                let micros = seconds
                    .as_primitive::<Float64Type>()
                    .unary::<_, TimestampMicrosecondType>(|seconds| (seconds * 1e6).round_ties_even() as i64);
                Arc::new(micros.with_timezone("UTC"))
            }
            (Target::Instant, [text, pattern]) => {
                let (text, pattern) = (texts(text)?, texts(pattern)?);
                let parsed = (0..rows).map(|row| match both(&text, &pattern, row) {
                    Some((text, pattern)) => parse::parse(text, pattern)
                        .and_then(|parsed| to_instant(parsed, &zone))
                        .map(|at| Some(at.timestamp_micros())),
                    None => Ok(None),
                });
                let parsed =
                    parsed.collect::<Result<Vec<Option<i64>>, String>>().map_err(|e| exec_datafusion_err!("{e}"))?;
                Arc::new(TimestampMicrosecondArray::from(parsed).with_timezone("UTC"))
            }
            (_, [text, pattern]) => {
                let (text, pattern) = (texts(text)?, texts(pattern)?);
                let parsed = (0..rows).map(|row| match both(&text, &pattern, row) {
                    Some((text, pattern)) => parse::parse(text, pattern).map(|parsed| Some(days(parsed.local))),
                    None => Ok(None),
                });
                let parsed =
                    parsed.collect::<Result<Vec<Option<i32>>, String>>().map_err(|e| exec_datafusion_err!("{e}"))?;
                Arc::new(Date32Array::from(parsed))
            }
            _ => return Err(exec_datafusion_err!("{} was called with {} arguments", self.name(), values.len())),
        };
        Ok(if is_scalar {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&answer, 0)?)
        } else {
            ColumnarValue::Array(answer)
        })
    }
}

fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn texts(array: &ArrayRef) -> Result<StringArray> {
    Ok(cast(array, &DataType::Utf8)?.as_string::<i32>().clone())
}

fn both<'a>(text: &'a StringArray, pattern: &'a StringArray, row: usize) -> Option<(&'a str, &'a str)> {
    (text.is_valid(row) && pattern.is_valid(row)).then(|| (text.value(row), pattern.value(row)))
}

fn days(local: NaiveDateTime) -> i32 {
    let days = local.date().signed_duration_since(chrono::NaiveDate::default()).num_days();
    i32::try_from(days).unwrap_or_default()
}

fn to_instant(parsed: parse::ParsedTime, zone: &Tz) -> Result<DateTime<FixedOffset>, String> {
    let out_of_range = || "timestamp out of range".to_owned();
    if let Some(offset) = parsed.offset {
        let offset = FixedOffset::east_opt(offset).ok_or_else(out_of_range)?;
        return offset.from_local_datetime(&parsed.local).single().ok_or_else(out_of_range);
    }
    let at = crate::literals::instant(parsed.local, zone).ok_or_else(out_of_range)?;
    Ok(at.fixed_offset())
}

/// `to_char`; consecutive rows with the same pattern parse it once.
fn to_text(value: &ArrayRef, patterns: &StringArray) -> Result<ArrayRef> {
    let failed = |error: String| exec_datafusion_err!("{error}");
    let mut known: Option<(String, times::Pattern)> = None;
    let mut out = Vec::with_capacity(value.len());
    match value.data_type() {
        DataType::Timestamp(_, zone) => {
            let zone = zone.as_deref().map(str::parse::<Tz>).transpose()?;
            let micros = cast(value, &INSTANT)?;
            let micros = micros.as_primitive::<TimestampMicrosecondType>();
            for row in 0..value.len() {
                if value.is_null(row) || patterns.is_null(row) {
                    out.push(None);
                    continue;
                }
                let pattern = patterns.value(row);
                if known.as_ref().is_none_or(|(text, _)| text != pattern) {
                    known = Some((pattern.to_owned(), times::Pattern::parse(pattern).map_err(failed)?));
                }
                let utc = DateTime::from_timestamp_micros(micros.value(row))
                    .ok_or_else(|| exec_datafusion_err!("timestamp out of range"))?
                    .naive_utc();
                let offset = zone.as_ref().map(|zone| zone.offset_from_utc_datetime(&utc).fix().local_minus_utc());
                let local = utc + TimeDelta::seconds(offset.unwrap_or_default().into());
                out.push(known.as_ref().map(|(_, pattern)| pattern.write(local, offset)));
            }
        }
        DataType::Date32 => return to_text(&cast(value, &INSTANT)?, patterns),
        DataType::Float32 | DataType::Float64 => {
            let values = cast(value, &DataType::Float64)?;
            let values = values.as_primitive::<Float64Type>();
            for row in 0..value.len() {
                out.push(match value.is_null(row) || patterns.is_null(row) {
                    true => None,
                    false => Some(numbers::format_double(values.value(row), patterns.value(row)).map_err(failed)?),
                });
            }
        }
        other if other.is_integer() || matches!(other, DataType::Decimal128(..) | DataType::Decimal256(..)) => {
            let values = texts(value)?;
            for row in 0..value.len() {
                out.push(match value.is_null(row) || patterns.is_null(row) {
                    true => None,
                    false => Some(numbers::format_decimal(values.value(row), patterns.value(row)).map_err(failed)?),
                });
            }
        }
        DataType::Null => out.resize(value.len(), None),
        other => {
            return Err(exec_datafusion_err!(
                "to_char of {other} is not supported; cast it to a number or a timestamp"
            ));
        }
    }
    Ok(Arc::new(StringArray::from(out)))
}
