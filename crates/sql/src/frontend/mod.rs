//! From a statement's text to the tree that is planned: one way for `wattlake sql`, psql, marts and roles' filters.
//!
//! On the tokens, as `statement::read` has them: the bounds of `complexity`, time travel, numbers with exponents, and the
//! marks of ASOF joins. On the tree, [`PASSES`] in their order; `golden.txt` shows statements after each pass that changes
//! them. What depends on types is not here: that is `semantics`, over the plan.

mod arrays;
mod calls;
mod casts;
mod conditions;
mod joins;
pub mod names;
mod sets;
mod table_functions;

use std::collections::BTreeSet;
use std::sync::LazyLock;

use datafusion_pg_catalog::sql::rules::{
    CurrentUserVariableToSessionUserFunctionCall, FixVersionColumnName, RewriteArrayAnyAllOperation,
    RewritePgCatalogOperator, SqlStatementRewriteRule, StripCallableQualifier, StripCollate,
};
use series::{asof, at_zone};
use sqlparser::ast::{Expr, Statement};
use sqlparser::parser::Parser;

use crate::grammar::Grammar;
pub(crate) use joins::ONE_SIDE;

/// A rewriting of a statement's tree that keeps its meaning.
pub struct Pass {
    pub name: &'static str,
    pub apply: fn(&mut Statement),
}

/// In the order in which they run.
pub const PASSES: [Pass; 12] = [
    Pass { name: "asof_joins", apply: asof::bracket },
    Pass { name: "at_time_zone", apply: at_zone::called },
    Pass { name: "arrays", apply: |statement| drop(any_of_values(statement)) },
    Pass { name: "column_names", apply: names::given },
    Pass { name: "one_sides", apply: joins::mark_sides },
    Pass { name: "table_functions", apply: table_functions::rewrite },
    Pass { name: "sets", apply: sets::rewrite },
    Pass { name: "casts", apply: casts::rewrite },
    Pass { name: "conditions", apply: conditions::rewrite },
    Pass { name: "calls", apply: calls::rewrite },
    Pass { name: "whole_tables", apply: sets::whole_names },
    Pass { name: "catalogue_forms", apply: catalogue_forms },
];

/// How many of the passes run as a statement is read: what it is must be known before the others.
pub(crate) const READING: usize = 2;

/// The statement as it is planned, once it was read.
pub fn prepared(mut statement: Statement) -> Statement {
    PASSES[READING..].iter().for_each(|pass| (pass.apply)(&mut statement));
    statement
}

/// The parameters that stand for arrays, whose values take their places when they are known: `x = ANY ($1)`.
pub fn any_of_values(statement: &mut Statement) -> BTreeSet<String> {
    arrays::any_of_values(statement)
}

static LIBRARY: LazyLock<Vec<Box<dyn SqlStatementRewriteRule>>> = LazyLock::new(|| {
    vec![
        Box::new(RewriteArrayAnyAllOperation),
        Box::new(StripCallableQualifier),
        Box::new(CurrentUserVariableToSessionUserFunctionCall),
        Box::new(StripCollate),
        Box::new(RewritePgCatalogOperator),
        Box::new(FixVersionColumnName),
    ]
});

/// Those of the catalogue's library.
fn catalogue_forms(statement: &mut Statement) {
    let rewritten = LIBRARY.iter().fold(statement.clone(), |statement, rule| rule.rewrite(statement));
    *statement = rewritten;
}

fn parsed(expr: &str) -> Option<Expr> {
    Parser::new(&Grammar).try_with_sql(expr).ok()?.parse_expr().ok()
}

#[cfg(test)]
mod tests;
