//! The function columns of `pg_type`, such as `typreceive`. PostgreSQL prints them as names and compares them with
//! numbers. Here `typreceive` is a number, by which clients join it with `pg_proc`, and the others are names.

use std::ops::ControlFlow;

use sqlparser::ast::{
    BinaryOperator, Expr, Ident, ObjectName, Select, SelectItem, Statement, Value, VisitMut, VisitorMut,
    visit_relations,
};

use super::expressions::parse_expr;

const OID_COLUMN: &str = "typreceive";
const NAME_COLUMNS: [&str; 3] = ["typinput", "typoutput", "typsend"];

/// Rewrites these columns in a statement that reads only `pg_type`.
pub(super) fn rewrite(statement: &mut Statement) {
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
                && is_column(expr, &[OID_COLUMN])
                && let Some(expr) = name_of(expr)
            {
                *item = SelectItem::ExprWithAlias { expr, alias: Ident::new(OID_COLUMN) };
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let other = match expr {
            Expr::Cast { expr: inner, data_type, .. }
                if is_column(inner, &[OID_COLUMN])
                    && matches!(data_type.to_string().to_lowercase().as_str(), "text" | "varchar") =>
            {
                name_of(inner)
            }
            Expr::BinaryOp { left, op: BinaryOperator::Eq | BinaryOperator::NotEq, right }
                if is_column(left, &NAME_COLUMNS) && is_zero(right) =>
            {
                // 0 is "no function", whose name is `-`.
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
    parse_expr(&format!("coalesce((SELECT max(proname) FROM pg_catalog.pg_proc WHERE oid = {column}), '-')"))
}
