//! Conditions, and the order in which they are evaluated.

use std::sync::Arc;

use datafusion::logical_expr::Operator::{And, Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq, Or};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{
    BinaryExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr, Literal, NotExpr,
};

/// What it takes to evaluate a condition for a row; conditions are evaluated in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cost {
    /// A comparison: sooner done for all rows than for those that are left.
    Low,
    /// Known when the query runs, and left out where it keeps most rows. It can't fail.
    Runtime,
    High,
    /// It may be an error for rows that a condition before it rejects, such as a division by zero.
    MayFail,
}

#[derive(Debug, Clone)]
pub(super) struct Condition {
    pub(super) expr: Arc<dyn PhysicalExpr>,
    pub(super) cost: Cost,
}

impl Condition {
    /// Of the query.
    pub(super) fn given(expr: &Arc<dyn PhysicalExpr>) -> Self {
        Self { cost: cost(expr), expr: Arc::clone(expr) }
    }

    pub(super) fn runtime(expr: Arc<dyn PhysicalExpr>) -> Self {
        Self { cost: Cost::Runtime, expr }
    }
}

fn cost(expr: &Arc<dyn PhysicalExpr>) -> Cost {
    let own = if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
        match binary.op() {
            Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom => Cost::Low,
            And | Or => Cost::High,
            _ => Cost::MayFail,
        }
    } else if expr.is::<Literal>() || expr.is::<Column>() || expr.is::<IsNullExpr>() || expr.is::<IsNotNullExpr>() {
        Cost::Low
    } else if expr.is::<NotExpr>() || expr.is::<InListExpr>() || expr.is::<LikeExpr>() {
        Cost::High
    } else {
        Cost::MayFail
    };
    expr.children().into_iter().map(cost).fold(own, Cost::max)
}
