//! Parses the expressions that replace others in queries of the catalogue.

use sqlparser::ast::Expr;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

/// Parses an SQL expression; `None` on a syntax error.
pub(super) fn parse_expr(expr: &str) -> Option<Expr> {
    Parser::new(&PostgreSqlDialect {}).try_with_sql(expr).ok()?.parse_expr().ok()
}
