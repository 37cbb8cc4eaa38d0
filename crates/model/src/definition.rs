//! Models and endpoint configurations, in the form in which they are stored.

use serde::{Deserialize, Serialize};

use super::container::Container;

/// The longest name of a model, a configuration or an endpoint.
const NAME_CHARS_MAX: usize = 63;

/// A model that was created: what its endpoints run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// The request that created it, for descriptions of it.
    pub request: serde_json::Value,
    /// What its image stands for.
    pub container: Container,
    /// The hash of its artifact, which is in the store.
    pub artifact: Option<String>,
}

/// An endpoint configuration that was created.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndpointConfig {
    /// The request that created it, for descriptions of it.
    pub request: serde_json::Value,
    /// They share the requests, by their weights.
    pub variants: Vec<Variant>,
    /// They get a copy of requests; their answers are dropped.
    pub shadow_variants: Vec<Variant>,
}

/// A model of an endpoint, and its part of the requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Variant {
    /// Unique in its configuration.
    pub name: String,
    /// The model's name.
    pub model: String,
    /// Its part of the requests is its weight, divided by the sum of all weights.
    pub weight: f64,
}

/// Whether a text may name a model, a configuration, a variant or an endpoint: SageMaker's
/// `[a-zA-Z0-9](-*[a-zA-Z0-9])*`, up to 63 characters.
pub fn is_name(text: &str) -> bool {
    let is_alphanumeric = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    text.len() <= NAME_CHARS_MAX
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && is_alphanumeric(text.bytes().next())
        && is_alphanumeric(text.bytes().last())
}

#[cfg(test)]
mod tests {
    use super::is_name;

    #[test]
    fn names_are_those_of_sagemaker() {
        for name in ["a", "hydro", "hydro-2", "a--b", "0"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "-a", "a-", "a_b", "a.b", "é", &"a".repeat(64)] {
            assert!(!is_name(name), "{name}");
        }
    }
}
