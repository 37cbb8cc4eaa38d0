//! The command line: the only place that reads arguments and the environment, and that prints text for users.

mod commands;
mod program;
mod progress;
mod report;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

/// The crates whose log lines are shown at the chosen level; of all others, only errors are shown.
const OWN_CRATES: [&str; 12] =
    ["wattlake", "jobs", "server", "transfer", "lake", "sql", "pg", "ledger", "function", "gateway", "ingest", "model"];

/// Stack size of a worker thread: SQL is planned by recursion. Only the part that is used takes memory.
const STACK_BYTES: usize = 64 << 20;

fn main() -> ExitCode {
    // A sandbox starts as this program, executed again with arguments of its own.
    let arguments: Vec<String> = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    if let Some(ended) = sandbox::run_if_reexecuted(&arguments) {
        return ended;
    }
    end_on_closed_output();
    let arguments = commands::Arguments::parse();
    log(&arguments);
    // Two cryptography providers of rustls are linked, so rustls can't choose one by itself.
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

/// Makes a program whose output is no longer read end quietly, as in `wattlake runs | head -1`: there `println!` panics.
/// SIGPIPE stays ignored, because a server and a run write to pipes of other programs, too.
fn end_on_closed_output() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let message = panic.payload_as_str().unwrap_or_default();
        if message.starts_with("failed printing to std") && message.contains("Broken pipe") {
            std::process::exit(0);
        }
        default(panic);
    }));
}

/// Sets failpoints from `FAILPOINTS`. For tests that kill a run, `WATTLAKE_TEST_STOPS_AT` names a failpoint to sleep at
/// and `WATTLAKE_TEST_STOPPED` a file to create once it is reached.
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

/// Sets up the log on standard error: warnings and errors; for a server, what happens; with `--verbose`, details.
fn log(arguments: &commands::Arguments) {
    let level = match (arguments.verbose, arguments.command.is_server()) {
        (true, _) => "debug",
        (false, true) => "info",
        (false, false) => "warn",
    };
    let levels = OWN_CRATES.map(|name| format!(",{name}={level}")).concat();
    let filter = EnvFilter::try_from_env("WATTLAKE_LOG").unwrap_or_else(|_| EnvFilter::new(format!("error{levels}")));
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(false);
    let lines = lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    let lines = if arguments.command.logs_json() {
        lines.json().with_filter(filter).boxed()
    } else {
        lines.with_filter(filter).boxed()
    };
    // The log of a run, kept in the ledger, has more lines than standard error.
    let recorded = EnvFilter::new(format!("error{}", OWN_CRATES.map(|name| format!(",{name}=info")).concat()));
    tracing_subscriber::registry().with(lines).with(jobs::runs::RunLogLayer.with_filter(recorded)).init();
}
