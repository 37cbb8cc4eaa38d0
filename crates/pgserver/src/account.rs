//! Whom the children run as: us, or `postgres` when we are root, since PostgreSQL refuses root.
//! It never lets a child outlive the thread that started it.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, fchown, lchown};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::Result;
use crate::error::{During, Error};

const SERVER_USER: &str = "postgres";
/// Our own environment is not passed on (PGDATA, PGHOST, LANG... would change what children do),
/// so the folders where `setpriv` and `id` are looked for are named here.
const SYSTEM_PATH: &str = "/usr/bin:/bin:/usr/sbin:/sbin:/usr/local/bin:/run/current-system/sw/bin";

/// What the kernel sends to a child when the thread that started it ends.
#[derive(Clone, Copy)]
pub(crate) enum OnOurDeath {
    /// A server: immediate shutdown, backends included.
    Quit,
    /// A tool.
    Term,
}

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

    /// A command that runs `program` under this account, in the folder `cwd`, with an empty environment.
    /// `setpriv` replaces itself by the program: the child's pid is the program's.
    pub fn command(&self, program: &Path, cwd: &Path, on_our_death: OnOurDeath) -> Command {
        let mut command = system_command("setpriv");
        if self.other.is_some() {
            command.arg(format!("--reuid={SERVER_USER}"));
            command.arg(format!("--regid={SERVER_USER}"));
            command.arg("--init-groups");
        }
        command.arg(match on_our_death {
            OnOurDeath::Quit => "--pdeathsig=QUIT",
            OnOurDeath::Term => "--pdeathsig=TERM",
        });
        command.arg("--").arg(program);
        command.current_dir(cwd).stdin(Stdio::null());
        command
    }

    /// Runs a tool to its end and returns its standard output; a failure tells its last words.
    pub fn run(&self, command: &mut Command, doing: &str) -> Result<String> {
        let output = finish(command, doing)?;
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
        let mut command = self.command(Path::new("test"), Path::new("/"), OnOurDeath::Term);
        let output = finish(command.arg("-x").arg(dir), "test a folder's access")?;
        Ok(output.status.success())
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

fn system_command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", SYSTEM_PATH).env("LC_ALL", "C");
    command
}

fn finish(command: &mut Command, doing: &str) -> Result<Output> {
    command.output().during(|| format!("{doing}: start `setpriv` (package util-linux)"))
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
