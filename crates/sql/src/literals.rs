//! Literals and casts of timestamps, by PostgreSQL's rules.
//!
//! In `ts >= '2020-01-02 06:00'` PostgreSQL needs no seconds, while DataFusion does; a text without an offset is in the
//! session's time zone for PostgreSQL, and in the column's for DataFusion. The day and the hour of a timestamp, as in
//! `ts::date` and `extract(hour FROM ts)`, are the session's too.
//!
//! The rule runs after type coercion, when every literal of a timestamp is in a cast: a text that only looks like a
//! timestamp is not changed.

use chrono::{DateTime, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeDelta, TimeZone, Utc};
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::DFSchema;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::functions::datetime::to_local_time;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, LogicalPlan, TryCast};
use datafusion::optimizer::AnalyzerRule;
use datafusion::scalar::ScalarValue;

use crate::instant::{local_time, with_seconds};
use crate::timestamp_text::as_text;
use series::at_zone;

/// The analyzer rule. It runs after type coercion.
#[derive(Debug)]
pub struct TimestampLiterals;

impl AnalyzerRule for TimestampLiterals {
    fn name(&self) -> &str {
        "timestamp_literals"
    }

    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> Result<LogicalPlan> {
        let session = config.execution.time_zone.as_deref();
        let zone = session.and_then(|zone| zone.parse::<Tz>().ok());
        let analyzed = plan.transform_up_with_subqueries(|plan| {
            let names = NamePreserver::new(&plan);
            let schema = merge_schema(&plan.inputs());
            plan.map_expressions(|expr| {
                let name = names.save(&expr);
                let corrected = expr.transform_up(|expr| {
                    let corrected = correct(expr, zone.as_ref())?;
                    match session {
                        Some(session) => corrected.transform_data(|expr| local(expr, session, &schema)),
                        None => Ok(corrected),
                    }?
                    .transform_data(|expr| written(expr, session, &schema))
                });
                Ok(corrected?.update_data(|expr| name.restore(expr)))
            })
        })?;
        Ok(analyzed.data)
    }
}

fn correct(mut expr: Expr, zone: Option<&Tz>) -> Result<Transformed<Expr>> {
    let corrected = match &mut expr {
        Expr::Cast(Cast { expr, field }) | Expr::TryCast(TryCast { expr, field }) => match field.data_type() {
            DataType::Date32 => expand_infinity(expr, true),
            DataType::Timestamp(..) if expand_infinity(expr, false) => true,
            DataType::Timestamp(_, None) => correct_literal(expr, None, true),
            DataType::Timestamp(_, Some(_)) => correct_literal(expr, zone, false),
            _ => false,
        },
        _ => false,
    };
    Ok(if corrected { Transformed::yes(expr) } else { Transformed::no(expr) })
}

/// Converts timestamps to the session's zone where their local time matters: in casts, `date_part` and `to_char`.
fn local(mut expr: Expr, session: &str, schema: &DFSchema) -> Result<Transformed<Expr>> {
    const OF_ZONE: [&str; 2] = ["date_part", "to_char"];
    let asked: Vec<&mut Expr> = match &mut expr {
        Expr::Cast(Cast { expr: instant, field }) | Expr::TryCast(TryCast { expr: instant, field })
            if matches!(field.data_type(), DataType::Timestamp(_, None)) =>
        {
            // Arrow's cast drops the zone and gives the time in UTC.
            return Ok(match instant.get_type(schema) {
                Ok(DataType::Timestamp(unit, Some(_))) => {
                    let shown = DataType::Timestamp(unit, Some(session.into()));
                    let placed = Expr::Cast(Cast::new(Box::new(std::mem::take(instant)), shown));
                    **instant = to_local_time().call(vec![placed]);
                    Transformed::yes(expr)
                }
                _ => Transformed::no(expr),
            });
        }
        // A local time, or the midnight of a date, to a timestamp with time zone.
        Expr::Cast(Cast { expr: clock, field }) | Expr::TryCast(TryCast { expr: clock, field })
            if matches!(field.data_type(), DataType::Timestamp(_, Some(_))) =>
        {
            let local = DataType::Timestamp(TimeUnit::Microsecond, None);
            return Ok(match clock.get_type(schema) {
                Ok(DataType::Timestamp(_, None) | DataType::Date32) if session != "UTC" => {
                    let clock_value = Expr::Cast(Cast::new(Box::new(std::mem::take(clock)), local));
                    let zone = Expr::Literal(ScalarValue::from(session), None);
                    **clock = at_zone::function().call(vec![zone, clock_value]);
                    Transformed::yes(expr)
                }
                _ => Transformed::no(expr),
            });
        }
        Expr::Cast(Cast { expr, field }) | Expr::TryCast(TryCast { expr, field })
            if *field.data_type() == DataType::Date32 =>
        {
            vec![expr.as_mut()]
        }
        Expr::ScalarFunction(call) if OF_ZONE.contains(&call.func.name()) => call.args.iter_mut().collect(),
        _ => return Ok(Transformed::no(expr)),
    };
    let mut changed = false;
    for instant in asked {
        // An outer column has no type here, and is not changed.
        if let Ok(DataType::Timestamp(unit, Some(own))) = instant.get_type(schema)
            && own.as_ref() != session
        {
            let shown = DataType::Timestamp(unit, Some(session.into()));
            *instant = Expr::Cast(Cast::new(Box::new(std::mem::take(instant)), shown));
            changed = true;
        }
    }
    Ok(if changed { Transformed::yes(expr) } else { Transformed::no(expr) })
}

