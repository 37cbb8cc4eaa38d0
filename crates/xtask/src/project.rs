//! The project's folder and files, and how programs are run in it.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The workspace.
pub struct Project {
    /// Its folder.
    pub root: PathBuf,
}

impl Project {
    /// The workspace that this program was built from.
    pub fn open() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
        match root {
            Some(root) if root.join("Cargo.toml").is_file() => Ok(Self { root: root.to_owned() }),
            _ => bail!("find the workspace: it has moved since `cargo x` was built; build it again"),
        }
    }

    /// A command that runs Cargo with the target folder that all builds share.
    pub fn cargo(&self) -> Result<Command> {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        // Variables that the outer Cargo sets for xtask (CARGO_MANIFEST_DIR, ...) must not be passed on: ring's build
        // script watches some of them, and all that depends on it would be built again.
        let is_of_xtask = |name: &str| {
            let is_of_user =
                matches!(name, "CARGO_HOME" | "CARGO_TARGET_DIR" | "CARGO_INCREMENTAL" | "CARGO_BUILD_JOBS");
            (name.starts_with("CARGO_") && !is_of_user) || name == "LD_LIBRARY_PATH"
        };
        for (name, _) in env::vars_os() {
            if name.to_str().is_some_and(is_of_xtask) {
                command.env_remove(name);
            }
        }
        command.current_dir(&self.root).env("CARGO_TARGET_DIR", self.target_dir()?);
        Ok(command)
    }

    /// CARGO_TARGET_DIR where it is set, else `~/.cache/wattlake/target`.
    pub fn target_dir(&self) -> Result<PathBuf> {
        if let Some(dir) = env::var_os("CARGO_TARGET_DIR") {
            return Ok(self.root.join(dir));
        }
        let home = env::var_os("HOME").context("find the target folder: neither CARGO_TARGET_DIR nor HOME is set")?;
        Ok(Path::new(&home).join(".cache/wattlake/target"))
    }

    /// A command that runs a program in the workspace's folder.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        command
    }

    /// The sorted paths, relative to the root, of all existing files that git tracks or would track.
    pub fn files(&self) -> Result<Vec<String>> {
        let mut command = self.command("git");
        let listed = output(command.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]))?;
        let mut files: Vec<String> = listed.split('\0').filter(|f| !f.is_empty()).map(str::to_owned).collect();
        files.retain(|f| self.root.join(f).is_file());
        files.sort();
        files.dedup();
        Ok(files)
    }
}

/// Runs a command with this program's own output; a failure is an error.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("start {}", command_text(command)))?;
    if !status.success() {
        bail!("{}: {status}", command_text(command));
    }
    Ok(())
}

/// Runs a command and returns its standard output; the error of a failure has its standard error.
pub fn output(command: &mut Command) -> Result<String> {
    let done = command.stdin(Stdio::null()).output().with_context(|| format!("start {}", command_text(command)))?;
    if !done.status.success() {
        bail!("{}: {}\n{}", command_text(command), done.status, String::from_utf8_lossy(&done.stderr).trim());
    }
    String::from_utf8(done.stdout).with_context(|| format!("read what {} wrote", command_text(command)))
}

/// Whether `program --version` succeeds.
pub fn is_installed(command: &mut Command) -> bool {
    command
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

/// A command as text for messages, at most about 200 characters.
pub fn command_text(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let mut text = words.map(|w| w.to_string_lossy()).collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = text.char_indices().nth(200) {
        text.truncate(end);
        text.push_str(" ...");
    }
    text
}
