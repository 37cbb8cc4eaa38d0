//! What is wrong with a mapping: problems that users see, and errors of rules that become problems.

use std::fmt;

/// What is wrong with a mapping, and how to correct it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The rule, such as `rule-id 3 ("rename schema")`; `None` where no single rule is wrong.
    pub rule: Option<String>,
    /// What is wrong.
    pub what: String,
    /// How to correct it, where that is known.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem of a rule, or of the whole mapping.
    pub(super) fn new(rule: Option<&str>, what: impl Into<String>, hint: Option<String>) -> Self {
        Problem { rule: rule.map(str::to_owned), what: what.into(), hint }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rule {
            Some(rule) => write!(f, "{rule}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

impl std::error::Error for Problem {}

/// What is wrong with a rule, without the rule's name: [`RuleError::of`] makes it a [`Problem`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RuleError {
    what: String,
    hint: Option<String>,
}

impl RuleError {
    /// An error without a hint.
    pub(super) fn new(what: impl Into<String>) -> Self {
        RuleError { what: what.into(), hint: None }
    }

    /// Adds how to correct it.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the part of an expression, or the column, that the error is about.
    pub(super) fn within(self, place: &dyn fmt::Display) -> RuleError {
        RuleError { what: format!("\"{place}\": {}", self.what), ..self }
    }

    /// The problem of the rule with this name.
    pub(super) fn of(self, rule: &str) -> Problem {
        Problem::new(Some(rule), self.what, self.hint)
    }
}
