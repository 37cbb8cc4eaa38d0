//! Conditions, and the order in which they are evaluated.

use std::sync::Arc;

use datafusion::logical_expr::Operator::{And, Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq, Or};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{
    BinaryExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr, Literal, NotExpr,
};

/// The cost of evaluating a condition. Conditions are evaluated in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cost {
    /// A comparison: evaluating it for all rows is cheaper than selecting rows first.
    Low,
    /// A dynamic condition, known when the query runs. It is skipped where it keeps most rows, and can't fail.
    Runtime,
    /// More than a comparison, such as LIKE. It can't fail.
    High,
    /// It may be an error for rows that a condition before it rejects, such as a division by zero.
    MayFail,
}

/// A part of a conjunction.
#[derive(Debug, Clone)]
pub(super) struct Condition {
    /// The condition, over the columns of the filter's input.
    pub(super) expr: Arc<dyn PhysicalExpr>,
    /// By which it is ordered.
    pub(super) cost: Cost,
}

impl Condition {
    /// A condition that the query has.
    pub(super) fn of_query(expr: &Arc<dyn PhysicalExpr>) -> Self {
        Self { cost: cost(expr), expr: Arc::clone(expr) }
    }

    /// A condition that is known only when the query runs.
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
