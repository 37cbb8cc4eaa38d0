//! Checks a file against its JSON schema: unknown and missing keys, wrong types, unknown words, numbers out of bounds.
//! What is wrong is reported and removed from the tree, so that the rest can still be deserialized and checked.
//! It supports the part of JSON Schema that the types of [`super::raw`] use, and does not know what values mean.

use std::ops::Range;

use base::{nearest, quoted_list, suggestion};
use serde::de::DeserializeOwned;
use serde_json::Value as Schema;
use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::problem::FileProblems;
use super::raw::{FileKind, json_schema};

/// Parses a file; `None` where it is not TOML, with the problems in the report.
pub fn tree<'a>(report: &mut FileProblems<'a>) -> Option<Spanned<DeTable<'a>>> {
    let text = report.text();
    let (tree, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        report.add(error.span().unwrap_or(0..0), format!("not TOML: {}", error.message()), None);
    }
    report.is_empty().then_some(tree)
}

/// Checks the tree and deserializes what is right. `None` only where that fails.
pub fn read<T: DeserializeOwned>(
    kind: FileKind,
    mut tree: Spanned<DeTable<'_>>,
    report: &mut FileProblems<'_>,
) -> Option<T> {
    check_table(&json_schema(kind), tree.get_mut(), 0..1, "the file", report);
    match T::deserialize(toml::de::Deserializer::from(tree)) {
        Ok(raw) => Some(raw),
        Err(error) => {
            // serde's own message would quote the value, which may be a secret.
            report.add(error.span().unwrap_or(0..0), "this does not match the schema", None);
            None
        }
    }
}

fn check_table(
    schema: &Schema,
    table: &mut DeTable<'_>,
    span: Range<usize>,
    name: &str,
    report: &mut FileProblems<'_>,
) {
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
                report.add(key.span(), format!("unknown key {name:?}"), suggestion("known key", &name, &known));
                return None;
            }
            check_value(inner, &name, &mut value, report).then_some((key, value))
        })
        .collect();
}

/// Checks `required`, and `oneOf` over required keys.
fn check_required(
    schema: &Schema,
    table: &DeTable<'_>,
    span: &Range<usize>,
    name: &str,
    report: &mut FileProblems<'_>,
) {
    let required = |schema: &Schema| -> Vec<String> {
        schema["required"].as_array().into_iter().flatten().filter_map(|k| k.as_str().map(str::to_owned)).collect()
    };
    // A misspelled required key is reported as unknown, not as missing too.
    let unknown: Vec<&str> =
        table.keys().map(|key| &**key.get_ref()).filter(|key| schema["properties"][*key].is_null()).collect();
    let is_there = |key: &String| table.contains_key(key.as_str()) || nearest(key, unknown.iter().copied()).is_some();
    for key in required(schema).iter().filter(|key| !is_there(key)) {
        report.add(span.clone(), format!("{name} has no {key:?}"), Some(what_to_add(key, &schema["properties"][key])));
    }
    let choices: Vec<String> = schema["oneOf"].as_array().into_iter().flatten().flat_map(required).collect();
    if !choices.is_empty() && !choices.iter().any(is_there) {
        let keys = choices.iter().map(|key| format!("{key:?}")).collect::<Vec<_>>().join(" nor ");
        report.add(span.clone(), format!("{name} has neither {keys}"), None);
    }
}

/// A hint for a missing key: its possible words, or the first line of its description.
fn what_to_add(key: &str, schema: &Schema) -> String {
    let words = suggested_words(schema);
    let description = schema["description"].as_str().and_then(|text| text.lines().next()).unwrap_or_default();
    match (words.is_empty(), description.trim_end_matches('.')) {
        (false, _) => format!("add {key:?}: one of {}", quoted_list(words.iter().copied())),
        (true, "") => format!("add {key:?}"),
        (true, description) => format!("add {key:?}: {}", lower_first(description)),
    }
}

/// The text with its first word in lower case, unless the word is a name in capitals.
fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    let is_name = text.chars().nth(1).is_some_and(char::is_uppercase);
    match letters.next() {
        Some(first) if !is_name => first.to_lowercase().chain(letters).collect(),
        _ => text.to_owned(),
    }
}

/// Whether the value matches the schema; what does not is reported.
fn check_value(schema: &Schema, name: &str, value: &mut Spanned<DeValue<'_>>, report: &mut FileProblems<'_>) -> bool {
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
            // `fold`, since `all` would stop at the first wrong item.
            items.iter_mut().map(|item| check_value(&schema["items"], name, item, report)).fold(true, |a, b| a & b)
        }
        DeValue::Table(table) => {
            check_table(schema, table, span, &format!("{name:?}"), report);
            true
        }
        _ => true,
    }
}

fn check_string(schema: &Schema, name: &str, text: &str, span: Range<usize>, report: &mut FileProblems<'_>) -> bool {
    let words = words(schema);
    if !words.is_empty() && !words.contains(&text) {
        let offered = suggested_words(schema);
        let what = format!(
            "unknown {name} {}: expected one of {}",
            report.written(&span),
            quoted_list(offered.iter().copied())
        );
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
    report: &mut FileProblems<'_>,
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

/// The words that a string may be; empty where it may be any text.
fn words(schema: &Schema) -> Vec<&str> {
    variants(schema).map(|(word, _)| word).collect()
}

/// The words to suggest: those that are not implemented yet are accepted, but not suggested.
fn suggested_words(schema: &Schema) -> Vec<&str> {
    variants(schema).filter(|(_, variant)| variant["x-not-built"].is_null()).map(|(word, _)| word).collect()
}

/// The words with their schemas: variants with a doc comment have their own schema, the others share one.
fn variants(schema: &Schema) -> impl Iterator<Item = (&str, &Schema)> {
    let described = schema["oneOf"].as_array().into_iter().flatten();
    std::iter::once(schema).chain(described).flat_map(|variant| {
        let many = variant["enum"].as_array().into_iter().flatten().filter_map(Schema::as_str);
        variant["const"].as_str().into_iter().chain(many).map(move |word| (word, variant))
    })
}

/// The types that a schema accepts, by TOML's names.
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
