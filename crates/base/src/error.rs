//! One error for all crates: what was being done, what went wrong, and what the caller can do about it.

use std::error::Error as StdError;
use std::fmt;

/// The result of everything that can fail with an [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The cause of an error, as another crate reported it.
pub type Source = Box<dyn StdError + Send + Sync + 'static>;

/// What the caller can do about an error. Exit codes, retries and SQLSTATEs are chosen by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The same call may succeed later: a lock is held, a connection was cut, a store did not answer.
    Retry,
    /// What was asked for must change: a value, a name, a file, a query.
    FixInput,
    /// The configuration, the permissions or the machine must change.
    FixSetup,
    /// A defect of this program.
    Bug,
}

/// `Display` writes the context alone; the sources tell the rest of the chain.
#[derive(Debug)]
pub struct Error {
    /// What the caller can do.
    pub kind: Kind,
    /// What was being done, as a verb phrase: "open bills/2026-09.csv".
    pub context: String,
    /// What a user can do about it, where it is known: a statement to run, a key to set.
    pub hint: Option<String>,
    /// A name for programs, where one is documented, such as a transfer's `key-changed`.
    pub state: Option<&'static str>,
    source: Option<Source>,
}

impl Error {
    /// An error without a hint, a state or a source.
    pub fn new(kind: Kind, context: impl Into<String>) -> Self {
        Error { kind, context: context.into(), hint: None, state: None, source: None }
    }

    /// An error that may not happen again.
    pub fn retry(context: impl Into<String>) -> Self {
        Self::new(Kind::Retry, context)
    }

    /// An error of what was asked for.
    pub fn input(context: impl Into<String>) -> Self {
        Self::new(Kind::FixInput, context)
    }

    /// An error of the configuration, the permissions or the machine.
    pub fn setup(context: impl Into<String>) -> Self {
        Self::new(Kind::FixSetup, context)
    }

    /// A defect of this program.
    pub fn bug(context: impl Into<String>) -> Self {
        Self::new(Kind::Bug, context)
    }

    /// Sets the hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Sets the name for programs.
    #[must_use]
    pub fn state(mut self, state: &'static str) -> Self {
        self.state = Some(state);
        self
    }

    /// Sets the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Puts what was being done around an error that already says what went wrong; kind, hint and state stay.
    #[must_use]
    pub fn within(self, context: impl Into<String>) -> Self {
        let (kind, hint, state) = (self.kind, self.hint.clone(), self.state);
        Error { kind, context: context.into(), hint, state, source: Some(Box::new(self)) }
    }

    /// The context and all causes in one line, for a reader who sees nothing else.
    pub fn chain(&self) -> String {
        chain(self)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.context)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// An error and its causes, joined by colons. A cause whose text ends its parent's is left out.
pub fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let next = cause.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        source = cause.source();
    }
    text
}

/// Turns another crate's error into an [`Error`], with what was being done and what the caller can do.
pub trait ErrorContext<T> {
    /// Wraps the error, where there is one.
    fn during(self, kind: Kind, context: impl Into<String>) -> Result<T>;
}

impl<T, E: Into<Source>> ErrorContext<T> for std::result::Result<T, E> {
    fn during(self, kind: Kind, context: impl Into<String>) -> Result<T> {
        self.map_err(|source| Error::new(kind, context).because(source))
    }
}

#[cfg(test)]
mod tests {
    use super::{Error, ErrorContext, Kind};

    #[test]
    fn a_chain_names_each_cause_once() {
        let cause = Error::input("expected a number: found x").because(std::io::Error::other("found x"));
        assert_eq!(cause.within("read row 3").chain(), "read row 3: expected a number: found x");
    }

    #[test]
    fn context_keeps_kind_hint_and_state() {
        let error = Error::setup("connect").hint("start the server").state("unreachable").within("copy public.t");
        assert_eq!((error.kind, error.to_string().as_str()), (Kind::FixSetup, "copy public.t"));
        assert_eq!((error.hint.as_deref(), error.state), (Some("start the server"), Some("unreachable")));
    }

    #[test]
    fn any_error_gets_a_context() {
        let failed: Result<u8, _> = "x".parse::<u8>().during(Kind::FixInput, "read the port");
        assert_eq!(failed.unwrap_err().chain(), "read the port: invalid digit found in string");
    }
}
