//! Casts to types that DataFusion does not have, or has without a length.

use std::ops::ControlFlow;

use sqlparser::ast::{
    ArrayElemTypeDef, CastKind, CharacterLength, DataType, ExactNumberInfo, Expr, Interval, Statement, UnaryOperator,
    Value, ValueWithSpan, VisitMut, VisitorMut,
};

use sqlparser::tokenizer::Span;

use super::array_text::{Element, elements};
use super::fragment::parsed;
use crate::values::bytes_of_text;

/// The pass `casts`.
pub(super) fn rewrite(statement: &mut Statement) {
    let _ = statement.visit(&mut Casts);
}

struct Casts;

impl VisitorMut for Casts {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        // DataFusion would apply the sign to the first number alone.
        if let Expr::UnaryOp { op: UnaryOperator::Minus, expr: value } = expr
            && let Expr::Interval(_) = value.as_ref()
            && let Some(other) = parsed(&format!("({value} * -1)"))
        {
            *expr = other;
        }
        if let Expr::Interval(Interval { value, .. }) = expr
            && let Some(other) = plain_interval(value)
        {
            **value = other;
        }
        // `numeric '1.5'` is a cast of a literal.
        if let Expr::TypedString(typed) = expr
            && let Some(other) = cast(&Expr::Value(typed.value.clone()), &typed.data_type)
        {
            *expr = other;
        }
        if let Expr::Cast { expr: value, data_type, array: false, format: None, .. } = expr
            && let Some(other) = cast(value, data_type)
        {
            *expr = other;
        }
        ControlFlow::Continue(())
    }
}

fn cast(value: &Expr, data_type: &DataType) -> Option<Expr> {
    let text = || format!("CAST({value} AS VARCHAR)");
    match data_type {
        // A cast to a length truncates.
        DataType::Varchar(length) | DataType::CharacterVarying(length) | DataType::CharVarying(length) => {
            parsed(&format!("left({}, {})", text(), characters(length.as_ref()?)?))
        }
        // The spaces that pad a char(n) are insignificant, except in its output.
        DataType::Char(length) | DataType::Character(length) => {
            let length = length.as_ref().map_or(Some(1), characters)?;
            parsed(&format!("rtrim(left({}, {length}), ' ')", text()))
        }
        DataType::Numeric(ExactNumberInfo::None)
        | DataType::Decimal(ExactNumberInfo::None)
        | DataType::Dec(ExactNumberInfo::None) => numeric(value),
        DataType::Bytea => {
            let (text, span) = literal_text(value)?;
            let hex = bytes_of_text(text)?.iter().map(|byte| format!("{byte:02x}")).collect();
            Some(Expr::Value(ValueWithSpan { value: Value::HexStringLiteral(hex), span }))
        }
        // Uuids are stored as texts, in the form in which PostgreSQL shows them.
        DataType::Uuid => parsed(&format!("to_uuid({})", text())),
        DataType::Array(ArrayElemTypeDef::SquareBracket(element, _)) => {
            array_literal(literal_text(value)?.0, element.as_ref(), data_type)
        }
        DataType::Date => parsed(day_word(literal_text(value)?.0)?),
        // DataFusion's own timestamps have nanoseconds, and end in 2262.
        DataType::Timestamp(None, zone) => Some(Expr::Cast {
            kind: CastKind::Cast,
            expr: Box::new(literal_text(value).and_then(|(text, _)| time_word(text)).unwrap_or_else(|| value.clone())),
            data_type: DataType::Timestamp(Some(6), *zone),
            array: false,
            format: None,
        }),
        DataType::Interval { .. } => {
            let plain = plain_interval(value)?;
            parsed(&format!("CAST({plain} AS INTERVAL)"))
        }
        // JSON documents are stored as texts.
        DataType::JSON | DataType::JSONB => parsed(&text()),
        _ => None,
    }
}

/// The text of a string literal.
fn literal_text(value: &Expr) -> Option<(&str, Span)> {
    match value {
        Expr::Nested(inner) => literal_text(inner),
        Expr::Value(ValueWithSpan {
            value: Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text),
            span,
        }) => Some((text, *span)),
        _ => None,
    }
}

