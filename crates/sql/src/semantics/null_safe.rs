//! Rewrites `a IS NOT DISTINCT FROM b` with equalities.
//!
//! In a join without other keys, the engine makes it a key of a hash join; from then on NULLs are equal in every key of
//! that join, also in keys `a = b` that are added later.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::logical_expr::type_coercion::binary::comparison_coercion;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Operator, binary_expr, cast, lit};
use datafusion::scalar::ScalarValue;

/// Rewrites the operator between two columns, which may become keys of a join; `None` if it does not apply.
pub(super) fn of_columns(binary: &BinaryExpr, schema: &DFSchema) -> Option<Expr> {
    let (left, right) = (binary.left.as_ref(), binary.right.as_ref());
    let has_column = |expr: &Expr| !expr.column_refs().is_empty();
    if binary.op != Operator::IsNotDistinctFrom || !has_column(left) || !has_column(right) {
        return None;
    }
    let types = (left.get_type(schema).ok()?, right.get_type(schema).ok()?);
    let is_nullable = left.nullable(schema).unwrap_or(true) || right.nullable(schema).unwrap_or(true);
    let common = comparison_coercion(&types.0, &types.1).filter(is_plain)?;
    let side =
        |expr: &Expr, own: DataType| if own == common { expr.clone() } else { cast(expr.clone(), common.clone()) };
    equal(side(left, types.0), side(right, types.1), &common, is_nullable).ok()
}

/// The condition that two values of `data_type` are equal or both NULL.
///
/// # Errors
/// If the type has no default value.
pub(super) fn equal(left: Expr, right: Expr, data_type: &DataType, is_nullable: bool) -> Result<Expr> {
    if !is_nullable {
        return Ok(left.eq(right));
    }
    if !is_plain(data_type) {
        return Ok(binary_expr(left, Operator::IsNotDistinctFrom, right));
    }
    let default = lit(ScalarValue::new_default(data_type)?);
    let known = |expr: Expr| coalesce(vec![expr, default.clone()]);
    let values = known(left.clone()).eq(known(right.clone()));
    Ok(values.and(left.is_null().eq(right.is_null())))
}

fn is_plain(data_type: &DataType) -> bool {
    data_type.is_primitive() || data_type.is_string() || matches!(data_type, DataType::Boolean)
}
