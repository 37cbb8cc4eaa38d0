//! `ts AT TIME ZONE 'Europe/Paris'` as in PostgreSQL, where it is the function `timezone(zone, ts)`: an instant becomes
//! the local time in the zone, a local time becomes its instant. DataFusion's own only changes the zone in which an
//! instant is displayed.

use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::scalar::ScalarValue;
use sqlparser::ast::{
    self, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, ObjectName, VisitMut,
    VisitorMut,
};

use super::column::{constant, each, instants, is_text, per_second, text};
use super::zone::{Instants, Span, Zone};

const TIMEZONE: &str = "timezone";
const UTC: &str = "UTC";

/// Rewrites each `AT TIME ZONE` of a statement to a call of `timezone`.
pub fn rewrite_at_time_zone(statement: &mut ast::Statement) {
    let _ = VisitMut::visit(statement, &mut Calls);
}

struct Calls;

impl VisitorMut for Calls {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
        if let ast::Expr::AtTimeZone { timestamp, time_zone } = expr {
            let argument = |expr: &ast::Expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr.clone()));
            let args = vec![argument(time_zone), argument(timestamp)];
            *expr = ast::Expr::Function(Function {
                name: ObjectName::from(vec![Ident::new(TIMEZONE)]),
                uses_odbc_syntax: false,
                parameters: FunctionArguments::None,
                args: FunctionArguments::List(FunctionArgumentList {
                    duplicate_treatment: None,
                    args,
                    clauses: vec![],
                }),
                filter: None,
                null_treatment: None,
                over: None,
                within_group: vec![],
            });
        }
        ControlFlow::Continue(())
    }
}

/// The function `timezone(zone, ts)`.
pub fn function() -> ScalarUDF {
    ScalarUDF::from(AtZone::default())
}

/// The function `timezone`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct AtZone {
    signature: Signature,
}

impl Default for AtZone {
    fn default() -> Self {
        AtZone { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for AtZone {
    fn name(&self) -> &str {
        TIMEZONE
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let [zone, instant] = given else {
            return plan_err!("timezone takes a time zone and an instant: ts AT TIME ZONE 'Europe/Paris'");
        };
        if !is_text(zone) && *zone != DataType::Null {
            return plan_err!("AT TIME ZONE takes the name of a zone, not {zone}");
        }
        // As in PostgreSQL, a bare literal or a date is an instant.
        let instant = match instant {
            DataType::Timestamp(..) => instant.clone(),
            DataType::Date32 | DataType::Date64 | DataType::Null => instant_type(TimeUnit::Microsecond),
            text if is_text(text) => instant_type(TimeUnit::Microsecond),
            other => return plan_err!("AT TIME ZONE takes an instant or a local time, not {other}"),
        };
        Ok(vec![DataType::Utf8, instant])
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        let (unit, zone) = instants(&given[1])?;
        Ok(if zone.is_some() { DataType::Timestamp(unit, None) } else { instant_type(unit) })
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let zone = constant(&call.args[0], TIMEZONE, "the time zone")?;
        let Some(name) = text(zone) else {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from(call.return_type())?));
        };
        let zone = Zone::named(name)?;
        let of = call.args[1].data_type();
        let (unit, column_zone) = instants(&of)?;
        let per_second = per_second(unit);
        let mut known: Option<Span> = None;
        if column_zone.is_some() {
            return each(&call.args[1], None, |instant| {
                let second = instant.div_euclid(per_second);
                let span = match known {
                    Some(span) if span.from <= second && second < span.to => span,
                    _ => *known.insert(zone.span(second)),
                };
                instant.saturating_add(span.offset.saturating_mul(per_second))
            });
        }
        each(&call.args[1], Some(Arc::from(UTC)), |local| {
            let second = local.div_euclid(per_second);
            // PostgreSQL takes a local time that occurs twice for the second one, of standard time, and one that does
            // not occur by the offset before the change.
            let instant = match zone.instants(second) {
                Instants::One(instant) => instant,
                Instants::Two { second, .. } => second,
                Instants::None { before, .. } => before,
            };
            local.saturating_add((instant - second).saturating_mul(per_second))
        })
    }
}

fn instant_type(unit: TimeUnit) -> DataType {
    DataType::Timestamp(unit, Some(UTC.into()))
}
