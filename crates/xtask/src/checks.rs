//! The tasks that Cargo does: always the whole workspace, so that every build has the same features.

use anyhow::Result;

use crate::project::{Project, is_installed, run};

pub fn fmt(project: &Project, check: bool) -> Result<()> {
    let mut cargo = project.cargo()?;
    cargo.args(["fmt", "--all"]);
    if check {
        cargo.arg("--check");
    }
    run(&mut cargo)
}

pub fn lint(project: &Project) -> Result<()> {
    run(project.cargo()?.args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

pub fn test(project: &Project, rest: &[String]) -> Result<()> {
    let runner: &[&str] = if is_installed(project.cargo()?.arg("nextest")) { &["nextest", "run"] } else { &["test"] };
    run(project.cargo()?.args(runner).arg("--workspace").args(rest))
}
