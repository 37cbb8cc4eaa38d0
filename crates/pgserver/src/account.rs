//! Which user the programs run as: our own, or `postgres` when we are root, since PostgreSQL
//! refuses root. Every program is started here, in a group that ends with our process.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, fchown, lchown};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use supervisor::{Ending, Group, Signal};

use crate::Result;
use crate::cancellation::Cancellation;
use crate::error::{During, Error};

const SERVER_USER: &str = "postgres";
/// Our own environment is not passed on (PGDATA, PGHOST, LANG... would change what children do),
/// so the folders where `setpriv` and `id` are looked for are named here.
const SYSTEM_PATH: &str = "/usr/bin:/bin:/usr/sbin:/sbin:/usr/local/bin:/run/current-system/sw/bin";

/// Immediate shutdown, its backends included: they are in sessions of their own, so only the
/// server's main process reaches them. It gives them 5 s itself.
pub(crate) const SERVER: Ending = Ending { signal: Signal::Quit, patience: Duration::from_secs(10) };
/// What has to be there for any program to be started.
pub(crate) const LAUNCHER: &str = "`setpriv` (package util-linux) and `/bin/sh`";

#[derive(Clone, Copy, Debug)]
pub(crate) struct Account {
    /// Uid and gid of `postgres`, when we are root.
    other: Option<(u32, u32)>,
}

impl Account {
    pub fn current() -> Result<Self> {
        if effective_uid()? != 0 {
            return Ok(Self { other: None });
        }
        Ok(Self { other: Some((numeric_id("-u")?, numeric_id("-g")?)) })
    }

    /// A command that runs `program` under this account, in the folder `cwd`, with an empty
    /// environment. To be started by [`Account::start`] or [`Account::run`] alone.
    pub fn command(&self, program: &Path, cwd: &Path) -> Command {
        let mut command = match self.launcher() {
            Some(mut launcher) => {
                launcher.arg(program);
                launcher
            }
            None => system_command(program),
        };
        command.current_dir(cwd).stdin(Stdio::null());
        command
    }

    /// `setpriv` replaces itself by the program: the child's pid is the program's.
    fn launcher(&self) -> Option<Command> {
        self.other?;
        let mut command = system_command("setpriv");
        command.arg(format!("--reuid={SERVER_USER}")).arg(format!("--regid={SERVER_USER}"));
        command.args(["--init-groups", "--"]);
        Some(command)
    }

    fn group(&self, ending: Ending) -> std::io::Result<Group> {
        match self.launcher() {
            // As the same user: the watcher can signal nobody else's processes.
            Some(launcher) => Group::under(launcher, ending),
            None => Group::new(ending),
        }
    }

    /// Starts a program that ends when our process does, or when it is dropped, with all that it
    /// has started.
    pub fn start(&self, command: &mut Command, ending: Ending) -> std::io::Result<Program> {
        let group = self.group(ending)?;
        let child = group.spawn(command)?;
        Ok(Program { child, group: Arc::new(group) })
    }

    /// Runs a tool to its end and returns its standard output; a failure tells its last words.
    pub fn run(&self, command: &mut Command, doing: &str) -> Result<String> {
        self.run_until(&Cancellation::default(), command, doing)
    }

    /// As [`Account::run`], until it is cancelled.
    pub fn run_until(&self, cancellation: &Cancellation, command: &mut Command, doing: &str) -> Result<String> {
        let output = self.finish(cancellation, command, doing)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(Error::setup(format!("{doing}: {}: {}", output.status, last_lines(&said, 8))))
    }

    pub fn own_folder(&self, path: &Path) -> Result<()> {
        let Some((uid, gid)) = self.other else {
            return Ok(());
        };
        lchown(path, Some(uid), Some(gid)).during(|| format!("give {} to postgres", path.display()))
    }

    /// A new file of mode 0600 that belongs to the account, in place of the one that was there.
    /// Removed and created, never opened: in a folder of `postgres`, root must not follow a link.
    pub fn fresh_file(&self, path: &Path, content: &str) -> Result<File> {
        remove_if_there(path)?;
        let doing = || format!("write {}", path.display());
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).during(doing)?;
        file.write_all(content.as_bytes()).during(doing)?;
        if let Some((uid, gid)) = self.other {
            fchown(&file, Some(uid), Some(gid)).during(doing)?;
        }
        Ok(file)
    }

    /// Proves, as the account itself, that it can reach `dir`; if not, names the folder that blocks.
    pub fn check_reach(&self, dir: &Path) -> Result<()> {
        if self.other.is_none() || self.can_enter(dir)? {
            return Ok(());
        }
        let mut chain: Vec<&Path> = dir.ancestors().collect();
        chain.reverse();
        for folder in chain {
            if !self.can_enter(folder)? {
                return Err(Error::setup(format!(
                    "reach {} as user {SERVER_USER}: folder {} can't be traversed by that user; \
                     run `chmod o+x {}` or choose another folder",
                    dir.display(),
                    folder.display(),
                    folder.display()
                )));
            }
        }
        Err(Error::setup(format!("reach {} as user {SERVER_USER}", dir.display())))
    }

    fn can_enter(&self, dir: &Path) -> Result<bool> {
        let mut command = self.command(Path::new("test"), Path::new("/"));
        let output = self.finish(&Cancellation::default(), command.arg("-x").arg(dir), "test a folder's access")?;
        Ok(output.status.success())
    }

    fn finish(&self, cancellation: &Cancellation, command: &mut Command, doing: &str) -> Result<Output> {
        cancellation.check(doing)?;
        let starting = || format!("{doing}: start {LAUNCHER}");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let group = Arc::new(self.group(Ending::TOOL).during(starting)?);
        let child = group.spawn(command).during(starting)?;
        cancellation.reaches(&group);
        let output = child.wait_with_output().during(|| doing.to_owned())?;
        cancellation.check(doing)?;
        Ok(output)
    }
}

/// A running program. Dropped, it is killed, with all that is left in its group.
#[derive(Debug)]
pub(crate) struct Program {
    pub child: Child,
    /// A [`Cancellation`] has it too, while it kills it.
    pub group: Arc<Group>,
}

impl Drop for Program {
    fn drop(&mut self) {
        self.group.kill();
        // Also where the group's watcher was killed. An error says that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.during(|| format!("remove {}", path.display())),
    }
}

pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

fn system_command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", SYSTEM_PATH).env("LC_ALL", "C");
    command
}

fn effective_uid() -> Result<u32> {
    let status = fs::read_to_string("/proc/self/status").during(|| "read our user id".into())?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .and_then(|ids| ids.split_whitespace().nth(1)?.parse().ok())
        .ok_or_else(|| Error::setup("read our user id: /proc/self/status has no Uid line"))
}

fn numeric_id(flag: &str) -> Result<u32> {
    let output = system_command("id")
        .args([flag, SERVER_USER])
        .stdin(Stdio::null())
        .output()
        .during(|| format!("look up user {SERVER_USER}"))?;
    String::from_utf8_lossy(&output.stdout).trim().parse().map_err(|_| {
        Error::setup(format!(
            "look up user {SERVER_USER}: PostgreSQL refuses to run as root, and there is no \
                 such user; create it, or do not run as root"
        ))
    })
}
