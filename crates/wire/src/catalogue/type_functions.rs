//! The functions of types, such as `typreceive`: PostgreSQL shows their names, and compares them with numbers. Here one
//! is a number, by which tools join it with `pg_proc`, and the others are names.

use std::ops::ControlFlow;

use sqlparser::ast::{
    BinaryOperator, Expr, Ident, ObjectName, Select, SelectItem, Statement, Value, VisitMut, VisitorMut,
    visit_relations,
};

use super::asked::parsed;

const NUMBER: &str = "typreceive";
const NAMES: [&str; 3] = ["typinput", "typoutput", "typsend"];

/// In a statement that reads `pg_type` alone.
pub(super) fn rewritten(statement: &mut Statement) {
    let others = visit_relations(statement, |name: &ObjectName| {
        let table = name.0.last().and_then(|part| part.as_ident());
        let is_it = table.is_some_and(|table| table.value.eq_ignore_ascii_case("pg_type"));
        if is_it { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    if others.is_continue() {
        let _ = statement.visit(&mut TypeFunctions);
    }
}

struct TypeFunctions;

impl VisitorMut for TypeFunctions {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) = item
                && is_column(expr, &[NUMBER])
                && let Some(expr) = name_of(expr)
            {
                *item = SelectItem::ExprWithAlias { expr, alias: Ident::new(NUMBER) };
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let other = match expr {
            Expr::Cast { expr: inner, data_type, .. }
                if is_column(inner, &[NUMBER])
                    && matches!(data_type.to_string().to_lowercase().as_str(), "text" | "varchar") =>
            {
                name_of(inner)
            }
            Expr::BinaryOp { left, op: BinaryOperator::Eq | BinaryOperator::NotEq, right }
                if is_column(left, &NAMES) && is_zero(right) =>
            {
                // No function.
                **right = Expr::value(Value::SingleQuotedString("-".to_owned()));
                None
            }
            _ => None,
        };
        if let Some(other) = other {
            *expr = other;
        }
        ControlFlow::Continue(())
    }
}

fn is_column(expr: &Expr, known: &[&str]) -> bool {
    let name = match expr {
        Expr::Identifier(name) => Some(name),
        Expr::CompoundIdentifier(names) => names.last(),
        _ => None,
    };
    name.is_some_and(|name| known.iter().any(|known| name.value.eq_ignore_ascii_case(known)))
}

fn is_zero(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(value) if matches!(&value.value, Value::Number(digits, _) if digits == "0"))
}

fn name_of(column: &Expr) -> Option<Expr> {
    parsed(&format!("coalesce((SELECT max(proname) FROM pg_catalog.pg_proc WHERE oid = {column}), '-')"))
}
