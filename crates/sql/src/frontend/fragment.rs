//! Parses the parts of statements that passes compose as text.

use sqlparser::ast::Expr;
use sqlparser::parser::Parser;

use crate::grammar::Grammar;

/// Parses an expression that a pass has composed.
pub(super) fn parsed(expr: &str) -> Option<Expr> {
    Parser::new(&Grammar).try_with_sql(expr).ok()?.parse_expr().ok()
}
