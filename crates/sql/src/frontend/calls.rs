//! Calls of functions that DataFusion has under another name, or with other arguments.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, ObjectNamePart, Statement,
    VisitMut, VisitorMut,
};

use super::fragment::parsed;

/// PostgreSQL's names, and DataFusion's.
const NAMES: [(&str, &str); 8] = [
    ("array_remove", "array_remove_all"),
    ("array_replace", "array_replace_all"),
    ("every", "bool_and"),
    ("jsonb_array_length", "json_array_length"),
    ("jsonb_extract_path_text", "json_extract_path_text"),
    ("jsonb_extract_path", "json_extract_path"),
    ("jsonb_typeof", "json_typeof"),
    ("variance", "var_samp"),
];

const INTERVAL_PARTS: [&str; 7] = ["years", "months", "weeks", "days", "hours", "mins", "secs"];

/// The pass `calls`.
pub(super) fn rewrite(statement: &mut Statement) {
    let _ = statement.visit(&mut Calls);
}

struct Calls;

impl VisitorMut for Calls {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let other = match expr {
            Expr::Function(call) => {
                renamed(call);
                called(call)
            }
            _ => None,
        };
        if let Some(other) = other {
            *expr = other;
        }
        ControlFlow::Continue(())
    }
}

/// The name of a function, folded to lower case unless it is quoted, without its schema.
pub(super) fn name_of(call: &Function) -> Option<String> {
    let [.., ObjectNamePart::Identifier(name)] = &call.name.0[..] else { return None };
    Some(if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() })
}

fn renamed(call: &mut Function) {
    let name = name_of(call);
    if let Some((_, own)) = NAMES.iter().find(|(known, _)| Some(*known) == name.as_deref()) {
        call.name = ObjectName::from(vec![Ident::new(*own)]);
    }
}

/// The expression for a call, where DataFusion has no such function.
fn called(call: &Function) -> Option<Expr> {
    if call.args == FunctionArguments::None && name_of(call)? == "localtimestamp" {
        return parsed("CAST(now() AS TIMESTAMP)");
    }
    let FunctionArguments::List(list) = &call.args else { return None };
    let plain: Option<Vec<&Expr>> = list.args.iter().map(unnamed).collect();
    match (name_of(call)?.as_str(), plain.as_deref()) {
        ("mod", Some([left, right])) => parsed(&format!("(({left}) % ({right}))")),
        ("div", Some([left, right])) => {
            parsed(&format!("trunc((({left}) - (({left}) % ({right}))) / CAST(({right}) AS numeric))"))
        }
        ("num_nulls", Some(values)) => counted(values, "IS NULL"),
        ("num_nonnulls", Some(values)) => counted(values, "IS NOT NULL"),
        ("make_timestamp", Some([year, month, day, hours, minutes, seconds])) => parsed(&format!(
            "(make_date({year}, {month}, {day}) + make_interval(0, 0, 0, 0, {hours}, {minutes}, {seconds}))"
        )),
        // DataFusion's returns an integer, PostgreSQL's a double precision.
        ("date_part", Some([Expr::Value(field), value])) => {
            let field = field.value.clone().into_string()?;
            parsed(&format!("CAST(extract({field} FROM {value}) AS double precision)"))
        }
        // The length of an empty array is NULL.
        ("array_length", Some([array, dimension])) => {
            parsed(&format!("CAST(nullif(array_length(({array}), {dimension}), 0) AS integer)"))
        }
        ("age", Some([at])) => parsed(&format!("age(current_date, {at})")),
        ("json_agg" | "jsonb_agg", _) => {
            let mut inner = call.clone();
            inner.name = ObjectName::from(vec![Ident::new("array_agg")]);
            parsed(&format!("array_to_json({inner})"))
        }
        ("make_interval", None) => {
            let parts = INTERVAL_PARTS.map(|part| {
                let given = list.args.iter().find_map(|arg| match arg {
                    FunctionArg::Named { name, arg: FunctionArgExpr::Expr(value), .. }
                        if name.value.eq_ignore_ascii_case(part) =>
                    {
                        Some(value.to_string())
                    }
                    FunctionArg::ExprNamed { name, arg: FunctionArgExpr::Expr(value), .. }
                        if name.to_string().eq_ignore_ascii_case(part) =>
                    {
                        Some(value.to_string())
                    }
                    _ => None,
                });
                given.unwrap_or_else(|| "0".to_owned())
            });
            parsed(&format!("make_interval({})", parts.join(", ")))
        }
        _ => None,
    }
}

fn counted(values: &[&Expr], condition: &str) -> Option<Expr> {
    let counts: Vec<String> =
        values.iter().map(|value| format!("(CASE WHEN ({value}) {condition} THEN 1 ELSE 0 END)")).collect();
    parsed(&format!("({})", counts.join(" + ")))
}

fn unnamed(arg: &FunctionArg) -> Option<&Expr> {
    match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    }
}
