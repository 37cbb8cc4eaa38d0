//! The names of a result's columns, which are PostgreSQL's (`count`, not `count(*)`): clients find columns by them.
//! DataFusion needs unique names, so a repeated name gets a suffix that is removed in the output.

use std::collections::HashSet;

use sqlparser::ast::{
    ArrayElemTypeDef, DataType, Expr, Ident, Query, Select, SelectItem, SetExpr, Statement, TableFactor, TimezoneInfo,
    Value,
};

/// What separates a name from its suffix.
const MARK: char = '\u{1}';

/// The name of a column whose expression has none.
pub const UNNAMED: &str = "?column?";

/// A column's name as clients get it: without the suffix that made it unique.
pub fn displayed(name: &str) -> &str {
    name.split_once(MARK).map_or(name, |(shown, _)| shown)
}

/// A name with the suffix `number`, which must differ for each column of that name.
pub fn made_unique(name: &str, number: usize) -> String {
    format!("{name}{MARK}{number}")
}

/// The pass `column_names`: gives the columns of a query's result PostgreSQL's names.
pub fn name_columns(statement: &mut Statement) {
    if let Statement::Query(query) = statement {
        of_query(query);
    }
}

/// Names the columns of WITH queries and of subqueries in FROM too, since the query refers to them by these names.
fn of_query(query: &mut Query) {
    if let Some(with) = &mut query.with {
        with.cte_tables.iter_mut().for_each(|table| of_query(&mut table.query));
    }
    if let Some(select) = first_select(&mut query.body) {
        // The ORDER BY of a SELECT DISTINCT must find its expressions unchanged.
        if select.distinct.is_none() {
            name_select_columns(select);
        }
        for joined in &mut select.from {
            of_factor(&mut joined.relation);
            joined.joins.iter_mut().for_each(|join| of_factor(&mut join.relation));
        }
    }
}

fn of_factor(factor: &mut TableFactor) {
    match factor {
        TableFactor::Derived { subquery, .. } => of_query(subquery),
        TableFactor::NestedJoin { table_with_joins, .. } => {
            of_factor(&mut table_with_joins.relation);
            table_with_joins.joins.iter_mut().for_each(|join| of_factor(&mut join.relation));
        }
        _ => {}
    }
}

/// The SELECT that names the columns: of a UNION, the first one.
fn first_select(body: &mut SetExpr) -> Option<&mut Select> {
    match body {
        SetExpr::Select(select) => Some(select),
        SetExpr::Query(query) => first_select(&mut query.body),
        SetExpr::SetOperation { left, .. } => first_select(left),
        _ => None,
    }
}

fn name_select_columns(select: &mut Select) {
    let mut taken: HashSet<String> = HashSet::new();
    for item in &mut select.projection {
        let (expr, name) = match item {
            SelectItem::UnnamedExpr(expr) => {
                let name = name_of(expr);
                (expr.clone(), name)
            }
            SelectItem::ExprWithAlias { expr, alias } => (expr.clone(), alias.value.clone()),
            _ => continue,
        };
        let is_new = taken.insert(name.clone());
        let has_name = match item {
            SelectItem::UnnamedExpr(expr) => matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_)),
            _ => true,
        };
        if is_new && has_name {
            continue;
        }
        let alias = if is_new { name } else { made_unique(&name, taken.len()) };
        taken.insert(alias.clone());
        *item = SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', alias) };
    }
}

/// The name that PostgreSQL gives a column of this expression, [`UNNAMED`] where it has none.
pub fn name_of(expr: &Expr) -> String {
    let known = match expr {
        Expr::Identifier(name) => return folded(name),
        Expr::CompoundIdentifier(names) => return names.last().map_or_else(String::new, folded),
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => return name_of(inner),
        Expr::Cast { expr: inner, data_type, .. } => {
            let inner = name_of(inner);
            return if inner == UNNAMED { type_name(data_type) } else { inner };
        }
        Expr::Function(function) => {
            return function.name.0.last().and_then(|part| part.as_ident()).map_or_else(String::new, folded);
        }
        Expr::Subquery(query) => return of_subquery(query),
        Expr::Case { .. } => "case",
        Expr::Exists { .. } => "exists",
        Expr::Extract { .. } => "extract",
        Expr::Substring { .. } => "substring",
        Expr::Trim { .. } => "btrim",
        Expr::Position { .. } => "position",
        Expr::Ceil { .. } => "ceil",
        Expr::Floor { .. } => "floor",
        Expr::Array(_) => "array",
        Expr::Interval(_) => "interval",
        Expr::AtTimeZone { .. } => "timezone",
        Expr::TypedString(typed) => return type_name(&typed.data_type),
        Expr::Value(value) => match value.value {
            Value::Boolean(_) => "bool",
            _ => UNNAMED,
        },
        _ => UNNAMED,
    };
    known.to_owned()
}

/// The name of a type in PostgreSQL's catalogue, without its length or precision; of an array, that of its elements.
fn type_name(data_type: &DataType) -> String {
    let name = match data_type {
        DataType::Int(_) | DataType::Integer(_) | DataType::Int4(_) => "int4",
        DataType::BigInt(_) | DataType::Int8(_) => "int8",
        DataType::SmallInt(_) | DataType::Int2(_) => "int2",
        DataType::Real | DataType::Float4 => "float4",
        DataType::Double(_) | DataType::DoublePrecision | DataType::Float8 | DataType::Float(_) => "float8",
        DataType::Numeric(_) | DataType::Decimal(_) | DataType::Dec(_) => "numeric",
        DataType::Varchar(_) | DataType::CharacterVarying(_) | DataType::CharVarying(_) => "varchar",
        DataType::Char(_) | DataType::Character(_) => "bpchar",
        DataType::Bool | DataType::Boolean => "bool",
        DataType::Timestamp(_, TimezoneInfo::Tz | TimezoneInfo::WithTimeZone) => "timestamptz",
        DataType::Timestamp(..) => "timestamp",
        DataType::Time(_, TimezoneInfo::Tz | TimezoneInfo::WithTimeZone) => "timetz",
        DataType::Time(..) => "time",
        DataType::Interval { .. } => "interval",
        DataType::Array(ArrayElemTypeDef::SquareBracket(element, _)) => return type_name(element),
        DataType::Custom(name, _) => {
            return name.0.last().and_then(|part| part.as_ident()).map_or_else(String::new, folded);
        }
        other => return other.to_string().to_lowercase(),
    };
    name.to_owned()
}

fn folded(name: &Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() }
}

fn of_subquery(query: &Query) -> String {
    let SetExpr::Select(select) = query.body.as_ref() else { return UNNAMED.to_owned() };
    match &select.projection[..] {
        [SelectItem::UnnamedExpr(expr)] => name_of(expr),
        [SelectItem::ExprWithAlias { alias, .. }] => alias.value.clone(),
        _ => UNNAMED.to_owned(),
    }
}
