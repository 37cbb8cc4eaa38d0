//! Set-returning functions, by lists that DataFusion unnests: `FROM t, jsonb_array_elements(t.doc) AS e` becomes
//! `FROM t, LATERAL (SELECT unnest(json_elements(t.doc)) AS value) AS e`. In the SELECT list they become `unnest(...)`.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, Ident, Query, Select, SelectItem, SetExpr, Statement, TableAlias, TableAliasColumnDef, TableFactor, Value,
    ValueWithSpan, Visit, VisitMut, Visitor, VisitorMut,
};

use super::calls::name_of;
use super::fragment::parsed;

/// The name of the only column.
#[derive(Clone, Copy, PartialEq)]
enum ColumnName {
    /// That of the alias, or of the function.
    Alias,
    /// `value`, by the function's definition; the alias names it too.
    Value,
}

struct TableFunction {
    name: &'static str,
    /// The function that returns a list; empty for the list itself.
    list: &'static str,
    column: ColumnName,
}

const fn function(name: &'static str, list: &'static str, column: ColumnName) -> TableFunction {
    TableFunction { name, list, column }
}

const FUNCTIONS: [TableFunction; 10] = [
    function("generate_series", "generate_series", ColumnName::Alias),
    function("json_array_elements", "json_elements", ColumnName::Value),
    function("json_array_elements_text", "json_elements_text", ColumnName::Value),
    function("jsonb_array_elements", "json_elements", ColumnName::Value),
    function("jsonb_array_elements_text", "json_elements_text", ColumnName::Value),
    function("json_object_keys", "json_keys", ColumnName::Alias),
    function("jsonb_object_keys", "json_keys", ColumnName::Alias),
    function("regexp_split_to_table", "regexp_split_to_array", ColumnName::Alias),
    function("string_to_table", "string_to_array", ColumnName::Alias),
    // After LATERAL; without it the parser has a node for it.
    function("unnest", "", ColumnName::Alias),
];

/// Functions that give the key and the value of each member of an object, and the functions that extract the value.
const MEMBERS: [(&str, &str); 4] = [
    ("json_each", "json_extract_path"),
    ("json_each_text", "json_extract_path_text"),
    ("jsonb_each", "json_extract_path"),
    ("jsonb_each_text", "json_extract_path_text"),
];

/// The pass `table_functions`.
pub(super) fn rewrite(statement: &mut Statement) {
    let _ = statement.visit(&mut TableFunctions);
}

struct TableFunctions;

impl VisitorMut for TableFunctions {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let SetExpr::Select(select) = query.body.as_mut() else { return ControlFlow::Continue(()) };
        listed(select);
        let mut values = Vec::new();
        for from in &mut select.from {
            values.extend(lateral(&mut from.relation));
            from.joins.iter_mut().for_each(|join| values.extend(lateral(&mut join.relation)));
        }
        if !values.is_empty() {
            let _ = query.visit(&mut ValueNames { aliases: values });
        }
        ControlFlow::Continue(())
    }
}

/// Rewrites functions in the SELECT list.
fn listed(select: &mut Select) {
    for item in &mut select.projection {
        let (expr, alias) = match &*item {
            SelectItem::UnnamedExpr(expr) => (expr, None),
            SelectItem::ExprWithAlias { expr, alias } => (expr, Some(alias.clone())),
            _ => continue,
        };
        let Expr::Function(call) = expr else { continue };
        let Some(function) = name_of(call).and_then(|name| known(&name)).filter(|known| !known.list.is_empty()) else {
            continue;
        };
        let Some(expr) = parsed(&format!("unnest({}{})", function.list, call.args)) else { continue };
        *item = SelectItem::ExprWithAlias { expr, alias: alias.unwrap_or_else(|| Ident::new(function.name)) };
    }
}

fn known(name: &str) -> Option<&'static TableFunction> {
    FUNCTIONS.iter().find(|function| function.name == name)
}

