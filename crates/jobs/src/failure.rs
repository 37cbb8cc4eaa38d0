//! What the caller of a run can do about its failure.

use std::time::Duration;

use base::text;
use config::UnsetVariables;

use crate::warehouse::Problems;

/// Exit codes of the program, as docs/command-line.md lists them. The scheduler reads them of its runs.
pub mod code {
    /// Any failure that no other code describes.
    pub const FAILED: u8 = 1;
    /// Wrong arguments: clap's own code.
    pub const USAGE: u8 = 2;
    /// The input must be changed: a file or the source's data.
    pub const FIX_INPUT: u8 = 3;
    /// The configuration, a permission or a server's settings must be changed.
    pub const FIX_SETUP: u8 = 4;
    /// The same command may succeed later.
    pub const RETRY: u8 = 5;
    /// Ended by SIGINT, as shells report it.
    pub const INTERRUPTED: u8 = 130;
}

/// What is known of an error, from the chain of its causes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// A cause says what the caller can do.
    Kind(base::Kind),
    /// A user stopped the run.
    StoppedByUser,
    /// No cause says it.
    Unknown,
}

impl Failure {
    /// Classifies an error by the first cause that tells what the caller can do.
    pub fn of(error: &anyhow::Error) -> Failure {
        for cause in error.chain() {
            if let Some(error) = cause.downcast_ref::<base::Error>() {
                return Failure::Kind(error.kind);
            }
            match cause.downcast_ref::<Interruption>() {
                Some(Interruption::ByUser) => return Failure::StoppedByUser,
                Some(Interruption::TimeLimit(_)) => return Failure::Kind(base::Kind::Retry),
                None => {}
            }
            if cause.is::<Problems>() || cause.is::<UnsetVariables>() {
                return Failure::Kind(base::Kind::FixSetup);
            }
        }
        Failure::Unknown
    }
}

/// What a user can do about the error, where a cause says it.
pub fn hint(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| cause.downcast_ref::<base::Error>().and_then(|error| error.hint.clone()))
}

/// The error with its causes, and its hint after a semicolon, for a reader who sees nothing else.
pub fn full_text(error: &anyhow::Error) -> String {
    let chain = base::chain(error.as_ref());
    hint(error).map_or_else(|| chain.clone(), |hint| format!("{chain}; {hint}"))
}

/// Whether the same run may succeed later.
pub fn is_retryable(error: &anyhow::Error) -> bool {
    Failure::of(error) == Failure::Kind(base::Kind::Retry)
}

/// Why a run was interrupted. Work that it had not committed is lost, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interruption {
    /// Ctrl-C, SIGTERM, or `wattlake cancel`.
    ByUser,
    /// The job's `timeout`.
    TimeLimit(Duration),
}

impl std::fmt::Display for Interruption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Interruption::ByUser => f.write_str("stopped; work that was not committed is discarded"),
            Interruption::TimeLimit(limit) => {
                let limit = text::duration(*limit);
                write!(f, "stopped after {limit}, its time limit; work that was not committed is discarded")
            }
        }
    }
}

impl std::error::Error for Interruption {}
