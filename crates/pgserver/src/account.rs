//! The user that programs run as: that of this process, or `postgres` for root, which PostgreSQL refuses. Every program
//! is started here, in a group that ends with this process.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, fchown, lchown};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use supervisor::{Group, Signal, Termination};

use crate::Result;
use crate::cancellation::Cancellation;
use crate::error::{Error, ErrorContext};

const SERVER_USER: &str = "postgres";
/// The folders with `setpriv` and `id`. The environment of this process is not passed on, since PGDATA, PGHOST or LANG
/// would change what programs do.
const SYSTEM_PATH: &str = "/usr/bin:/bin:/usr/sbin:/sbin:/usr/local/bin:/run/current-system/sw/bin";

/// How a server ends with this process: by an immediate shutdown. Its backends are in sessions of their own, so only
/// its main process can end them; it allows them 5 s.
pub(crate) const SERVER_TERMINATION: Termination =
    Termination { signal: Signal::Quit, grace_period: Duration::from_secs(10) };
/// What starting a program requires, for messages.
pub(crate) const LAUNCHER: &str = "`setpriv` (package util-linux) and `/bin/sh`";

/// The user that programs run as.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account {
    /// Uid and gid of `postgres`, where this process runs as root.
    other: Option<(u32, u32)>,
}

impl Account {
    /// The account for this process's user.
    ///
    /// # Errors
    /// Where the user is root and there is no user `postgres`.
    pub fn current() -> Result<Self> {
        if effective_uid()? != 0 {
            return Ok(Self { other: None });
        }
        Ok(Self { other: Some((numeric_id("-u")?, numeric_id("-g")?)) })
    }

    /// A command that executes `program` under this account, in the folder `cwd`, with an empty environment. Only
    /// [`Account::start`] and [`Account::run`] start it in a group.
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

    /// The command that changes the user. `setpriv` replaces itself by the program, so the child's pid is the
    /// program's.
    fn launcher(&self) -> Option<Command> {
        self.other?;
        let mut command = system_command("setpriv");
        command.arg(format!("--reuid={SERVER_USER}")).arg(format!("--regid={SERVER_USER}"));
        command.args(["--init-groups", "--"]);
        Some(command)
    }

    fn group(&self, termination: Termination) -> std::io::Result<Group> {
        match self.launcher() {
            // Under the same user, so that the watcher may signal the programs.
            Some(launcher) => Group::with_launcher(launcher, termination),
            None => Group::new(termination),
        }
    }

    /// Starts a program that ends, with all processes that it has started, when this process ends or when the result is
    /// dropped.
    pub fn start(&self, command: &mut Command, termination: Termination) -> std::io::Result<Program> {
        let group = self.group(termination)?;
        let child = group.spawn(command)?;
        Ok(Program { child, group: Arc::new(group) })
    }

    /// Runs a tool and returns its standard output. Where it fails, the error has the last lines of its standard error.
    pub fn run(&self, command: &mut Command, doing: &str) -> Result<String> {
        self.run_until(&Cancellation::default(), command, doing)
    }

    /// As [`Account::run`]. A cancellation kills the tool.
    pub fn run_until(&self, cancellation: &Cancellation, command: &mut Command, doing: &str) -> Result<String> {
        let output = self.finish(cancellation, command, doing)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        Err(Error::setup(format!("{doing}: {}: {}", output.status, last_lines(&stderr, 8))))
    }

    /// Makes the account the owner of a file or folder. Does not follow a link.
    pub fn give_to_account(&self, path: &Path) -> Result<()> {
        let Some((uid, gid)) = self.other else {
            return Ok(());
        };
        lchown(path, Some(uid), Some(gid)).during(|| format!("give {} to postgres", path.display()))
    }

    /// Creates a file of mode 0600 that belongs to the account, and replaces an existing one. An existing file is
    /// removed and not opened: in a folder of `postgres`, root must not follow a link.
    pub fn create_file(&self, path: &Path, content: &str) -> Result<File> {
        remove_if_there(path)?;
        let doing = || format!("write {}", path.display());
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).during(doing)?;
        file.write_all(content.as_bytes()).during(doing)?;
        if let Some((uid, gid)) = self.other {
            fchown(&file, Some(uid), Some(gid)).during(doing)?;
        }
        Ok(file)
    }

    /// Checks under the account that it can enter `dir`.
    ///
    /// # Errors
    /// Where it can't, with the folder of the path that refuses.
    pub fn check_access(&self, dir: &Path) -> Result<()> {
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
        let group = Arc::new(self.group(Termination::TOOL).during(starting)?);
        let child = group.spawn(command).during(starting)?;
        cancellation.attach(&group);
        let output = child.wait_with_output().during(|| doing.to_owned())?;
        cancellation.check(doing)?;
        Ok(output)
    }
}

/// A running program. Dropping it kills all processes of its group.
#[derive(Debug)]
pub(crate) struct Program {
    /// The program's process.
    pub child: Child,
    /// Its group, which a [`Cancellation`] shares while it kills it.
    pub group: Arc<Group>,
}

impl Drop for Program {
    fn drop(&mut self) {
        self.group.kill();
        // Where the group's watcher was killed, only this kills the program. An error means that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Removes a file; without effect where there is none.
pub(crate) fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.during(|| format!("remove {}", path.display())),
    }
}

/// The last lines of a text that are not empty.
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
    let status = fs::read_to_string("/proc/self/status").during(|| "read the user id of this process".into())?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .and_then(|ids| ids.split_whitespace().nth(1)?.parse().ok())
        .ok_or_else(|| Error::setup("read the user id of this process: /proc/self/status has no line Uid"))
}

fn numeric_id(flag: &str) -> Result<u32> {
    let output = system_command("id")
        .args([flag, SERVER_USER])
        .stdin(Stdio::null())
        .output()
        .during(|| format!("look up user {SERVER_USER}"))?;
    String::from_utf8_lossy(&output.stdout).trim().parse().map_err(|_| {
        Error::setup(format!(
            "look up user {SERVER_USER}: PostgreSQL refuses to run as root, and this \
                 user does not exist; create it, or run as another user than root"
        ))
    })
}
