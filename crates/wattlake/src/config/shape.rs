//! A file held against its JSON schema: unknown keys, missing keys, wrong types, words and numbers out of bounds.
//! What is wrong is reported and taken out, so that the rest can still be read and checked for sense.
//! It knows the part of JSON Schema that [`super::raw`] gives rise to, and nothing of what the values mean.

use std::ops::Range;

use serde::de::DeserializeOwned;
use serde_json::Value as Schema;
use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::nearest::{advice, list, nearest};
use super::problem::Report;
use super::raw::{Which, json_schema};

/// The tree of a file; nothing where it isn't TOML.
pub fn tree<'a>(report: &mut Report<'a>) -> Option<Spanned<DeTable<'a>>> {
    let text = report.text();
    let (tree, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        report.add(error.span().unwrap_or(0..0), format!("not TOML: {}", error.message()), None);
    }
    report.is_empty().then_some(tree)
}

/// What of the tree has the right form.
pub fn read<T: DeserializeOwned>(which: Which, mut tree: Spanned<DeTable<'_>>, report: &mut Report<'_>) -> Option<T> {
    check_table(&json_schema(which), tree.get_mut(), 0..1, "the file", report);
    match T::deserialize(toml::de::Deserializer::from(tree)) {
        Ok(raw) => Some(raw),
        Err(error) => {
            // serde's own message would quote the value, which may be a secret.
            report.add(error.span().unwrap_or(0..0), "not of the form that the schema gives", None);
            None
        }
    }
}

fn check_table(schema: &Schema, table: &mut DeTable<'_>, span: Range<usize>, name: &str, report: &mut Report<'_>) {
    check_required(schema, table, &span, name, report);
    let known: Vec<String> = schema["properties"].as_object().map(|p| p.keys().cloned().collect()).unwrap_or_default();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let written = std::mem::take(table).into_iter();
    *table = written
        .filter_map(|(key, mut value)| {
            let name = key.get_ref().to_string();
            if report.covers(&key.span()) {
                return None;
            }
            let inner = &schema["properties"][&name];
            let inner = if inner.is_null() { &schema["additionalProperties"] } else { inner };
            if !inner.is_object() {
                report.add(key.span(), format!("unknown key {name:?}"), advice("known key", &name, &known));
                return None;
            }
            check_value(inner, &name, &mut value, report).then_some((key, value))
        })
        .collect();
}

/// `required`, and `oneOf` several keys.
fn check_required(schema: &Schema, table: &DeTable<'_>, span: &Range<usize>, name: &str, report: &mut Report<'_>) {
    let required = |schema: &Schema| -> Vec<String> {
        schema["required"].as_array().into_iter().flatten().filter_map(|k| k.as_str().map(str::to_owned)).collect()
    };
    // A key that is nearly the missing one is reported as unknown: one mistake, one problem.
    let unknown: Vec<&str> =
        table.keys().map(|key| &**key.get_ref()).filter(|key| schema["properties"][*key].is_null()).collect();
    let is_there = |key: &String| table.contains_key(key.as_str()) || nearest(key, unknown.iter().copied()).is_some();
    for key in required(schema).iter().filter(|key| !is_there(key)) {
        report.add(span.clone(), format!("{name} has no {key:?}"), what_to_add(&schema["properties"][key]));
    }
    let choices: Vec<String> = schema["oneOf"].as_array().into_iter().flatten().flat_map(required).collect();
    if !choices.is_empty() && !choices.iter().any(is_there) {
        let keys = choices.iter().map(|key| format!("{key:?}")).collect::<Vec<_>>().join(" nor ");
        report.add(span.clone(), format!("{name} has neither {keys}"), None);
    }
}

fn what_to_add(schema: &Schema) -> Option<String> {
    let words = built_words(schema);
    let description = || schema["description"].as_str().and_then(|d| d.lines().next()).map(str::to_owned);
    if words.is_empty() { description() } else { Some(format!("one of {}", list(&words))) }
}