/// Casts of timestamps to text, `ts::text`.
fn written(expr: Expr, session: Option<&str>, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let (Expr::Cast(Cast { expr: instant, field }) | Expr::TryCast(TryCast { expr: instant, field })) = &expr else {
        return Ok(Transformed::no(expr));
    };
    let to = field.data_type();
    let of = match instant.get_type(schema) {
        Ok(of @ DataType::Timestamp(..)) if to.is_string() => of,
        _ => return Ok(Transformed::no(expr)),
    };
    let shown = match (of, session) {
        (DataType::Timestamp(unit, Some(_)), Some(session)) => {
            let shown = DataType::Timestamp(unit, Some(session.into()));
            Expr::Cast(Cast::new(instant.clone(), shown))
        }
        _ => instant.as_ref().clone(),
    };
    let text = as_text(shown);
    Ok(Transformed::yes(if *to == DataType::Utf8 { text } else { Expr::Cast(Cast::new(Box::new(text), to.clone())) }))
}

/// Replaces the text `infinity` or `-infinity` by the value that the lake has for it, as docs/types.md says.
fn expand_infinity(expr: &mut Expr, is_date: bool) -> bool {
    let Expr::Literal(
        ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)) | ScalarValue::LargeUtf8(Some(text)),
        _,
    ) = expr
    else {
        return false;
    };
    match infinity(text, is_date) {
        Some(value) => {
            *text = value.to_owned();
            true
        }
        None => false,
    }
}

/// What the lake has in the place of `infinity` and `-infinity`, as text; `None` for other texts.
pub fn infinity(text: &str, is_date: bool) -> Option<&'static str> {
    Some(match (text.trim().to_lowercase().as_str(), is_date) {
        ("infinity" | "+infinity", true) => "9999-12-31",
        ("infinity" | "+infinity", false) => "9999-12-31 23:59:59.999999+00:00",
        ("-infinity", true) => "0001-01-01",
        ("-infinity", false) => "0001-01-01 00:00:00+00:00",
        _ => return None,
    })
}

/// Completes a literal, and says whether it changed. `zone` is the zone of a literal of a timestamp with time zone that
/// has no offset; `clocks` says that the literal is of a timestamp without time zone.
fn correct_literal(expr: &mut Expr, zone: Option<&Tz>, clocks: bool) -> bool {
    match expr {
        Expr::Literal(
            ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)) | ScalarValue::LargeUtf8(Some(text)),
            _,
        ) => {
            let whole = with_seconds(text);
            let placed = match zone {
                Some(zone) => local_to_utc(whole.as_deref().unwrap_or(text), zone),
                None if clocks => local_time(text),
                None => None,
            };
            match placed.or(whole) {
                Some(corrected) => {
                    *text = corrected;
                    true
                }
                None => false,
            }
        }
        // The value of a parameter, sent as a timestamp without time zone.
        Expr::Literal(ScalarValue::TimestampMicrosecond(Some(micros), None), _) => {
            let local = DateTime::from_timestamp_micros(*micros).map(|utc| utc.naive_utc());
            match zone.zip(local).and_then(|(zone, local)| instant(local, zone)) {
                Some(utc) => {
                    let placed = ScalarValue::TimestampMicrosecond(Some(utc.timestamp_micros()), Some("UTC".into()));
                    *expr = Expr::Literal(placed, None);
                    true
                }
                None => false,
            }
        }
        _ => false,
    }
}

/// The local time or the date in `text` as a text in UTC with the offset `+00:00`: `2020-01-02 06:00:00+00:00` for
/// `2020-01-02 07:00:00` in Europe/Paris. `None` where the text has an offset already, or is no timestamp.
pub fn local_to_utc(text: &str, zone: &Tz) -> Option<String> {
    let text = text.trim();
    let forms = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f"];
    let time = forms.iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
    let day = || NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().map(|day| day.and_time(NaiveTime::MIN));
    let utc = instant(time.or_else(day)?, zone)?;
    Some(utc.format("%Y-%m-%d %H:%M:%S%.f+00:00").to_string())
}

/// The instant of a local time, by PostgreSQL's rules: of an hour that occurs twice, the second one; in an hour that
/// does not occur, by the offset before the clock change. `None` where the instant is out of range.
pub(crate) fn instant(local: NaiveDateTime, zone: &Tz) -> Option<DateTime<Utc>> {
    match zone.from_local_datetime(&local) {
        LocalResult::Single(at) => Some(at.to_utc()),
        LocalResult::Ambiguous(_, later) => Some(later.to_utc()),
        LocalResult::None => {
            let before = zone.offset_from_utc_datetime(&(local - TimeDelta::days(1))).fix();
            Some((local - TimeDelta::seconds(before.local_minus_utc().into())).and_utc())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::local_to_utc;

    #[test]
    fn times_without_offset_are_in_the_zone() {
        let paris = "Europe/Paris".parse().unwrap();
        for (text, expected) in [
            ("2020-01-02 07:00:00", Some("2020-01-02 06:00:00+00:00")),
            ("2020-07-02T07:00:00.5", Some("2020-07-02 05:00:00.500+00:00")),
            ("2020-01-02", Some("2020-01-01 23:00:00+00:00")),
            ("2020-03-29 02:30:00", Some("2020-03-29 01:30:00+00:00")),
            ("2020-10-25 02:30:00", Some("2020-10-25 01:30:00+00:00")),
            ("2020-01-02 07:00:00+01", None),
            ("2020-01-02T07:00:00Z", None),
            ("noon", None),
        ] {
            assert_eq!(local_to_utc(text, &paris).as_deref(), expected, "{text}");
        }
    }
}
