//! Names of tables and types as OIDs: `'sites'::regclass`, `to_regtype('integer')`. A name without a schema is searched for
//! in `pg_catalog` first, then in `public`, then in all schemas.

use sqlparser::ast::{Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Value, ValueWithSpan};

use super::expressions::parse_expr;

/// Names of types in SQL, and their names in `pg_type`.
const TYPES: [(&str, &str); 20] = [
    ("integer", "int4"),
    ("int", "int4"),
    ("bigint", "int8"),
    ("smallint", "int2"),
    ("real", "float4"),
    ("double precision", "float8"),
    ("float", "float8"),
    ("decimal", "numeric"),
    ("boolean", "bool"),
    ("character varying", "varchar"),
    ("character", "bpchar"),
    ("char", "bpchar"),
    ("bit varying", "varbit"),
    ("timestamp without time zone", "timestamp"),
    ("timestamp with time zone", "timestamptz"),
    ("time without time zone", "time"),
    ("time with time zone", "timetz"),
    ("string", "text"),
    ("dec", "numeric"),
    ("serial", "int4"),
];

/// The lookup of a name by a cast to `regclass` or `regtype`, or by a call of `to_regclass` or `to_regtype`; `None` for
/// other expressions, and for names that are not written in the query.
pub(super) fn lookup(expr: &Expr) -> Option<Expr> {
    let (to, operand) = match expr {
        Expr::Cast { expr: operand, data_type, .. } => (data_type.to_string().to_lowercase(), operand.as_ref()),
        Expr::Function(call) => {
            let name = call.name.0.last()?.as_ident()?.value.to_lowercase();
            let FunctionArguments::List(list) = &call.args else { return None };
            let [FunctionArg::Unnamed(FunctionArgExpr::Expr(operand))] = &list.args[..] else { return None };
            (name.strip_prefix("to_")?.to_owned(), operand)
        }
        _ => return None,
    };
    let name = match operand {
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(name), .. }) => name,
        // Its value is not known here: only the name in the catalogue is found.
        Expr::Value(ValueWithSpan { value: Value::Placeholder(id), .. }) if matches!(expr, Expr::Function(_)) => {
            return match to.as_str() {
                "regtype" => oid_of_type(&format!("CAST({id} AS text)")),
                "regclass" => oid_of_class(&format!("CAST({id} AS text)"), None),
                _ => None,
            };
        }
        _ => return None,
    };
    if name.is_empty() || name.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    match to.rsplit('.').next()? {
        "regclass" => {
            let parts = parts(name)?;
            let literals: Vec<String> = parts.iter().map(|part| literal(part)).collect();
            match &literals[..] {
                [name] => oid_of_class(name, None),
                [schema, name] => oid_of_class(name, Some(schema)),
                _ => None,
            }
        }
        "regtype" => match type_name(name)? {
            Some(name) => oid_of_type(&literal(&name)),
            None => parse_expr("CAST(NULL AS int)"),
        },
        _ => None,
    }
}

fn oid_of_class(name: &str, schema: Option<&str>) -> Option<Expr> {
    let in_schema = schema.map(|schema| format!(" AND n.nspname = {schema}")).unwrap_or_default();
    parse_expr(&format!(
        "(SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON c.relnamespace = n.oid \
         WHERE c.relname = {name}{in_schema} \
         ORDER BY n.nspname = 'pg_catalog' DESC, n.nspname = 'public' DESC, c.oid LIMIT 1)"
    ))
}

fn oid_of_type(name: &str) -> Option<Expr> {
    parse_expr(&format!("(SELECT min(oid) FROM pg_catalog.pg_type WHERE typname = {name})"))
}

/// The name of a type in `pg_type`, without its length; an array's begins with `_`. `Some(None)` where its schema has no
/// types, `None` where it is no name.
fn type_name(written: &str) -> Option<Option<String>> {
    let plain = written.trim().to_lowercase();
    let (plain, is_array) = plain.strip_suffix("[]").map_or((plain.as_str(), false), |element| (element.trim(), true));
    let without_length = match (plain.find('('), plain.find(')')) {
        (Some(from), Some(to)) if from < to => format!("{}{}", plain[..from].trim_end(), &plain[to + 1..]),
        _ => plain.to_owned(),
    };
    let mut parts = parts(&without_length)?;
    let own = parts.pop()?;
    if parts.iter().any(|schema| schema != "pg_catalog") {
        return Some(None);
    }
    let name = TYPES.iter().find(|(sql, _)| *sql == own).map_or(own.as_str(), |(_, name)| name);
    Some(Some(if is_array { format!("_{name}") } else { name.to_owned() }))
}

/// The parts of a qualified name: in lower case, unless they are quoted. `None` where it is not a name.
fn parts(name: &str) -> Option<Vec<String>> {
    let (mut parts, mut rest) = (Vec::new(), name.trim());
    loop {
        let part;
        (part, rest) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let end = quoted.find('"')?;
                (quoted[..end].to_owned(), &quoted[end + 1..])
            }
            None => {
                let end = rest.find('.').unwrap_or(rest.len());
                (rest[..end].to_lowercase(), &rest[end..])
            }
        };
        if part.is_empty() {
            return None;
        }
        parts.push(part);
        match rest.strip_prefix('.') {
            Some(after) => rest = after,
            None => return rest.is_empty().then_some(parts),
        }
    }
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
