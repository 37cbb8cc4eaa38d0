//! Comparisons with arrays: `x = ANY (ARRAY[...])` and `x = ANY (SELECT ...)` become `x IN (...)`, `x = ANY ($1)`
//! becomes `x = $1`; and so for `x <> ALL (...)`.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use sqlparser::ast::{
    ArrayElemTypeDef, BinaryOperator, CastKind, DataType, Expr, Statement, Value, ValueWithSpan, VisitMut, VisitorMut,
};

use super::array_text::{Element, elements};

/// See [`super::rewrite_array_comparisons`].
pub(super) fn rewrite_array_comparisons(statement: &mut Statement) -> BTreeSet<String> {
    let mut visitor = Arrays { parameters: BTreeSet::new() };
    let _ = statement.visit(&mut visitor);
    visitor.parameters
}

struct Arrays {
    parameters: BTreeSet<String>,
}

impl VisitorMut for Arrays {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let (left, right, negated) = match expr {
            Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. } => (left, right, false),
            Expr::AllOp { left, compare_op: BinaryOperator::NotEq, right } => (left, right, true),
            _ => return ControlFlow::Continue(()),
        };
        let right = unnested(right.as_ref());
        if let Expr::Subquery(subquery) = right {
            *expr = Expr::InSubquery { expr: left.clone(), subquery: subquery.clone(), negated };
        } else if let Some(list) = values(right) {
            *expr = Expr::InList { expr: left.clone(), list, negated };
        } else if let Some((name, value)) = parameter(right) {
            self.parameters.insert(name);
            let op = if negated { BinaryOperator::NotEq } else { BinaryOperator::Eq };
            *expr = Expr::BinaryOp { left: left.clone(), op, right: Box::new(value) };
        }
        ControlFlow::Continue(())
    }
}

fn unnested(expr: &Expr) -> &Expr {
    match expr {
        Expr::Nested(inner) => unnested(inner),
        other => other,
    }
}

/// The elements of an array constructor or an array literal. An empty array is not rewritten: `IN ()` is no SQL.
fn values(expr: &Expr) -> Option<Vec<Expr>> {
    let (expr, element) = match expr {
        Expr::Cast { expr, data_type, .. } => (unnested(expr), element_of(data_type)),
        other => (other, None),
    };
    let list = match expr {
        Expr::Array(array) => array.elem.clone(),
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), span }) => {
            let value = |element| match element {
                Element::Null => Some(Value::Null),
                Element::Text(text) => Some(Value::SingleQuotedString(text)),
                Element::Array(_) => None,
            };
            let literal = |element| Some(Expr::Value(ValueWithSpan { value: value(element)?, span: *span }));
            elements(text)?.into_iter().map(literal).collect::<Option<Vec<_>>>()?
        }
        _ => return None,
    };
    let cast = |value: Expr| match &element {
        Some(element) => cast(value, element.clone()),
        None => value,
    };
    (!list.is_empty()).then(|| list.into_iter().map(cast).collect())
}

fn parameter(expr: &Expr) -> Option<(String, Expr)> {
    match expr {
        Expr::Value(ValueWithSpan { value: Value::Placeholder(name), .. }) => Some((name.clone(), expr.clone())),
        Expr::Cast { expr, data_type, .. } => {
            let (name, value) = parameter(unnested(expr))?;
            Some((name, cast(value, element_of(data_type)?)))
        }
        _ => None,
    }
}

fn element_of(data_type: &DataType) -> Option<DataType> {
    match data_type {
        DataType::Array(ArrayElemTypeDef::SquareBracket(element, _)) => Some(element.as_ref().clone()),
        _ => None,
    }
}

fn cast(value: Expr, data_type: DataType) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(value), data_type, array: false, format: None }
}
