//! The sandbox executes the program that it is part of: so this one answers to it, and runs the
//! tests otherwise.

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

use function::sandbox;
use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(ended) = sandbox::door(&arguments) {
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
