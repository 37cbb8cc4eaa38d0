//! Programs that this process starts, ended together with all that they start when this process
//! ends, however it ends.
//!
//! A program that outlives its parent may hold a connection, a replication slot or a lock at
//! somebody else's server. PR_SET_PDEATHSIG does not prevent that: it reaches the program itself but
//! none of its children, and the kernel sends it at the end of the *thread* that started the
//! program. Here each program is in a process group whose leader is a small shell script, the
//! watcher. The watcher reads from a pipe of which only this process has the other end, and the
//! kernel closes that end when this process ends, by SIGKILL or otherwise. The watcher then ends
//! the group: a signal of the caller's choice first, SIGKILL once the program has ended or the time
//! is up.
//!
//! A process that leaves its group (a daemon, a server's backend) is not reached. The programs do
//! not belong to the terminal's foreground group: Ctrl-C there is sent to this process alone, and
//! none of them may read from the terminal.
//!
//! This crate never signals a process outside the groups that it made.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

#[cfg(test)]
mod tests;

const SHELL: &str = "/bin/sh";
const WATCH: &str = include_str!("watch.sh");
/// Where the watcher finds `sleep`.
const PATH: &str = "/usr/bin:/bin:/run/current-system/sw/bin";

/// How the group is ended when this process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    pub signal: Signal,
    /// Between the signal and SIGKILL, where the program has not ended before.
    pub patience: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Quit,
    Term,
}

impl Ending {
    /// For a program that does one thing and ends by itself.
    pub const TOOL: Ending = Ending { signal: Signal::Term, patience: Duration::from_secs(5) };
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Signal::Quit => "QUIT",
            Signal::Term => "TERM",
        }
    }
}

/// A process group. Dropped, it is ended by SIGKILL at once. One program is started in it, which
/// may start others.
///
/// All methods may be called from any thread. Where somebody has killed the watcher, the methods
/// have no effect on what is in the group: the caller still kills the program by its own `Child`.
#[derive(Debug)]
pub struct Group {
    id: u32,
    watcher: Mutex<Child>,
    lifeline: ChildStdin,
}

impl Group {
    /// An empty group of this process's own user.
    pub fn new(ending: Ending) -> io::Result<Group> {
        let mut watcher = Command::new(SHELL);
        watcher.env_clear().env("PATH", PATH);
        Group::led_by(watcher, ending)
    }

    /// An empty group of another user. `launcher` changes the user and executes what its arguments
    /// end with, such as `setpriv --reuid=postgres --`. Its PATH must lead to `sleep`.
    pub fn under(mut launcher: Command, ending: Ending) -> io::Result<Group> {
        launcher.arg(SHELL);
        Group::led_by(launcher, ending)
    }

    fn led_by(mut watcher: Command, ending: Ending) -> io::Result<Group> {
        let tenths = ending.patience.as_millis().div_ceil(100).to_string();
        watcher.args(["-c", WATCH, "watch", ending.signal.name(), &tenths]);
        // Its working folder is nobody's: a folder that is in use may not be removed or unmounted.
        watcher.current_dir("/").process_group(0);
        let mut watcher = watcher.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let lifeline = watcher.stdin.take().ok_or_else(|| io::Error::other("the watcher has no pipe"))?;
        Ok(Group { id: watcher.id(), watcher: Mutex::new(watcher), lifeline })
    }

    /// What [`CommandExt::process_group`] takes, for a command that is not started by [`Group::spawn`].
    pub fn id(&self) -> i32 {
        // A process's number fits by the kernel's own bound (2^22); zero would mean a new group.
        i32::try_from(self.id).unwrap_or(0)
    }

    /// Starts the program in the group. Where this process ends meanwhile, the program is ended
    /// too: until it has joined the group and is executed, it has the other end of the pipe as well.
    pub fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        let child = command.process_group(self.id()).spawn()?;
        self.follow(child.id());
        Ok(child)
    }

    /// Names the group's program where it was not started by [`Group::spawn`]: once it has ended,
    /// the others are not waited for.
    pub fn follow(&self, program: u32) {
        self.tell(&format!("program {program}"));
    }

    /// Runs the program to its end, without an input. What it has left in the group is not ended
    /// before the group is dropped.
    pub fn output(&self, command: &mut Command) -> io::Result<Output> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.spawn(command)?.wait_with_output()
    }

    /// Sends SIGKILL to every process of the group, once the watcher reads it. Does not wait.
    pub fn kill(&self) {
        self.tell("kill");
    }

    /// What is left in the group is free to outlive this process.
    pub fn release(self) {
        self.tell("release");
        self.reap();
    }

    /// Refused where the watcher has ended: then there is nobody to tell.
    fn tell(&self, order: &str) {
        let _ = (&self.lifeline).write_all(format!("{order}\n").as_bytes());
    }

    /// The number is the group's until the watcher was waited for, so it is never another's.
    fn reap(&self) {
        let mut watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = watcher.wait();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Without effect after `release`: the watcher has ended.
        self.kill();
        self.reap();
    }
}

/// Runs a tool to its end in a group of its own, and ends what it has left there.
pub fn output(command: &mut Command) -> io::Result<Output> {
    Group::new(Ending::TOOL)?.output(command)
}
