//! Reads the mapping's JSON strictly: a key that occurs twice is an error, since one of its values would be lost, and
//! every key of an object must be known.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::problem::{Problem, RuleError};

/// Parses JSON. A key that occurs twice in an object, and a number too large for its digits to be exact, are errors.
pub(super) fn parse(text: &str) -> Result<Value, Problem> {
    serde_json::from_str::<Strict>(text).map(|strict| strict.0).map_err(|e| {
        // serde_json's message ends with the line and the column.
        Problem::new(None, format!("the mapping is not valid JSON: {e}"), None)
    })
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_f64<E: de::Error>(self, v: f64) -> Result<Value, E> {
        // Above 2^53 a floating-point number may differ from its digits in the file.
        if v.abs() >= 9_007_199_254_740_992.0 {
            return Err(E::custom("a number is too large to be exact: write it as a string"));
        }
        Ok(v.into())
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Strict(value)) = seq.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if map.contains_key(&key) {
                return Err(de::Error::custom(format!("the key \"{key}\" occurs twice")));
            }
            let Strict(value) = entries.next_value()?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

/// Collects the problems of one rule.
pub(super) struct RuleProblems {
    /// The rule's name in messages.
    pub(super) label: String,
    pub(super) problems: Vec<Problem>,
}

impl RuleProblems {
    /// Adds a problem without a hint.
    pub(super) fn add(&mut self, what: impl Into<String>) {
        self.add_error(RuleError::new(what));
    }

    /// Adds an error as a problem of this rule.
    pub(super) fn add_error(&mut self, fault: RuleError) {
        self.problems.push(fault.of(&self.label));
    }

    /// The value of a result; where it is an error, `None`, and the error is added.
    pub(super) fn accept<T>(&mut self, result: Result<T, RuleError>) -> Option<T> {
        result.map_err(|fault| self.add_error(fault)).ok()
    }
}

/// A JSON object with its name in messages. A key whose value is null counts as absent: the console of DMS writes such
/// keys.
#[derive(Clone, Copy)]
pub(super) struct Object<'a> {
    name: &'a str,
    map: &'a Map<String, Value>,
}

impl<'a> Object<'a> {
    /// The value as an object; adds a problem where it is of another type.
    pub(super) fn of(name: &'a str, value: &'a Value, report: &mut RuleProblems) -> Option<Self> {
        let map = value.as_object();
        if map.is_none() {
            report.add(format!("{name} must be an object"));
        }
        map.map(|map| Object { name, map })
    }

    /// The value of a key; `None` where it is absent or null.
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// Adds a problem for every key that is not known and whose value is not empty.
    pub(super) fn only(&self, known: &[&str], report: &mut RuleProblems) {
        let is_empty = |v: &Value| match v {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(values) => values.is_empty(),
            _ => false,
        };
        for (key, value) in self.map {
            if !known.contains(&key.as_str()) && !is_empty(value) {
                report.add(format!("\"{key}\" is not a key of the {}; its keys are {}", self.name, known.join(", ")));
            }
        }
    }

    /// The text of a key; `None` where it is absent or empty. Adds a problem where the value is no text.
    pub(super) fn text(&self, key: &str, report: &mut RuleProblems) -> Option<&'a str> {
        match self.get(key)? {
            Value::String(text) if text.is_empty() => None,
            Value::String(text) if text.contains('\0') => {
                report.add(format!("{key} contains a zero character"));
                None
            }
            Value::String(text) => Some(text),
            _ => {
                report.add(format!("{key} must be a text"));
                None
            }
        }
    }

    /// The text of a key; adds a problem where it is absent or empty.
    pub(super) fn required(&self, key: &str, report: &mut RuleProblems) -> Option<&'a str> {
        let before = report.problems.len();
        let text = self.text(key, report);
        if text.is_none() && report.problems.len() == before {
            report.add(format!("the {} needs a {key}", self.name));
        }
        text
    }

    /// The integer of a key, which DMS writes as a number or as a text. Adds a problem where it is neither.
    pub(super) fn number(&self, key: &str, report: &mut RuleProblems) -> Option<i64> {
        let value = self.get(key)?;
        let number = match value {
            Value::String(text) if text.is_empty() => return None,
            Value::String(text) => text.parse().ok(),
            other => other.as_i64(),
        };
        if number.is_none() {
            report.add(format!("{key} must be a whole number, not {value}"));
        }
        number
    }

    /// The object of a key. Adds a problem where the value is of another type.
    pub(super) fn object(&self, key: &'a str, report: &mut RuleProblems) -> Option<Object<'a>> {
        self.get(key).and_then(|value| Object::of(key, value, report))
    }

    /// The list of a key, empty where it is absent. Adds a problem where the value is of another type.
    pub(super) fn array(&self, key: &str, report: &mut RuleProblems) -> &'a [Value] {
        match self.get(key) {
            None => &[],
            Some(Value::Array(values)) => values,
            Some(_) => {
                report.add(format!("{key} must be a list"));
                &[]
            }
        }
    }
}
