//! Tasks that run Cargo, always on the whole workspace, so that every build has the same features.

use anyhow::Result;

use crate::project::{Project, is_installed, run};

/// Formats all crates; with `check`, fails where something would change.
pub fn fmt(project: &Project, check: bool) -> Result<()> {
    let mut cargo = project.cargo()?;
    cargo.args(["fmt", "--all"]);
    if check {
        cargo.arg("--check");
    }
    run(&mut cargo)
}

/// Runs Clippy; a warning is an error.
pub fn lint(project: &Project) -> Result<()> {
    run(project.cargo()?.args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

/// Runs all tests, by cargo-nextest where it is installed.
pub fn test(project: &Project, rest: &[String]) -> Result<()> {
    let runner: &[&str] = if is_installed(project.cargo()?.arg("nextest")) { &["nextest", "run"] } else { &["test"] };
    run(project.cargo()?.args(runner).arg("--workspace").args(rest))
}