/// The date that PostgreSQL reads in a word, such as `today`.
fn day_word(text: &str) -> Option<&'static str> {
    Some(match text.trim().to_lowercase().as_str() {
        "now" | "today" => "current_date",
        "tomorrow" => "(current_date + 1)",
        "yesterday" => "(current_date - 1)",
        "epoch" => "CAST('1970-01-01' AS DATE)",
        _ => return None,
    })
}

/// The instant that PostgreSQL reads in a word; days begin in the session's time zone.
fn time_word(text: &str) -> Option<Expr> {
    match text.trim().to_lowercase().as_str() {
        "now" => parsed("now()"),
        "epoch" => parsed("'1970-01-01 00:00:00+00:00'"),
        word => parsed(day_word(word)?),
    }
}

/// An array constructor for the text of an array, `{1,2}` or `{{1,2},{3,4}}`.
fn array_literal(text: &str, element: &DataType, array: &DataType) -> Option<Expr> {
    fn constructor(elements: &[Element], element: &DataType) -> String {
        let value = |literal: String| match parsed(&literal).and_then(|value| cast(&value, element)) {
            Some(value) => value.to_string(),
            None => format!("CAST({literal} AS {element})"),
        };
        let texts = elements.iter().map(|one| match one {
            Element::Null => format!("CAST(NULL AS {element})"),
            Element::Text(text) => value(literal(text)),
            Element::Array(inner) => constructor(inner, element),
        });
        format!("ARRAY[{}]", texts.collect::<Vec<_>>().join(", "))
    }
    match elements(text) {
        None => parsed(&format!("malformed_array({})", literal(text))),
        Some(elements) if elements.is_empty() => parsed(&format!("CAST(ARRAY[] AS {array})")),
        Some(elements) => parsed(&constructor(&elements, element)),
    }
}

/// A text as an SQL literal.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The literal `1 mon 2 days 04:05:06` with units that Arrow parses; `None` where nothing has to change.
fn plain_interval(value: &Expr) -> Option<Expr> {
    let Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), span }) = value else { return None };
    let text = interval_words(text)?;
    Some(Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), span: *span }))
}

fn interval_words(text: &str) -> Option<String> {
    let mut words = Vec::new();
    let mut is_changed = false;
    for word in text.split_whitespace() {
        if word.contains(':') {
            let (sign, clock) = word.strip_prefix('-').map_or(("", word.trim_start_matches('+')), |rest| ("-", rest));
            for (part, unit) in clock.split(':').zip(["hours", "minutes", "seconds"]) {
                part.parse::<f64>().ok()?;
                words.push(format!("{sign}{part} {unit}"));
            }
            is_changed = true;
            continue;
        }
        let unit = match word.to_lowercase().as_str() {
            "mon" | "mons" => "months",
            "min" | "mins" => "minutes",
            "hr" | "hrs" => "hours",
            "sec" | "secs" => "seconds",
            _ => word,
        };
        is_changed |= unit != word;
        words.push(unit.to_owned());
    }
    is_changed.then(|| words.join(" "))
}

fn characters(length: &CharacterLength) -> Option<u64> {
    match length {
        CharacterLength::IntegerLength { length, .. } => Some(*length),
        CharacterLength::Max => None,
    }
}

/// A cast to numeric without precision, which keeps all digits of the value.
fn numeric(value: &Expr) -> Option<Expr> {
    match value {
        // The cast gives the parameter its type.
        Expr::Value(ValueWithSpan { value: Value::Placeholder(_), .. }) => None,
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) => {
            let digits = text.trim().trim_start_matches('-');
            let is_plain = digits.chars().all(|c| c.is_ascii_digit() || c == '.')
                && digits.chars().any(|c| c.is_ascii_digit())
                && digits.matches('.').count() <= 1;
            let literal = if digits.contains('.') { text.trim().to_owned() } else { format!("{}.", text.trim()) };
            is_plain.then(|| parsed(&format!("to_numeric({literal})")))?
        }
        Expr::Nested(inner) => numeric(inner),
        value => parsed(&format!("to_numeric({value})")),
    }
}
