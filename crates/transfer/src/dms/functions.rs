//! SQLite's functions, each with the PostgreSQL expression of the same value. Other functions are refused.

use sqlparser::ast::{Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, UnaryOperator, Value};

use super::coercion::unify;
use super::data_type::{Family, Sql, cast, in_utc};
use super::expression::Compiler;
use super::problem::RuleError;
use super::quoting::literal;

const SUPPORTED: &str = "abs, coalesce, date, datetime, hex, ifnull, iif, instr, julianday, \
     length, lower, ltrim, max, min, nullif, replace, round, rtrim, strftime, substr, substring, \
     time, trim, upper";

impl Compiler<'_> {
    /// The SQL of a function call. Calls with a window, a filter or a DISTINCT are refused.
    pub(super) fn function(self, function: &Function) -> Result<Sql, RuleError> {
        let name = function.name.to_string().to_lowercase();
        let plain = function.parameters == FunctionArguments::None
            && function.filter.is_none()
            && function.over.is_none()
            && function.null_treatment.is_none()
            && function.within_group.is_empty()
            && !function.uses_odbc_syntax;
        let args = match &function.args {
            FunctionArguments::None => {
                return current(&name).ok_or_else(|| unsupported(&name));
            }
            FunctionArguments::List(list) if plain && list.clauses.is_empty() && list.duplicate_treatment.is_none() => {
                let args: Option<Vec<&Expr>> = list.args.iter().map(argument).collect();
                args.ok_or_else(|| unsupported(&name))?
            }
            _ => return Err(unsupported(&name)),
        };
        self.call(&name, &args)
    }

    /// The SQL of a function by its name in lower case.
    pub(super) fn call(self, name: &str, args: &[&Expr]) -> Result<Sql, RuleError> {
        let (text, int) = (Family::Text, Family::Int4);
        match (name, args) {
            ("abs", [x]) => {
                let x = self.number(x)?;
                Ok(Sql::new(format!("abs({})", x.text), x.family))
            }
            ("coalesce", [_, _, ..]) | ("ifnull", [_, _]) => self.any_of("COALESCE", args),
            ("nullif", [_, _]) => self.any_of("NULLIF", args),
            ("iif" | "if", [condition, rest @ ..]) if matches!(rest.len(), 1 | 2) => {
                let condition = self.condition(condition)?;
                let values = rest.iter().map(|e| self.value(e)).collect::<Result<_, _>>()?;
                let (values, family) = unify(values)?;
                let otherwise = values.get(1).map_or("NULL", |v| &v.text);
                let then = &values[0].text;
                let sql = format!("CASE WHEN {condition} THEN {then} ELSE {otherwise} END");
                Ok(Sql::new(sql, family))
            }
            // In the collation "C" only ASCII letters have a case, as in SQLite.
            ("lower" | "upper", [x]) => Ok(Sql::new(format!("{name}({} COLLATE \"C\")", self.text(x)?), text)),
            ("length", [x]) => Ok(match self.value(x)? {
                Sql { text, family: Family::Bytes } => Sql::new(format!("length({text})"), int),
                sql => Sql::new(format!("length({})", sql.into_text()?.text), int),
            }),
            ("substr" | "substring", [x, from]) => self.substr(x, from, None),
            ("substr" | "substring", [x, from, length]) => self.substr(x, from, Some(length)),
            ("trim" | "ltrim" | "rtrim", [_] | [_, _]) => {
                let name = if name == "trim" { "btrim" } else { name };
                self.texts(name, args)
            }
            ("replace", [_, _, _]) => self.texts("replace", args),
            ("instr", [_, _]) => Ok(Sql::new(self.texts("strpos", args)?.text, int)),
            ("round", [x]) => self.round(x, "0"),
            ("round", [x, digits]) => match whole_literal(digits) {
                Some(digits @ 0..=30) => self.round(x, &digits.to_string()),
                _ => Err(RuleError::new("the digits of round() must be a number from 0 to 30")),
            },
            ("min" | "max", [_, _, ..]) => self.extreme(name, args),
            ("hex", [x]) => Ok(Sql::new(self.hex(x)?, text)),
            ("date", [x]) => self.format(x, "YYYY-MM-DD"),
            ("time", [x]) => self.format(x, "HH24:MI:SS"),
            ("datetime", [x]) => self.format(x, "YYYY-MM-DD HH24:MI:SS"),
            ("date" | "time" | "datetime", []) => {
                current(&format!("current_{}", name.replace("datetime", "timestamp"))).ok_or_else(|| unsupported(name))
            }
            ("strftime", [format, x]) => self.format(x, &to_char_format(format)?),
            ("julianday", [x]) => {
                let seconds = format!("EXTRACT(EPOCH FROM {})", self.instant(x)?);
                let days = format!("({seconds} / 86400.0 + 2440587.5)");
                Ok(Sql::new(cast(&days, "double precision"), Family::Float))
            }
            _ => Err(self.refusal(name, args.len())),
        }
    }

    fn refusal(self, name: &str, count: usize) -> RuleError {
        let known = SUPPORTED.split(", ").any(|known| known == name);
        match name {
            "operation_indicator" => {
                RuleError::new("operation_indicator() is for changes, which are not supported yet")
            }
            "random" | "randomblob" => RuleError::new(format!(
                "{name}() makes other values in every run, so that copies could not be compared"
            )),
            "date" | "time" | "datetime" | "strftime" | "julianday" => {
                RuleError::new(format!("{name}() with modifiers is not supported"))
                    .hint(format!("call {name}() with a column or 'now' alone"))
            }
            _ if known => RuleError::new(format!("{name}() with {count} arguments is not supported")),
            _ => unsupported(name),
        }
    }

    fn texts(self, function: &str, args: &[&Expr]) -> Result<Sql, RuleError> {
        let args = args.iter().map(|e| self.text(e)).collect::<Result<Vec<_>, _>>()?;
        Ok(Sql::new(format!("{function}({})", args.join(", ")), Family::Text))
    }

    fn any_of(self, function: &str, args: &[&Expr]) -> Result<Sql, RuleError> {
        let values = args.iter().map(|e| self.value(e)).collect::<Result<_, _>>()?;
        let (values, family) = unify(values)?;
        let list: Vec<_> = values.iter().map(|v| v.text.as_str()).collect();
        Ok(Sql::new(format!("{function}({})", list.join(", ")), family))
    }

    /// `substr`: a negative start counts from the end of the text in SQLite, and not in PostgreSQL.
    pub(super) fn substr(self, x: &Expr, from: &Expr, length: Option<&Expr>) -> Result<Sql, RuleError> {
        let text = self.text(x)?;
        let start = match whole_literal(from) {
            Some(n) if n >= 0 => n.to_string(),
            Some(n) => format!("length({text}) - {} + 1", n.unsigned_abs()),
            None => {
                let n = cast(&self.number(from)?.text, "integer");
                format!("CASE WHEN {n} < 0 THEN length({text}) + {n} + 1 ELSE {n} END")
            }
        };
        let count = match length.map(|l| (l, whole_literal(l))) {
            None => String::new(),
            Some((_, Some(n))) if n >= 0 => format!(", {n}"),
            Some((_, Some(_))) => return Err(RuleError::new("the length of substr() must not be negative")),
            Some((length, None)) => format!(", {}", cast(&self.number(length)?.text, "integer")),
        };
        Ok(Sql::new(format!("substr({text}, {start}{count})"), Family::Text))
    }

    fn round(self, x: &Expr, digits: &str) -> Result<Sql, RuleError> {
        let x = self.number(x)?;
        let rounded = |sql: &str| format!("round({sql}, {digits})");
        Ok(match x.family {
            Family::Float => {
                let sql = rounded(&cast(&x.text, "numeric"));
                Sql::new(cast(&sql, "double precision"), Family::Float)
            }
            _ => Sql::new(rounded(&x.text), Family::Decimal),
        })
    }

    /// `min` and `max`, which are NULL in SQLite as soon as one value is; LEAST and GREATEST ignore NULLs.
    fn extreme(self, name: &str, args: &[&Expr]) -> Result<Sql, RuleError> {
        let values = args.iter().map(|e| self.value(e)).collect::<Result<_, _>>()?;
        let (values, family) = unify(values)?;
        let function = if name == "min" { "LEAST" } else { "GREATEST" };
        let nulls: Vec<_> = values.iter().map(|v| format!("{} IS NULL", v.text)).collect();
        let bytewise = if family == Family::Text { " COLLATE \"C\"" } else { "" };
        let list: Vec<_> = values.iter().map(|v| format!("{}{bytewise}", v.text)).collect();
        let (nulls, list) = (nulls.join(" OR "), list.join(", "));
        Ok(Sql::new(format!("CASE WHEN {nulls} THEN NULL ELSE {function}({list}) END"), family))
    }

    fn hex(self, x: &Expr) -> Result<String, RuleError> {
        let x = self.value(x)?;
        let bytes = match x.family {
            Family::Bytes => x.text,
            _ => format!("convert_to({}, 'UTF8')", x.into_text()?.text),
        };
        // In SQLite, hex(NULL) is the empty text.
        Ok(format!("COALESCE(upper(encode({bytes}, 'hex')), '')"))
    }

    fn format(self, x: &Expr, format: &str) -> Result<Sql, RuleError> {
        let instant = self.instant(x)?;
        Ok(Sql::new(format!("to_char({instant}, {})", literal(format)), Family::Text))
    }

    /// A timestamp in UTC, as SQLite reads it from a column or a text.
    fn instant(self, x: &Expr) -> Result<String, RuleError> {
        let value = self.value(x)?;
        let is_now = value.text.eq_ignore_ascii_case("'now'");
        match value.family {
            Family::Literal if is_now => Ok(in_utc("CURRENT_TIMESTAMP")),
            Family::Timestamp => Ok(value.text),
            Family::TimestampTz => Ok(in_utc(&value.text)),
            Family::Date | Family::Text | Family::Literal | Family::Null => Ok(cast(&value.text, "timestamp")),
            // SQLite reads a time as one of 2000-01-01.
            Family::Time => Ok(format!("(DATE '2000-01-01' + {})", value.text)),
            family => Err(RuleError::new(format!("\"{x}\" is {}, not a date", family.description()))),
        }
    }
}

