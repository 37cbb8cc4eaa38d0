//! Failures of a command: the chain of causes on one line, a hint on the next, and a documented exit code.

use std::process::ExitCode;

use base::chain;
pub use jobs::failure::code;
use jobs::failure::{Failure, hint};
use owo_colors::{OwoColorize, Stream};

/// An error of the command's arguments or of what they name, with a hint.
pub fn input(what: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
    base::Error::input(what).hint(hint).into()
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

/// The code follows from what the caller can do about the error.
fn exit_code(error: &anyhow::Error) -> u8 {
    match Failure::of(error) {
        Failure::Kind(kind) => exit_code_of_kind(kind),
        Failure::StoppedByUser => code::INTERRUPTED,
        Failure::Unknown => code::FAILED,
    }
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