/// Rewrites a function in FROM. Returns the alias that names the values too.
fn lateral(factor: &mut TableFactor) -> Option<Ident> {
    let (name, alias, args) = match &*factor {
        TableFactor::Table { name, alias, args: Some(args), with_ordinality: false, .. } => (name, alias, &args.args),
        TableFactor::Function { name, alias, args, with_ordinality: false, .. } => (name, alias, args),
        _ => return None,
    };
    let is_lateral = matches!(factor, TableFactor::Function { .. });
    let function = name.0.last()?.as_ident()?.value.to_lowercase();
    let args: Vec<String> = args.iter().map(ToString::to_string).collect();
    if let Some((_, member)) = MEMBERS.iter().find(|(known, _)| *known == function) {
        let document = args.first()?;
        let query = format!(
            "(SELECT key, {member}({document}, key) AS value \
             FROM (SELECT unnest(json_keys({document})) AS key) AS keys)"
        );
        let alias = alias.clone().unwrap_or_else(|| alias_of(&function));
        *factor = derived(&query, alias)?;
        return None;
    }
    let known = known(&function)?;
    // DataFusion's own `generate_series` streams its rows, where a list would be in memory.
    if function == "generate_series" && !is_lateral && !takes_columns(factor) {
        return None;
    }
    let mut alias = alias.clone().unwrap_or_else(|| alias_of(known.name));
    let is_value = known.column == ColumnName::Value && alias.columns.is_empty();
    if known.column == ColumnName::Alias && alias.columns.is_empty() {
        alias.columns = vec![TableAliasColumnDef { name: alias.name.clone(), data_type: None }];
    }
    let value = alias.name.clone();
    let args = args.join(", ");
    let list = if known.list.is_empty() { args } else { format!("{}({args})", known.list) };
    *factor = derived(&format!("(SELECT unnest({list}) AS value)"), alias)?;
    is_value.then_some(value)
}

fn alias_of(function: &str) -> TableAlias {
    TableAlias { explicit: true, name: Ident::new(function), columns: Vec::new(), at: None }
}

fn derived(query: &str, alias: TableAlias) -> Option<TableFactor> {
    let Expr::Subquery(subquery) = parsed(query)? else { return None };
    Some(TableFactor::Derived { lateral: true, subquery, alias: Some(alias), sample: None })
}

fn takes_columns(factor: &TableFactor) -> bool {
    struct Columns;
    impl Visitor for Columns {
        type Break = ();

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            match expr {
                Expr::Identifier(_) | Expr::CompoundIdentifier(_) => ControlFlow::Break(()),
                // Its value is known only once the query has been planned.
                Expr::Value(ValueWithSpan { value: Value::Placeholder(_), .. }) => ControlFlow::Break(()),
                // These have another type before the analysis, which arguments of table functions do not pass.
                Expr::Function(call) if matches!(name_of(call).as_deref(), Some("array_length" | "cardinality")) => {
                    ControlFlow::Break(())
                }
                _ => ControlFlow::Continue(()),
            }
        }
    }
    factor.visit(&mut Columns).is_break()
}

/// Rewrites the alias of such a function to its value: `e` to `e.value`.
struct ValueNames {
    aliases: Vec<Ident>,
}

impl ValueNames {
    fn value(&self, name: &Ident) -> Option<Expr> {
        let alias = self.aliases.iter().find(|alias| alias.value == name.value)?;
        Some(Expr::CompoundIdentifier(vec![alias.clone(), Ident::new("value")]))
    }
}

impl VisitorMut for ValueNames {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(Expr::Identifier(name)) = item
                && let Some(expr) = self.value(name)
            {
                *item = SelectItem::ExprWithAlias { expr, alias: name.clone() };
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Identifier(name) = expr
            && let Some(value) = self.value(name)
        {
            *expr = value;
        }
        ControlFlow::Continue(())
    }
}
