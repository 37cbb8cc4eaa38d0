//! Comparisons with arrays: `x = ANY (ARRAY[...])` and `x = ANY (SELECT ...)` become `x IN (...)`, `x = ANY ($1)`
//! becomes `x = $1`; and so for `x <> ALL (...)`.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use sqlparser::ast::{
    ArrayElemTypeDef, BinaryOperator, CastKind, DataType, Expr, Statement, Value, ValueWithSpan, VisitMut, VisitorMut,
};

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
            let value = |element: Option<String>| element.map_or(Value::Null, Value::SingleQuotedString);
            let elements = elements(text)?;
            elements
                .into_iter()
                .map(|element| Expr::Value(ValueWithSpan { value: value(element), span: *span }))
                .collect()
        }
        _ => return None,
    };
    let cast = |value: Expr| match &element {
        Some(element) => cast(value, element.clone()),
        None => value,
    };
    (!list.is_empty()).then(|| list.into_iter().map(cast).collect())
}

/// The elements of the text of a one-dimensional array, `{a,"b c",NULL}`; `None` where the text is not one.
fn elements(text: &str) -> Option<Vec<Option<String>>> {
    let inner = text.trim().strip_prefix('{')?.strip_suffix('}')?;
    let mut elements = Vec::new();
    let mut rest = inner.chars().peekable();
    if inner.trim().is_empty() {
        return Some(elements);
    }
    loop {
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        let is_quoted = rest.next_if_eq(&'"').is_some();
        let mut element = String::new();
        while let Some(c) = rest.next_if(|c| if is_quoted { *c != '"' } else { !matches!(c, ',' | '{' | '}' | '"') }) {
            element.push(if c == '\\' { rest.next()? } else { c });
        }
        if is_quoted {
            rest.next_if_eq(&'"')?;
            while rest.next_if(|c| c.is_whitespace()).is_some() {}
        } else {
            element.truncate(element.trim_end().len());
        }
        let is_null = !is_quoted && element.eq_ignore_ascii_case("null");
        elements.push((!is_null).then_some(element));
        match rest.next() {
            None => return Some(elements),
            Some(',') => {}
            Some(_) => return None,
        }
    }
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

#[cfg(test)]
mod tests {
    use super::elements;

    #[test]
    fn texts_of_arrays_are_parsed() {
        let texts = |list: &[&str]| Some(list.iter().map(|text| Some((*text).to_owned())).collect::<Vec<_>>());
        assert_eq!(elements("{a, b}"), texts(&["a", "b"]));
        assert_eq!(elements(r#"{"a b","c,\"d\\"}"#), texts(&["a b", "c,\"d\\"]));
        assert_eq!(elements("{NULL,\"NULL\"}"), Some(vec![None, Some("NULL".to_owned())]));
        assert_eq!(elements("{}"), Some(Vec::new()));
        assert_eq!(elements("{{1},{2}}"), None);
        assert_eq!(elements("{a"), None);
        assert_eq!(elements("{\"a}"), None);
    }
}
