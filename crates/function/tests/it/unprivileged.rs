//! The same tests by a host without any privilege: in a user namespace, and without control groups.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use libtest_mimic::{Failed, Trial};
use tempfile::TempDir;

use crate::world::rustix_is_root;

/// Of nobody, on any system.
const NOBODY: &str = "65534";

pub fn trials() -> Vec<Trial> {
    // Who has no privilege runs them as they are.
    let names = if rustix_is_root() { vec!["escape", "reach", "runtime"] } else { vec![] };
    let trial = |name| Trial::test(format!("unprivileged::{name}"), move || as_nobody(name));
    names.into_iter().map(trial).collect()
}

fn as_nobody(name: &str) -> Result<(), Failed> {
    let folder = TempDir::new()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777))?;
    // Where nobody can reach it.
    let program = folder.path().join("it");
    fs::copy(std::env::current_exe()?, &program)?;
    let asks = |program: &std::path::Path, arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]).arg(program).args(arguments);
        command.env("TMPDIR", folder.path()).env("HOME", folder.path()).current_dir(folder.path()).output()
    };
    if !asks("unshare".as_ref(), &["-Urn", "true"])?.status.success() {
        eprintln!("this machine allows nobody a user namespace: {name} runs as root alone");
        return Ok(());
    }
    let output = asks(&program, &[&format!("{name}::"), "--test-threads=2"])?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("running 0 tests"), "{said}");
    Ok(())
}
