//! Recognizes statements that read the catalogue, and rewrites them so that the engine can plan them.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion_pg_catalog::pg_catalog::PG_CATALOG_TABLES;
use sqlparser::ast::{
    DataType, Expr, FunctionArguments, Ident, ObjectName, ObjectNamePart, Query, SelectItem, SetExpr, Statement,
    TableFactor, Value, VisitMut, VisitorMut, visit_expressions, visit_relations,
};

use super::expressions::parse_expr;
use super::object_names;
use super::pg::PG_CATALOG;
use super::{empty_relations, empty_tables};
use sql::schemas::INFORMATION_SCHEMA;

/// Tables of `pg_catalog` that the library does not have.
const OWN_TABLES: [&str; 4] = ["pg_user", "pg_shadow", "pg_stat_activity", "pg_show_all_settings"];

fn is_known(name: &str) -> bool {
    let name = name.to_lowercase();
    let name = name.as_str();
    PG_CATALOG_TABLES.contains(&name)
        || OWN_TABLES.contains(&name)
        || empty_tables::PG.iter().any(|(known, _)| *known == name)
}

fn part(part: &ObjectNamePart) -> &str {
    part.as_ident().map_or("", |ident| ident.value.as_str())
}

/// Whether a statement reads a table of the catalogue, or casts to a type that names its entries, such as `regclass`.
pub(crate) fn reads_catalogue(statement: &Statement) -> bool {
    // `'now'::regproc` refers to the catalogue without naming a table.
    let named = visit_expressions(statement, |expr| match expr {
        Expr::Cast { data_type, .. } if is_name_type(data_type) => ControlFlow::Break(()),
        Expr::Function(_) if object_names::lookup(expr).is_some() => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    if named.is_break() {
        return true;
    }
    let found = visit_relations(statement, |name: &ObjectName| {
        let is_catalogue = match &name.0[..] {
            [table] => is_known(part(table)),
            [.., schema, _] => {
                let schema = part(schema);
                schema.eq_ignore_ascii_case(PG_CATALOG) || schema.eq_ignore_ascii_case(INFORMATION_SCHEMA)
            }
            [] => false,
        };
        if is_catalogue { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    found.is_break()
}

fn is_name_type(data_type: &DataType) -> bool {
    let name = data_type.to_string().to_lowercase();
    ["regproc", "regprocedure", "regclass", "regtype", "regnamespace"].iter().any(|known| name.ends_with(known))
}

/// The parameters that are cast by `$1::oid` or `$1::oid[]`.
pub(crate) fn parameters_cast_to_oid(statement: &Statement) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let _ = visit_expressions(statement, |expr| {
        if let Expr::Cast { expr: inner, data_type, .. } = expr
            && data_type.to_string().to_lowercase().trim_end_matches("[]").ends_with("oid")
            && let Expr::Value(value) = inner.as_ref()
            && let Value::Placeholder(id) = &value.value
        {
            found.insert(id.clone());
        }
        ControlFlow::<()>::Continue(())
    });
    found
}

/// Rewrites a statement that reads the catalogue. Unqualified names are looked up in `pg_catalog` first, whatever the
/// search path, and expressions that the engine cannot plan are replaced.
pub(crate) fn rewrite(mut statement: Statement) -> Statement {
    super::type_functions::rewrite(&mut statement);
    struct Qualify;
    impl VisitorMut for Qualify {
        type Break = ();

        fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
            if let TableFactor::Table { name, args, .. } = factor
                && args.is_some()
                && name.0.last().is_some_and(|name| part(name).eq_ignore_ascii_case("pg_show_all_settings"))
            {
                *name = ObjectName::from(vec![Ident::new(PG_CATALOG), Ident::new("pg_settings")]);
                *args = None;
            }
            ControlFlow::Continue(())
        }

        fn pre_visit_relation(&mut self, name: &mut ObjectName) -> ControlFlow<()> {
            if let [only] = &name.0[..]
                && is_known(part(only))
            {
                let table = Ident::new(part(only).to_lowercase());
                name.0 = vec![ObjectNamePart::Identifier(Ident::new(PG_CATALOG)), ObjectNamePart::Identifier(table)];
            }
            ControlFlow::Continue(())
        }

        /// Before the parts of an expression are visited, since an expression that is replaced needs no more rewriting.
        fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            if let Some(other) = empty_relations::constant_value(expr).or_else(|| empty_array(expr)) {
                *expr = other;
            }
            ControlFlow::Continue(())
        }

        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            if let Some(other) = aggregate_of_array(expr).or_else(|| subscript_range(expr)) {
                *expr = other;
            }
            aggregate_scalar_subquery(expr);
            ControlFlow::Continue(())
        }
    }
    let _ = statement.visit(&mut Qualify);
    statement
}

/// Rewrites `ARRAY(SELECT x ...)` as `(SELECT array_agg(x) ...)`. Without rows this is NULL and not an empty array,
/// which makes no difference to clients that read the catalogue.
fn aggregate_of_array(expr: &Expr) -> Option<Expr> {
    let mut query = array_query(expr)?.clone();
    let order = query.order_by.take();
    let SetExpr::Select(select) = query.body.as_mut() else { return None };
    let [SelectItem::UnnamedExpr(value) | SelectItem::ExprWithAlias { expr: value, .. }] = &select.projection[..]
    else {
        return None;
    };
    let sorted = if order.is_some() { format!(" ORDER BY {value}") } else { String::new() };
    let written = format!("array_agg({value}{sorted})");
    let aggregate = parse_expr(&written)?;
    select.projection = vec![SelectItem::UnnamedExpr(aggregate)];
    Some(Expr::Subquery(Box::new(query)))
}

fn array_query(expr: &Expr) -> Option<&Query> {
    let Expr::Function(function) = expr else { return None };
    let FunctionArguments::Subquery(query) = &function.args else { return None };
    part(function.name.0.last()?).eq_ignore_ascii_case("array").then_some(query)
}

/// The value of an array query that has no rows here: over an empty table, a column of options, or the roles that a
/// role is a member of.
fn empty_array(expr: &Expr) -> Option<Expr> {
    let is_none = |query: &Query| {
        let unnests = match query.body.as_ref() {
            SetExpr::Select(select) => select.from.iter().any(|from| match &from.relation {
                TableFactor::Table { name, args: Some(_), .. } => {
                    name.0.last().is_some_and(|name| part(name).eq_ignore_ascii_case("unnest"))
                }
                TableFactor::UNNEST { .. } => true,
                _ => false,
            }),
            _ => false,
        };
        unnests || query.with.is_some() || empty_relations::has_no_rows(query)
    };
    match expr {
        Expr::AnyOp { right, .. } => {
            array_query(right).filter(|query| is_none(query)).and_then(|_| parse_expr("false"))
        }
        _ => array_query(expr).filter(|query| is_none(query)).and_then(|_| parse_expr("NULL::text[]")),
    }
}

/// Rewrites `generate_subscripts(a, 1)` as the numbers from 1 to the array's length.
fn subscript_range(expr: &Expr) -> Option<Expr> {
    let Expr::Function(function) = expr else { return None };
    let FunctionArguments::List(list) = &function.args else { return None };
    if !part(function.name.0.last()?).eq_ignore_ascii_case("generate_subscripts") {
        return None;
    }
    let array = list.args.first()?;
    parse_expr(&format!("unnest(range(1, CAST(coalesce(array_length({array}), 0) AS bigint) + 1))"))
}

/// Wraps the value of a correlated scalar subquery in `max`, since the engine requires an aggregate there.
fn aggregate_scalar_subquery(expr: &mut Expr) {
    let Expr::Subquery(query) = expr else { return };
    if query.order_by.is_some() || query.with.is_some() {
        return;
    }
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    let [SelectItem::UnnamedExpr(value) | SelectItem::ExprWithAlias { expr: value, .. }] = &select.projection[..]
    else {
        return;
    };
    let refers = select.selection.is_some() && !select.from.is_empty();
    let aggregated = matches!(value, Expr::Function(function) if function.name.0.last()
        .is_some_and(|name| empty_relations::AGGREGATES.contains(&part(name).to_lowercase().as_str())));
    if !refers || aggregated {
        return;
    }
    if let Some(aggregate) = parse_expr(&format!("max({value})")) {
        select.projection = vec![SelectItem::UnnamedExpr(aggregate)];
        query.limit_clause = None;
    }
}

/// The unqualified name in `'pg_catalog.array_in'::regproc`, escaped for a literal.
fn procedure_name(expr: &Expr) -> Option<String> {
    let Expr::Cast { expr: inner, data_type, .. } = expr else { return None };
    let Expr::Value(value) = inner.as_ref() else { return None };
    let Value::SingleQuotedString(name) = &value.value else { return None };
    let is_it = data_type.to_string().to_lowercase().ends_with("regproc");
    is_it.then(|| name.rsplit('.').next().unwrap_or_default().replace('\'', "''"))
}

/// Rewrites casts such as `'pg_catalog.array_in'::regproc` to names or numbers, and returns whether there were any.
/// Here `regproc` columns contain names.
pub(crate) fn rewrite_procedure_names(statement: &mut Statement) -> bool {
    struct Names(bool);
    impl VisitorMut for Names {
        type Break = ();

        fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            if let Some(found) = object_names::lookup(expr) {
                *expr = found;
                self.0 = true;
                return ControlFlow::Continue(());
            }
            let Expr::Cast { expr: inner, data_type, .. } = expr else { return ControlFlow::Continue(()) };
            let to = data_type.to_string().to_lowercase();
            if let Expr::Cast { expr: name, data_type: of, .. } = inner.as_ref()
                && of.to_string().eq_ignore_ascii_case("regtype")
                && matches!(to.as_str(), "text" | "varchar")
                && let Some(shown) = parse_expr(&format!("format_type({name}::regtype::oid, NULL)"))
            {
                *expr = shown;
                self.0 = true;
                return ControlFlow::Continue(());
            }
            let other = if to.ends_with("oid") {
                procedure_name(inner).and_then(|name| {
                    parse_expr(&format!("(SELECT max(oid) FROM pg_catalog.pg_proc WHERE proname = '{name}')"))
                })
            } else if to.ends_with("regclass") && matches!(inner.as_ref(), Expr::Function(_)) {
                parse_expr(&format!("to_regclass({inner})"))
            } else {
                procedure_name(expr).and_then(|name| parse_expr(&format!("'{name}'")))
            };
            if let Some(other) = other {
                *expr = other;
                self.0 = true;
            }
            ControlFlow::Continue(())
        }
    }
    let mut names = Names(false);
    let _ = statement.visit(&mut names);
    names.0
}
