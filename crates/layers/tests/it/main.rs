//! Runs the tests. The launcher of sandboxes executes this program again, as a part of a sandbox.

mod bench;
mod billing;
mod lambdr;
mod layer;
mod persistent;
mod published;
mod python;
mod world;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(ended) = sandbox::run_if_reexecuted(&arguments) {
        return ended;
    }
    match arguments.get(1).map(String::as_str) {
        Some("measure") => return bench::measure(arguments.get(2).map(String::as_str)),
        Some("pack") => return layer::pack(arguments.get(2).map(String::as_str).unwrap_or_default()),
        _ => {}
    }
    let trials: Vec<Trial> = layer::trials()
        .into_iter()
        .chain(persistent::trials())
        .chain(published::trials())
        .chain(python::trials())
        .chain(billing::trials())
        .chain(lambdr::trials())
        .collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
