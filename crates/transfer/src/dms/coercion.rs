//! How values of different types meet: SQLite takes any with any, PostgreSQL asks for casts.

use super::Fault;
use super::data_type::{Family, Sql, cast, in_utc};

pub(super) fn truth(text: String) -> Sql {
    Sql::new(text, Family::Truth)
}

pub(super) fn number_of(value: Sql) -> Result<Sql, Fault> {
    let Sql { text, family } = value;
    Ok(match family {
        Family::Bool => Sql::new(cast(&text, "integer"), Family::Int4),
        Family::Text | Family::Literal | Family::Null => Sql::new(cast(&text, "numeric"), Family::Decimal),
        family if family.is_number() => Sql::new(text, family),
        family => {
            return Err(Fault::new(format!("calculates with {}", family.word()))
                .hint("CAST it to a number first, or use strftime() on a date"));
        }
    })
}

pub(super) fn compared(a: Sql, op: &str, b: Sql) -> Result<Sql, Fault> {
    let (a, b) = match comparison(&a, &b)? {
        Comparison::AsTheyAre => aligned(a, b),
        Comparison::AsTexts => (a.into_text()?, b.into_text()?),
    };
    // SQLite orders texts by their bytes, PostgreSQL by the database's collation.
    let ordered = matches!(op, "<" | "<=" | ">" | ">=");
    let texts = a.family.is_text() && b.family.is_text();
    let bytewise = if ordered && texts { " COLLATE \"C\"" } else { "" };
    Ok(truth(format!("({}{bytewise} {op} {})", a.text, b.text)))
}

/// Without what stands behind the point, as `%` and CAST take a number in SQLite.
pub(super) fn whole(number: Sql) -> Sql {
    match number.family {
        Family::Int4 | Family::Int8 => number,
        _ => Sql::new(cast(&format!("trunc({})", number.text), "bigint"), Family::Int8),
    }
}

pub(super) fn widest(a: Family, b: Family) -> Family {
    let order = [Family::Float, Family::Decimal, Family::Int8, Family::Int4];
    order.into_iter().find(|f| *f == a || *f == b).unwrap_or(Family::Other)
}

/// What two values are compared as.
enum Comparison {
    AsTheyAre,
    AsTexts,
}

/// How two values can be compared; a literal takes the type of the other side.
fn comparison(a: &Sql, b: &Sql) -> Result<Comparison, Fault> {
    use Family::*;
    let is_number = |f: Family| f.is_number() || f == Bool;
    match (a.family, b.family) {
        (Null, _) | (_, Null) => Ok(Comparison::AsTheyAre),
        (x, y) if x == y || (x.is_text() && y.is_text()) => Ok(Comparison::AsTheyAre),
        (x, y) if is_number(x) && is_number(y) => Ok(Comparison::AsTheyAre),
        (x, Literal) if x.is_number() => numeric_literal(b),
        (Literal, x) if x.is_number() => numeric_literal(a),
        (Other, Literal) | (Literal, Other) => Ok(Comparison::AsTexts),
        (_, Literal) | (Literal, _) => Ok(Comparison::AsTheyAre),
        (x, y) if x.is_temporal() && y.is_temporal() && (x == Time) == (y == Time) => Ok(Comparison::AsTheyAre),
        (Text, y) if y.is_temporal() || y == Other => Ok(Comparison::AsTexts),
        (x, Text) if x.is_temporal() || x == Other => Ok(Comparison::AsTexts),
        (x, y) => Err(Fault::new(format!("compares {} with {}", x.word(), y.word()))
            .hint("CAST one of them to the type of the other")),
    }
}

fn numeric_literal(literal: &Sql) -> Result<Comparison, Fault> {
    match literal.text.trim_matches('\'').trim().parse::<f64>() {
        Ok(_) => Ok(Comparison::AsTheyAre),
        Err(_) => Err(Fault::new(format!("compares a number with {}", literal.text))),
    }
}

/// Two values that can be compared, in types that PostgreSQL compares.
fn aligned(a: Sql, b: Sql) -> (Sql, Sql) {
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

/// Values of which one is taken, in one type: SQLite lets each row have its own.
pub(super) fn unified(values: Vec<Sql>) -> Result<(Vec<Sql>, Family), Fault> {
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
