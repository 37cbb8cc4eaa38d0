//! What a template is read with.

use std::collections::BTreeMap;

/// The values that a template is read with.
#[derive(Debug, Clone, Default)]
pub struct TemplateParameters {
    /// The stack's name, from which endpoints without a name get theirs.
    pub stack: String,
    /// Values of parameters, by their names.
    pub values: BTreeMap<String, String>,
}