/// True where the value has the right form.
fn check_value(schema: &Schema, name: &str, value: &mut Spanned<DeValue<'_>>, report: &mut Report<'_>) -> bool {
    let span = value.span();
    if report.covers(&span) {
        return false;
    }
    let value = value.get_mut();
    if !accepted(schema).contains(&form(value)) {
        let hint = matches!(accepted(schema)[..], ["string"]).then(|| "put the value in quotes".to_owned());
        let hint = hint.filter(|_| !matches!(form(value), "array" | "table"));
        let expected = accepted(schema).iter().map(|f| with_article(f)).collect::<Vec<_>>().join(" or ");
        report.add(span, format!("{name:?}: expected {expected}, found {}", with_article(form(value))), hint);
        return false;
    }
    match value {
        DeValue::String(text) => check_string(schema, name, text, span, report),
        DeValue::Integer(number) => check_integer(schema, name, number, span, report),
        DeValue::Array(items) => {
            if items.is_empty() && schema["minItems"].as_u64() > Some(0) {
                report.add(span, format!("{name:?} is empty"), None);
                return false;
            }
            // Every item is looked at, so no short cut.
            items.iter_mut().map(|item| check_value(&schema["items"], name, item, report)).fold(true, |a, b| a & b)
        }
        DeValue::Table(table) => {
            check_table(schema, table, span, &format!("{name:?}"), report);
            true
        }
        _ => true,
    }
}

fn check_string(schema: &Schema, name: &str, text: &str, span: Range<usize>, report: &mut Report<'_>) -> bool {
    let words = words(schema);
    if !words.is_empty() && !words.contains(&text) {
        let offered = built_words(schema);
        let what = format!("unknown {name} {}: expected one of {}", report.written(&span), list(&offered));
        let hint = nearest(text, offered).map(|near| format!("nearest: {near:?}"));
        report.add(span, what, hint);
        return false;
    }
    if text.is_empty() && schema["minLength"].as_u64() > Some(0) {
        report.add(span, format!("{name:?} is empty"), None);
        return false;
    }
    true
}

fn check_integer(
    schema: &Schema,
    name: &str,
    number: &DeInteger<'_>,
    span: Range<usize>,
    report: &mut Report<'_>,
) -> bool {
    let (least, most) = (schema["minimum"].as_i64(), schema["maximum"].as_i64());
    let number = i64::from_str_radix(number.as_str(), number.radix());
    if number.is_ok_and(|n| n >= least.unwrap_or(i64::MIN) && n <= most.unwrap_or(i64::MAX)) {
        return true;
    }
    let bounds = match (least, most) {
        (Some(least), Some(most)) => format!("{least} to {most}"),
        (Some(least), None) => format!("{least} or more"),
        _ => "a 64-bit integer".to_owned(),
    };
    report.add(span.clone(), format!("{name:?}: expected {bounds}, found {}", report.written(&span)), None);
    false
}

/// The words that a string may be; empty where any will do.
fn words(schema: &Schema) -> Vec<&str> {
    variants(schema).map(|(word, _)| word).collect()
}

/// Those to advise: what isn't built yet is understood, but no advice.
fn built_words(schema: &Schema) -> Vec<&str> {
    variants(schema).filter(|(_, variant)| variant["x-not-built"].is_null()).map(|(word, _)| word).collect()
}

/// A word and its own schema: commented variants have one each, the others share one.
fn variants(schema: &Schema) -> impl Iterator<Item = (&str, &Schema)> {
    let described = schema["oneOf"].as_array().into_iter().flatten();
    std::iter::once(schema).chain(described).flat_map(|variant| {
        let many = variant["enum"].as_array().into_iter().flatten().filter_map(Schema::as_str);
        variant["const"].as_str().into_iter().chain(many).map(move |word| (word, variant))
    })
}

/// The forms that a schema takes, in TOML's words.
fn accepted(schema: &Schema) -> Vec<&str> {
    let types = match &schema["type"] {
        Schema::Array(types) => types.iter().filter_map(Schema::as_str).collect(),
        Schema::String(one) => vec![one.as_str()],
        _ if words(schema).is_empty() => vec!["object"],
        _ => vec!["string"],
    };
    let named = types.into_iter().flat_map(|name| match name {
        "object" => &["table"][..],
        "number" => &["integer", "float"],
        "string" => &["string"],
        "integer" => &["integer"],
        "boolean" => &["boolean"],
        _ => &["array"],
    });
    named.copied().collect()
}

fn form(value: &DeValue<'_>) -> &'static str {
    value.type_str()
}

fn with_article(form: &str) -> String {
    let article = if form.starts_with(['a', 'i']) { "an" } else { "a" };
    format!("{article} {form}")
}
