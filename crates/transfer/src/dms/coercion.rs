//! Casts for values of different types: SQLite accepts all combinations, PostgreSQL requires casts.

use super::data_type::{Family, Sql, cast, in_utc};
use super::problem::RuleError;

/// SQL that is a condition.
pub(super) fn condition_sql(text: String) -> Sql {
    Sql::new(text, Family::Condition)
}

/// The value as a number. Dates, times, bytes and conditions are refused.
pub(super) fn number_of(value: Sql) -> Result<Sql, RuleError> {
    let Sql { text, family } = value;
    Ok(match family {
        Family::Bool => Sql::new(cast(&text, "integer"), Family::Int4),
        Family::Text | Family::Literal | Family::Null => Sql::new(cast(&text, "numeric"), Family::Decimal),
        family if family.is_number() => Sql::new(text, family),
        family => {
            return Err(RuleError::new(format!("{} is used as a number", family.description()))
                .hint("CAST it to a number first, or use strftime() on a date"));
        }
    })
}

/// The comparison of two values by `op`, or an error where their types can't be compared.
pub(super) fn compare_values(a: Sql, op: &str, b: Sql) -> Result<Sql, RuleError> {
    let (a, b) = match comparison(&a, &b)? {
        Comparison::Values => align(a, b),
        Comparison::Texts => (a.into_text()?, b.into_text()?),
    };
    // SQLite orders texts by their bytes, PostgreSQL by the database's collation.
    let ordered = matches!(op, "<" | "<=" | ">" | ">=");
    let texts = a.family.is_text() && b.family.is_text();
    let bytewise = if ordered && texts { " COLLATE \"C\"" } else { "" };
    Ok(condition_sql(format!("({}{bytewise} {op} {})", a.text, b.text)))
}

/// The number without its fraction, as `%` and CAST use it in SQLite.
pub(super) fn truncate(number: Sql) -> Sql {
    match number.family {
        Family::Int4 | Family::Int8 => number,
        _ => Sql::new(cast(&format!("trunc({})", number.text), "bigint"), Family::Int8),
    }
}

/// The family of the result of arithmetic.
pub(super) fn widest(a: Family, b: Family) -> Family {
    let order = [Family::Float, Family::Decimal, Family::Int8, Family::Int4];
    order.into_iter().find(|f| *f == a || *f == b).unwrap_or(Family::Other)
}

/// How two values are compared.
enum Comparison {
    Values,
    Texts,
}

/// How two values can be compared; a literal gets the type of the other side.
fn comparison(a: &Sql, b: &Sql) -> Result<Comparison, RuleError> {
    use Family::*;
    let is_number = |f: Family| f.is_number() || f == Bool;
    match (a.family, b.family) {
        (Null, _) | (_, Null) => Ok(Comparison::Values),
        (x, y) if x == y || (x.is_text() && y.is_text()) => Ok(Comparison::Values),
        (x, y) if is_number(x) && is_number(y) => Ok(Comparison::Values),
        (x, Literal) if x.is_number() => numeric_literal(b),
        (Literal, x) if x.is_number() => numeric_literal(a),
        (Other, Literal) | (Literal, Other) => Ok(Comparison::Texts),
        (_, Literal) | (Literal, _) => Ok(Comparison::Values),
        (x, y) if x.is_temporal() && y.is_temporal() && (x == Time) == (y == Time) => Ok(Comparison::Values),
        (Text, y) if y.is_temporal() || y == Other => Ok(Comparison::Texts),
        (x, Text) if x.is_temporal() || x == Other => Ok(Comparison::Texts),
        (x, y) => Err(RuleError::new(format!("{} is compared with {}", x.description(), y.description()))
            .hint("CAST one of them to the type of the other")),
    }
}

fn numeric_literal(literal: &Sql) -> Result<Comparison, RuleError> {
    match literal.text.trim_matches('\'').trim().parse::<f64>() {
        Ok(_) => Ok(Comparison::Values),
        Err(_) => Err(RuleError::new(format!("a number is compared with {}", literal.text))),
    }
}

/// Two comparable values, with casts to types that PostgreSQL compares.
fn align(a: Sql, b: Sql) -> (Sql, Sql) {
    use Family::*;
    let number = |s: Sql| Sql::new(cast(&s.text, "integer"), Int4);
    let utc = |s: Sql| Sql::new(in_utc(&s.text), Timestamp);
    match (a.family, b.family) {
        (Bool, y) if y.is_number() => (number(a), b),
        (x, Bool) if x.is_number() => (a, number(b)),
        (TimestampTz, Date | Timestamp) => (utc(a), b),
        (Date | Timestamp, TimestampTz) => (a, utc(b)),
        _ => (a, b),
    }
}

/// Values of which one is the result, such as the arguments of `coalesce`, cast to one type: in SQLite each row may
/// have another type.
pub(super) fn unify(values: Vec<Sql>) -> Result<(Vec<Sql>, Family), RuleError> {
    use Family::*;
    let mut kinds: Vec<Family> = values.iter().map(|v| v.family).filter(|f| *f != Null).collect();
    kinds.dedup();
    let Some(first) = kinds.first().copied() else {
        return Ok((values, Null));
    };
    if kinds.iter().all(|f| *f == first) && first != Other {
        let family = if first == Literal { Text } else { first };
        return Ok((values, family));
    }
    if kinds.iter().all(|f| f.is_number() || *f == Bool) {
        let family = kinds.into_iter().filter(|f| *f != Bool).reduce(widest).unwrap_or(Int4);
        let numbers = values.into_iter().map(|v| if v.family == Bool { number_of(v) } else { Ok(v) });
        return Ok((numbers.collect::<Result<_, _>>()?, family));
    }
    let texts = values.into_iter().map(|v| if v.family == Null { Ok(v) } else { v.into_text() });
    Ok((texts.collect::<Result<_, _>>()?, Text))
}
