//! INTERSECT and EXCEPT of columns of different types: both sides get the common type first, which is also the result's
//! type. The engine plans them as joins that compare the common type and return the left side's values unchanged.

use std::sync::Arc;

use datafusion::common::{Column, JoinType, NullEquality};
use datafusion::error::Result;
use datafusion::logical_expr::type_coercion::binary::type_union_coercion;
use datafusion::logical_expr::{Expr, ExprSchemable, Join, LogicalPlan, Projection};

/// The join of INTERSECT or EXCEPT with inputs of equal types; other joins unchanged.
pub(super) fn with_common_types(mut join: Join) -> Result<LogicalPlan> {
    let is_set_operation = matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti)
        && join.null_equality == NullEquality::NullEqualsNull
        && join.filter.is_none()
        && join.on.len() == join.left.schema().fields().len()
        && join.on.len() == join.right.schema().fields().len();
    if !is_set_operation {
        return Ok(LogicalPlan::Join(join));
    }
    let types = |plan: &LogicalPlan| plan.schema().fields().iter().map(|field| field.data_type().clone()).collect();
    let (left, right): (Vec<_>, Vec<_>) = (types(&join.left), types(&join.right));
    let common: Option<Vec<_>> =
        left.iter().zip(&right).map(|(left, right)| type_union_coercion(left, right)).collect();
    // Types without a common one are the type coercion's to report.
    let Some(common) = common.filter(|common| *common != left || *common != right) else {
        return Ok(LogicalPlan::Join(join));
    };
    join.left = Arc::new(cast_columns(&join.left, &common)?);
    join.right = Arc::new(cast_columns(&join.right, &common)?);
    LogicalPlan::Join(join).recompute_schema()
}

/// The plan with its columns cast to these types, under their names.
fn cast_columns(plan: &Arc<LogicalPlan>, types: &[datafusion::arrow::datatypes::DataType]) -> Result<LogicalPlan> {
    let columns = plan.schema().iter().zip(types).map(|((qualifier, field), wanted)| {
        let column = Expr::Column(Column::new(qualifier.cloned(), field.name()));
        if field.data_type() == wanted {
            return Ok(column);
        }
        Ok(column.cast_to(wanted, plan.schema())?.alias_qualified(qualifier.cloned(), field.name()))
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    Ok(LogicalPlan::Projection(Projection::try_new(columns, Arc::clone(plan))?))
}
