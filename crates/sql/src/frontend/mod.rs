//! Rewrites a statement's syntax tree to the form that is planned, the same for `wattlake sql`, psql, marts and row
//! filters of roles.
//!
//! `statement::parse_any` works on the tokens: the limits of `complexity`, time travel, numbers with exponents, and
//! marks of ASOF joins. The [`PASSES`] work on the tree, in their order; `golden.txt` has statements after each pass
//! that changes them. What depends on types is done in `semantics`, on the plan.

mod array_text;
mod arrays;
mod calls;
mod casts;
mod conditions;
mod fragment;
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
use sqlparser::ast::Statement;

pub(crate) use joins::ONE_SIDE;

/// A rewrite of a statement's syntax tree, which keeps its meaning.
pub struct Pass {
    /// The name in `golden.txt`.
    pub name: &'static str,
    /// Rewrites a statement in place.
    pub apply: fn(&mut Statement),
}

/// All passes, in the order in which they run.
pub const PASSES: [Pass; 12] = [
    Pass { name: "asof_joins", apply: asof::bracket_joins },
    Pass { name: "at_time_zone", apply: at_zone::rewrite_at_time_zone },
    Pass { name: "arrays", apply: |statement| drop(rewrite_array_comparisons(statement)) },
    Pass { name: "column_names", apply: names::name_columns },
    Pass { name: "one_sides", apply: joins::mark_sides },
    Pass { name: "table_functions", apply: table_functions::rewrite },
    Pass { name: "sets", apply: sets::rewrite },
    Pass { name: "casts", apply: casts::rewrite },
    Pass { name: "conditions", apply: conditions::rewrite },
    Pass { name: "calls", apply: calls::rewrite },
    Pass { name: "whole_tables", apply: sets::qualify_wildcards },
    Pass { name: "catalogue_forms", apply: catalogue_forms },
];

/// How many of the passes, the first ones, run as a part of parsing. The others run once it is known what the statement
/// does.
pub(crate) const PASSES_AT_PARSE: usize = 2;

/// Runs the passes after those of parsing: the result is the statement as it is planned.
pub fn rewrite(mut statement: Statement) -> Statement {
    PASSES[PASSES_AT_PARSE..].iter().for_each(|pass| (pass.apply)(&mut statement));
    statement
}

/// Rewrites comparisons with arrays, `x = ANY (...)` and `x <> ALL (...)`. Returns the parameters that stand for
/// arrays, such as `$1` of `x = ANY ($1)`. That becomes `x = $1`, and must become a list once the value is known.
pub fn rewrite_array_comparisons(statement: &mut Statement) -> BTreeSet<String> {
    arrays::rewrite_array_comparisons(statement)
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

/// The rewrites of the library `datafusion_pg_catalog`.
fn catalogue_forms(statement: &mut Statement) {
    let rewritten = LIBRARY.iter().fold(statement.clone(), |statement, rule| rule.rewrite(statement));
    *statement = rewritten;
}

#[cfg(test)]
mod tests;
