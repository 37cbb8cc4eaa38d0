//! `ts >= '2020-01-02 06:00'`: PostgreSQL needs no seconds, DataFusion does.
//!
//! Runs after type coercion, when every literal that stands for an instant sits in a cast to a
//! timestamp; so a text that merely looks like an instant is never touched.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Cast, Expr, LogicalPlan, TryCast};
use datafusion::optimizer::AnalyzerRule;
use datafusion::scalar::ScalarValue;

use crate::instant::with_seconds;

#[derive(Debug)]
pub(crate) struct MissingSeconds;

impl AnalyzerRule for MissingSeconds {
    fn name(&self) -> &str {
        "missing_seconds"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        let analyzed = plan.transform_up_with_subqueries(|plan| {
            let names = NamePreserver::new(&plan);
            plan.map_expressions(|expr| {
                let name = names.save(&expr);
                Ok(expr.transform_up(mend)?.update_data(|expr| name.restore(expr)))
            })
        })?;
        Ok(analyzed.data)
    }
}

fn mend(mut expr: Expr) -> Result<Transformed<Expr>> {
    let mended = match &mut expr {
        Expr::Cast(Cast { expr, field }) | Expr::TryCast(TryCast { expr, field }) => {
            matches!(field.data_type(), DataType::Timestamp(..)) && mend_literal(expr)
        }
        _ => false,
    };
    Ok(if mended { Transformed::yes(expr) } else { Transformed::no(expr) })
}

fn mend_literal(expr: &mut Expr) -> bool {
    let Expr::Literal(
        ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)) | ScalarValue::LargeUtf8(Some(text)),
        _,
    ) = expr
    else {
        return false;
    };
    match with_seconds(text) {
        Some(whole) => {
            *text = whole;
            true
        }
        None => false,
    }
}