fn unsupported(name: &str) -> RuleError {
    RuleError::new(format!("the function {name}() is not supported")).hint(format!("supported are {SUPPORTED}"))
}

fn argument(arg: &FunctionArg) -> Option<&Expr> {
    match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    }
}

/// The current date or time: the start of the transaction that reads, the same for all rows.
fn current(name: &str) -> Option<Sql> {
    let format = match name {
        "current_date" => "YYYY-MM-DD",
        "current_time" => "HH24:MI:SS",
        "current_timestamp" => "YYYY-MM-DD HH24:MI:SS",
        _ => return None,
    };
    let now = in_utc("CURRENT_TIMESTAMP");
    Some(Sql::new(format!("to_char({now}, '{format}')"), Family::Text))
}

fn whole_literal(expr: &Expr) -> Option<i32> {
    match expr {
        Expr::Nested(inner) => whole_literal(inner),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => whole_literal(expr).map(|n| -n),
        Expr::Value(value) => match &value.value {
            Value::Number(digits, false) => digits.parse().ok(),
            _ => None,
        },
        _ => None,
    }
}

/// The format of strftime as a format of to_char; text between the fields is quoted.
fn to_char_format(format: &Expr) -> Result<String, RuleError> {
    const LETTERS: &str = "%Y %m %d %H %M %S %f %j %F %T %R %%";
    let Expr::Value(value) = format else {
        return Err(RuleError::new("the format of strftime() must be a text"));
    };
    let Value::SingleQuotedString(format) = &value.value else {
        return Err(RuleError::new("the format of strftime() must be a text"));
    };
    let (mut out, mut plain) = (String::new(), String::new());
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        let code = match (c, if c == '%' { chars.next() } else { None }) {
            ('%', Some('Y')) => "YYYY",
            ('%', Some('m')) => "MM",
            ('%', Some('d')) => "DD",
            ('%', Some('H')) => "HH24",
            ('%', Some('M')) => "MI",
            ('%', Some('S')) => "SS",
            ('%', Some('f')) => "SS.MS",
            ('%', Some('j')) => "DDD",
            ('%', Some('F')) => "YYYY-MM-DD",
            ('%', Some('T')) => "HH24:MI:SS",
            ('%', Some('R')) => "HH24:MI",
            ('%', Some('%')) => {
                plain.push('%');
                continue;
            }
            ('%', other) => {
                let letter = other.map(String::from).unwrap_or_default();
                let fault = RuleError::new(format!("strftime() with %{letter} is not supported"));
                return Err(fault.hint(format!("supported are {LETTERS}")));
            }
            (c, _) => {
                plain.push(c);
                continue;
            }
        };
        out += &quoted(&std::mem::take(&mut plain));
        out += code;
    }
    Ok(out + &quoted(&plain))
}

fn quoted(plain: &str) -> String {
    if plain.chars().all(|c| matches!(c, '-' | ':' | ' ' | '/' | '.')) {
        return plain.to_owned();
    }
    format!("\"{}\"", plain.replace('\\', "\\\\").replace('"', "\\\""))
}
