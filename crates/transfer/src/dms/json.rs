//! Reads the mapping's JSON strictly: a key given twice is an error, since one of the two would be
//! lost, and every object is held against the keys that it may have.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::{Fault, Problem};

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
        // Beyond 2^53 the digits written may not be the number read.
        if v.abs() >= 9_007_199_254_740_992.0 {
            return Err(E::custom("a number is too large to be exact; write it as a string"));
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
                return Err(de::Error::custom(format!("\"{key}\" is given twice")));
            }
            let Strict(value) = entries.next_value()?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

/// Gathers the problems of one rule.
pub(super) struct Report {
    pub(super) label: String,
    pub(super) problems: Vec<Problem>,
}

impl Report {
    pub(super) fn says(&mut self, what: impl Into<String>) {
        self.fault(Fault::new(what));
    }

    pub(super) fn fault(&mut self, fault: Fault) {
        self.problems.push(fault.of(&self.label));
    }

    /// The value, or nothing and one problem more.
    pub(super) fn take<T>(&mut self, result: Result<T, Fault>) -> Option<T> {
        result.map_err(|fault| self.fault(fault)).ok()
    }
}

/// A JSON object under its name. A key that is null counts as absent: DMS's console writes those.
#[derive(Clone, Copy)]
pub(super) struct Object<'a> {
    name: &'a str,
    map: &'a Map<String, Value>,
}

impl<'a> Object<'a> {
    pub(super) fn of(name: &'a str, value: &'a Value, report: &mut Report) -> Option<Self> {
        let map = value.as_object();
        if map.is_none() {
            report.says(format!("{name} must be an object"));
        }
        map.map(|map| Object { name, map })
    }

    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// Every other key is a problem, unless it is empty.
    pub(super) fn only(&self, known: &[&str], report: &mut Report) {
        let is_empty = |v: &Value| match v {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(values) => values.is_empty(),
            _ => false,
        };
        for (key, value) in self.map {
            if !known.contains(&key.as_str()) && !is_empty(value) {
                report.says(format!("\"{key}\" has no place in this {}, which takes {}", self.name, known.join(", ")));
            }
        }
    }

    /// A text that is there and not empty.
    pub(super) fn text(&self, key: &str, report: &mut Report) -> Option<&'a str> {
        match self.get(key)? {
            Value::String(text) if text.is_empty() => None,
            Value::String(text) if text.contains('\0') => {
                report.says(format!("{key} holds a zero character"));
                None
            }
            Value::String(text) => Some(text),
            _ => {
                report.says(format!("{key} must be a text"));
                None
            }
        }
    }

    pub(super) fn required(&self, key: &str, report: &mut Report) -> Option<&'a str> {
        let before = report.problems.len();
        let text = self.text(key, report);
        if text.is_none() && report.problems.len() == before {
            report.says(format!("the {} needs a {key}", self.name));
        }
        text
    }

    /// A whole number, which DMS writes as a number or as a text.
    pub(super) fn number(&self, key: &str, report: &mut Report) -> Option<i64> {
        let value = self.get(key)?;
        let number = match value {
            Value::String(text) if text.is_empty() => return None,
            Value::String(text) => text.parse().ok(),
            other => other.as_i64(),
        };
        if number.is_none() {
            report.says(format!("{key} must be a whole number, not {value}"));
        }
        number
    }

    pub(super) fn object(&self, key: &'a str, report: &mut Report) -> Option<Object<'a>> {
        self.get(key).and_then(|value| Object::of(key, value, report))
    }

    pub(super) fn array(&self, key: &str, report: &mut Report) -> &'a [Value] {
        match self.get(key) {
            None => &[],
            Some(Value::Array(values)) => values,
            Some(_) => {
                report.says(format!("{key} must be a list"));
                &[]
            }
        }
    }
}
