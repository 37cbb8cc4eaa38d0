//! The members of a request of the control plane.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::error::ApiError;
use crate::definition::is_name;

/// A request, or a structure in one. Its members are taken by their names; a member that an operation does not know is an
/// error, so that nothing that a caller asks for is left out without a word.
#[derive(Debug, Clone)]
pub(super) struct Members {
    all: Map<String, Value>,
    /// Where it is in the request, for messages: empty, or `ProductionVariants.1.`.
    path: String,
}

impl Members {
    /// The members of a request.
    pub fn new(request: Value) -> Result<Members, ApiError> {
        Members::at(request, String::new())
    }

    fn at(value: Value, path: String) -> Result<Members, ApiError> {
        match value {
            Value::Object(all) => Ok(Members { all, path }),
            _ => Err(ApiError::validation(format!("{}: expected a structure", path.trim_end_matches('.')))),
        }
    }

    /// The whole request.
    pub fn value(&self) -> Value {
        Value::Object(self.all.clone())
    }

    fn named(&self, key: &str) -> String {
        format!("{}{key}", self.path)
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.all.get(key).filter(|value| !value.is_null())
    }

    /// Refuses members that are not `known`. Those of `ignored` are SageMaker's, and have no meaning on one machine.
    pub fn only(&self, known: &[&str], ignored: &[&str]) -> Result<(), ApiError> {
        let is_known = |key: &str| known.contains(&key) || ignored.contains(&key);
        match self.all.iter().find(|(key, value)| !value.is_null() && !is_known(key)) {
            Some((key, _)) => Err(ApiError::validation(format!("{} is not supported here", self.named(key)))),
            None => Ok(()),
        }
    }

    /// A text, where it is there.
    pub fn text(&self, key: &str) -> Result<Option<&str>, ApiError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(ApiError::validation(format!("{}: expected a text", self.named(key)))),
        }
    }

    /// A text that must be there.
    pub fn required(&self, key: &str) -> Result<&str, ApiError> {
        self.text(key)?
            .ok_or_else(|| ApiError::validation(format!("{} is missing: the request must have it", self.named(key))))
    }

    /// A name that must be there.
    pub fn name(&self, key: &str) -> Result<&str, ApiError> {
        let name = self.required(key)?;
        if is_name(name) {
            return Ok(name);
        }
        let pattern = "^[a-zA-Z0-9](-*[a-zA-Z0-9])*$, up to 63 characters";
        Err(ApiError::validation(format!("Value '{name}' at '{}' must satisfy {pattern}", self.named(key))))
    }

    /// A number, where it is there.
    pub fn number(&self, key: &str) -> Result<Option<f64>, ApiError> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => match value.as_f64() {
                Some(number) => Ok(Some(number)),
                None => Err(ApiError::validation(format!("{}: expected a number", self.named(key)))),
            },
        }
    }

    /// Texts by their names.
    pub fn map(&self, key: &str) -> Result<BTreeMap<String, String>, ApiError> {
        let Some(map) = self.structure(key)? else { return Ok(BTreeMap::new()) };
        let texts = map.all.iter().map(|(name, value)| match value {
            Value::String(text) => Ok((name.clone(), text.clone())),
            _ => Err(ApiError::validation(format!("{}: expected a text", map.named(name)))),
        });
        texts.collect()
    }

    /// A structure, where it is there.
    pub fn structure(&self, key: &str) -> Result<Option<Members>, ApiError> {
        self.get(key).map(|value| Members::at(value.clone(), format!("{}.", self.named(key)))).transpose()
    }

    /// Structures; none where the member is missing.
    pub fn structures(&self, key: &str) -> Result<Vec<Members>, ApiError> {
        let Some(value) = self.get(key) else { return Ok(Vec::new()) };
        let Value::Array(values) = value else {
            return Err(ApiError::validation(format!("{}: expected a list", self.named(key))));
        };
        let members = values.iter().enumerate();
        members.map(|(at, value)| Members::at(value.clone(), format!("{}.{}.", self.named(key), at + 1))).collect()
    }
}
