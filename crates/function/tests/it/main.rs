//! Runs the tests. The launcher of sandboxes executes this program again, as a part of a sandbox.

mod bench;
mod clients;
mod conformance;
mod escape;
mod queued;
mod reach;
mod runtime;
mod served;
mod unprivileged;
mod warm;
mod world;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(ended) = sandbox::run_if_reexecuted(&arguments) {
        return ended;
    }
    let all = [
        escape::trials(),
        runtime::trials(),
        conformance::trials(),
        clients::trials(),
        warm::trials(),
        queued::trials(),
        reach::trials(),
        unprivileged::trials(),
        bench::trials(),
    ];
    let trials: Vec<Trial> = all.into_iter().flatten().collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
