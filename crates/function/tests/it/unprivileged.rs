//! Repeats tests with a host that has no privileges: in a user namespace, and without control groups.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use libtest_mimic::{Failed, Trial};
use tempfile::TempDir;

use crate::world::is_root;

/// The user id of `nobody`.
const NOBODY: &str = "65534";

pub fn trials() -> Vec<Trial> {
    // Without privileges the tests themselves run like this.
    let names = if is_root() { vec!["escape", "reach", "runtime"] } else { vec![] };
    let trial = |name| Trial::test(format!("unprivileged::{name}"), move || as_nobody(name));
    names.into_iter().map(trial).collect()
}

fn as_nobody(name: &str) -> Result<(), Failed> {
    let folder = TempDir::new()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777))?;
    // Copied to where the user `nobody` can read it.
    let program = folder.path().join("it");
    fs::copy(std::env::current_exe()?, &program)?;
    let run = |program: &std::path::Path, arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]).arg(program).args(arguments);
        command.env("TMPDIR", folder.path()).env("HOME", folder.path()).current_dir(folder.path()).output()
    };
    if !run("unshare".as_ref(), &["-Urn", "true"])?.status.success() {
        eprintln!("this machine does not allow user namespaces: {name} is tested as root only");
        return Ok(());
    }
    let output = run(&program, &[&format!("{name}::"), "--test-threads=2"])?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !printed.contains("running 0 tests"), "{printed}");
    Ok(())
}
