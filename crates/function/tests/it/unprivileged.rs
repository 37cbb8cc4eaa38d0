//! Repeats tests with a host that has no privileges: in a user namespace, without control groups and with those that it may
//! create below its own, as a service of systemd with `Delegate=yes`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::{Failed, Trial};
use tempfile::TempDir;

use crate::escape::EXPECTS_GROUPS;
use crate::world::is_root;

/// The user id of `nobody`.
const NOBODY: &str = "65534";

pub fn trials() -> Vec<Trial> {
    // Without privileges the tests themselves run like this.
    let names = if is_root() { vec!["escape", "reach", "runtime"] } else { vec![] };
    let trial = |name| Trial::test(format!("unprivileged::{name}"), move || as_nobody(name, None));
    let trials = names.into_iter().map(trial);
    let delegated = is_root().then(|| Trial::test("unprivileged::delegated", delegated));
    trials.chain(delegated).collect()
}

/// Control groups that belong to `nobody`. They are removed when it is dropped.
struct DelegatedGroup {
    folders: Vec<PathBuf>,
}

impl DelegatedGroup {
    /// `None` where this machine allows no groups.
    fn new() -> Option<DelegatedGroup> {
        let mount = Path::new("/sys/fs/cgroup");
        let name = format!("wattlake-test-{}", std::process::id());
        let tops = match mount.join("cgroup.controllers").exists() {
            true => {
                fs::write(mount.join("cgroup.subtree_control"), "+memory +pids").ok()?;
                vec![mount.to_owned()]
            }
            false => ["memory", "pids"].map(|controller| mount.join(controller)).to_vec(),
        };
        let group = DelegatedGroup { folders: tops.iter().map(|top| top.join(&name)).collect() };
        for folder in &group.folders {
            fs::create_dir(folder).ok()?;
            let owned = ["", "cgroup.procs", "cgroup.subtree_control"].map(|file| folder.join(file));
            for path in owned.iter().filter(|path| path.exists()) {
                std::os::unix::fs::chown(path, NOBODY.parse().ok(), None).ok()?;
            }
        }
        Some(group)
    }
}

impl Drop for DelegatedGroup {
    fn drop(&mut self) {
        for folder in &self.folders {
            // The groups below it first; removing one that has processes fails.
            let _ =
                Command::new("find").arg(folder).args(["-depth", "-type", "d", "-exec", "rmdir", "{}", ";"]).status();
        }
    }
}

fn delegated() -> Result<(), Failed> {
    let Some(group) = DelegatedGroup::new() else {
        eprintln!("this machine allows no control groups: those that are delegated are not tested");
        return Ok(());
    };
    as_nobody("escape", Some(&group))
}

fn as_nobody(name: &str, group: Option<&DelegatedGroup>) -> Result<(), Failed> {
    let folder = TempDir::new()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777))?;
    // Copied to where the user `nobody` can read it.
    let program = folder.path().join("it");
    fs::copy(std::env::current_exe()?, &program)?;
    let run = |program: &std::path::Path, arguments: &[&str]| {
        let mut command = Command::new("sh");
        // It joins the groups before it gives up its rights.
        let folders = group.map_or(&[][..], |group| &group.folders);
        let joins: String =
            folders.iter().map(|folder| format!("echo $$ > {}/cgroup.procs && ", folder.display())).collect();
        command.args(["-c", &format!("{joins}exec setpriv \"$@\""), "sh"]);
        command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]).arg(program).args(arguments);
        if group.is_some() {
            command.env(EXPECTS_GROUPS, "1");
        }
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
