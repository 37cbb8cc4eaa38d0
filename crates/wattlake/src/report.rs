//! Failures of a command: the chain of causes on one line, a hint on the next, and a documented exit code.

use std::process::ExitCode;

use base::chain;
use owo_colors::{OwoColorize, Stream};

use crate::jobs::Interruption;

/// Exit codes of the program, as docs/command-line.md lists them.
pub mod code {
    /// Any failure that no other code describes.
    pub const FAILED: u8 = 1;
    /// Wrong arguments: clap's own code.
    #[allow(dead_code, reason = "given by clap, listed here with the others")]
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

/// Prints an error and its hint to standard error and returns its exit code. A closed output pipe is a success.
pub fn failure(error: &anyhow::Error) -> ExitCode {
    if broken_pipe(error) {
        return ExitCode::SUCCESS;
    }
    let label = "error".if_supports_color(Stream::Stderr, |t| t.red()).to_string();
    eprintln!("{label}: {}", chain(error.as_ref()));
    if let Some(hint) = hint(error) {
        let label = "hint".if_supports_color(Stream::Stderr, |t| t.cyan()).to_string();
        eprintln!("{label}: {hint}");
    }
    ExitCode::from(exit_code(error))
}

fn broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|e| e.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe))
}

fn hint(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|e| e.downcast_ref::<base::Error>().and_then(|e| e.hint.clone()))
}

/// Whether the same run may succeed later.
pub fn is_retryable(error: &anyhow::Error) -> bool {
    exit_code(error) == code::RETRY
}

/// The code follows from what the caller can do about the error.
fn exit_code(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        if let Some(error) = cause.downcast_ref::<base::Error>() {
            return exit_code_of_kind(error.kind);
        }
        if let Some(interruption) = cause.downcast_ref::<Interruption>() {
            return if *interruption == Interruption::ByUser { code::INTERRUPTED } else { code::RETRY };
        }
        if cause.is::<crate::warehouse::Problems>() || cause.is::<crate::config::UnsetVariables>() {
            return code::FIX_SETUP;
        }
    }
    code::FAILED
}

/// The exit code of an error of this kind.
pub fn exit_code_of_kind(kind: base::Kind) -> u8 {
    match kind {
        base::Kind::Retry => code::RETRY,
        base::Kind::FixInput => code::FIX_INPUT,
        base::Kind::FixSetup => code::FIX_SETUP,
        base::Kind::Bug => code::FAILED,
    }
}
