//! The columns of set-returning functions in FROM, `t.*` of tables with a schema, and FETCH FIRST.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, LimitClause, ObjectName, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, Statement,
    TableAliasColumnDef, TableFactor, VisitMut, VisitorMut,
};

use super::fragment::parsed;

/// The pass `sets`.
pub(super) fn rewrite(statement: &mut Statement) {
    let _ = statement.visit(&mut Sets);
}

struct Sets;

impl VisitorMut for Sets {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        first(query);
        ControlFlow::Continue(())
    }

    /// The alias of a function names its only column too: `generate_series(1, 3) AS n`.
    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, alias: Some(alias), args: Some(_), .. } = factor
            && let Some(function) = name.0.last().and_then(|name| name.as_ident())
            && function.value.eq_ignore_ascii_case("generate_series")
            && alias.columns.is_empty()
        {
            alias.columns = vec![TableAliasColumnDef { name: alias.name.clone(), data_type: None }];
        }
        if let Some(numbered) = with_ordinality(factor) {
            *factor = numbered;
        } else if let TableFactor::UNNEST { alias: Some(alias), .. } = factor
            && alias.columns.is_empty()
        {
            alias.columns = vec![TableAliasColumnDef { name: alias.name.clone(), data_type: None }];
        }
        ControlFlow::Continue(())
    }
}

/// `unnest(...) WITH ORDINALITY`: the elements, numbered.
fn with_ordinality(factor: &TableFactor) -> Option<TableFactor> {
    let TableFactor::UNNEST { alias, array_exprs, with_ordinality: true, .. } = factor else { return None };
    let [array] = &array_exprs[..] else { return None };
    let query =
        parsed(&format!("(SELECT value, row_number() OVER () AS ordinality FROM unnest({array}) AS elements(value))"))?;
    let Expr::Subquery(subquery) = query else { return None };
    Some(TableFactor::Derived { lateral: true, subquery, alias: alias.clone(), sample: None })
}

/// `FETCH FIRST 3 ROWS ONLY` becomes `LIMIT 3`.
fn first(query: &mut Query) {
    let Some(fetch) = query.fetch.as_ref().filter(|fetch| !fetch.with_ties && !fetch.percent) else { return };
    let rows = fetch.quantity.clone().or_else(|| parsed("1"));
    match &mut query.limit_clause {
        None => {
            query.limit_clause = Some(LimitClause::LimitOffset { limit: rows, offset: None, limit_by: Vec::new() });
        }
        Some(LimitClause::LimitOffset { limit: limit @ None, .. }) => *limit = rows,
        Some(_) => return,
    }
    query.fetch = None;
}

/// The pass `whole_tables`: `t.*` of a table that FROM names as `s.t` becomes `s.t.*`.
pub(super) fn qualify_wildcards(statement: &mut Statement) {
    let _ = statement.visit(&mut WholeTables);
}

struct WholeTables;

impl VisitorMut for WholeTables {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        let tables = select
            .from
            .iter()
            .flat_map(|joined| std::iter::once(&joined.relation).chain(joined.joins.iter().map(|join| &join.relation)));
        let named: Vec<ObjectName> = tables
            .filter_map(|table| match table {
                TableFactor::Table { name, alias: None, args: None, .. } if name.0.len() > 1 => Some(name.clone()),
                _ => None,
            })
            .collect();
        for item in &mut select.projection {
            if let SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(wild), _) = item
                && let [only] = &wild.0[..]
                && let Some(whole) = named.iter().find(|name| name.0.last() == Some(only))
            {
                *wild = whole.clone();
            }
        }
        ControlFlow::Continue(())
    }
}
