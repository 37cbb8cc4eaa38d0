//! The door: arguments and environment come in here, text goes out from here, and nowhere else.

mod commands;
mod config;
mod example;
mod flows;
mod host;
mod jobs;
mod program;
mod progress;
mod report;
mod scheduler;
mod serve;
mod system;
mod text;
mod warehouse;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

/// The crates whose words are for users.
const OURS: [&str; 8] = ["wattlake", "transfer", "lake", "sql", "wire", "ledger", "function", "ingest"];

/// Of a thread: statements are walked by recursion. Only what is used of it takes memory.
const STACK_BYTES: usize = 64 << 20;

fn main() -> ExitCode {
    // A sandbox begins as this program again, and is nothing else.
    let arguments: Vec<String> = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    if let Some(ended) = function::sandbox::door(&arguments) {
        return ended;
    }
    // A reader of our output that stops reading (`| head`) is no error of ours.
    let arguments = commands::Arguments::parse();
    log(&arguments);
    // Both of rustls's providers are in the tree; one must be chosen.
    let _ = rustls::crypto::ring::default_provider().install_default();
    #[cfg(feature = "failpoints")]
    let _scenario = fail_points();
    let runtime = match tokio::runtime::Builder::new_multi_thread().thread_stack_size(STACK_BYTES).enable_all().build()
    {
        Ok(runtime) => runtime,
        Err(error) => return report::failure(&anyhow::Error::from(error).context("start the runtime")),
    };
    let outcome = runtime.block_on(commands::run(arguments));
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match outcome {
        Ok(code) => code,
        Err(error) => report::failure(&error),
    }
}

/// By `FAILPOINTS`; and for tests that kill a run, the point that it stops at and the file by which it says
/// that it is there.
#[cfg(feature = "failpoints")]
fn fail_points() -> fail::FailScenario<'static> {
    let scenario = fail::FailScenario::setup();
    let variables = (std::env::var("WATTLAKE_TEST_STOPS_AT"), std::env::var_os("WATTLAKE_TEST_STOPPED"));
    if let (Ok(point), Some(file)) = variables {
        let stops = move || {
            let _ = std::fs::write(&file, "");
            std::thread::sleep(std::time::Duration::from_secs(3600));
        };
        let _ = fail::cfg_callback(point, stops);
    }
    scenario
}

/// To standard error: what goes wrong, and from a server what happens.
fn log(arguments: &commands::Arguments) {
    let level = match (arguments.verbose, arguments.command.is_server()) {
        (true, _) => "debug",
        (false, true) => "info",
        (false, false) => "warn",
    };
    let ours = OURS.map(|name| format!(",{name}={level}")).concat();
    let filter = EnvFilter::try_from_env("WATTLAKE_LOG").unwrap_or_else(|_| EnvFilter::new(format!("error{ours}")));
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(false);
    let lines = lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    let lines = if arguments.command.logs_json() {
        lines.json().with_filter(filter).boxed()
    } else {
        lines.with_filter(filter).boxed()
    };
    // A run's log has more than what is shown.
    let kept = EnvFilter::new(format!("error{}", OURS.map(|name| format!(",{name}=info")).concat()));
    tracing_subscriber::registry().with(lines).with(jobs::FollowRun.with_filter(kept)).init();
}
