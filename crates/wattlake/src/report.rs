//! How failures are told: the chain once, a hint on its own line, a documented exit code.

use std::process::ExitCode;

use owo_colors::{OwoColorize, Stream};

use crate::jobs::BrokenOff;

/// docs/command-line.md lists them.
pub mod code {
    pub const FAILED: u8 = 1;
    /// Wrong arguments: clap's own code.
    #[allow(dead_code, reason = "given by clap, listed here with the others")]
    pub const USAGE: u8 = 2;
    pub const FIX_INPUT: u8 = 3;
    pub const FIX_SETUP: u8 = 4;
    pub const RETRY: u8 = 5;
    /// As shells have it for a program that SIGINT ended.
    pub const INTERRUPTED: u8 = 130;
}

/// The chain without repetitions: an error that holds its source's text is shown once.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let next = inner.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        source = inner.source();
    }
    text
}

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
    error.chain().find_map(|e| e.downcast_ref::<transfer::Error>().and_then(|e| e.hint.clone()))
}

/// True where the same run may succeed later.
pub fn may_pass(error: &anyhow::Error) -> bool {
    exit_code(error) == code::RETRY
}

/// What the caller can do decides the code, so that scripts can tell.
fn exit_code(error: &anyhow::Error) -> u8 {
    macro_rules! code_of {
        ($cause:ident, $($crate_name:ident),*) => {$(
            if let Some(error) = $cause.downcast_ref::<$crate_name::Error>() {
                return match error.kind {
                    $crate_name::Kind::Retry => code::RETRY,
                    $crate_name::Kind::FixInput => code::FIX_INPUT,
                    $crate_name::Kind::FixSetup => code::FIX_SETUP,
                    $crate_name::Kind::Bug => code::FAILED,
                };
            }
        )*};
    }
    for cause in error.chain() {
        code_of!(cause, transfer, lake, sql, pgserver, ledger, platform, function, layers, ingest);
        if let Some(error) = cause.downcast_ref::<statement::Error>() {
            return if error.kind == statement::Kind::FixInput { code::FIX_INPUT } else { code::FAILED };
        }
        if let Some(broken) = cause.downcast_ref::<BrokenOff>() {
            return if *broken == BrokenOff::ByHand { code::INTERRUPTED } else { code::RETRY };
        }
        if cause.is::<crate::warehouse::Problems>() || cause.is::<crate::config::Unset>() {
            return code::FIX_SETUP;
        }
    }
    code::FAILED
}
