//! The error of a value that can't be decoded.

/// Why a value can't be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueError {
    /// What is wrong with the value.
    pub what: String,
    /// What the user can do about it.
    pub hint: Option<&'static str>,
}

impl ValueError {
    /// An error without a hint.
    pub(super) fn new(what: impl Into<String>) -> Self {
        ValueError { what: what.into(), hint: None }
    }

    /// Adds what the user can do.
    pub(super) fn hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }
}
