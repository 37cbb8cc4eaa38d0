//! Starts programs that end, with all processes that they start, when this process ends, also by SIGKILL.
//!
//! A program that outlives its parent may hold a connection, a replication slot or a lock on another server.
//! PR_SET_PDEATHSIG does not prevent that: the kernel sends its signal to the program and not to the program's
//! children, and sends it at the end of the *thread* that started the program. Here each program is in a process group
//! whose leader is a small shell script, the watcher. The watcher reads from a pipe of which only this process has the
//! other end. When this process ends, the kernel closes that end, and the watcher ends the group: first by a signal
//! that the caller chooses, then by SIGKILL once the program has ended or the grace period is over.
//!
//! A process that leaves its group (a daemon, a backend of a server) is not ended. The programs are not in the
//! terminal's foreground group: Ctrl-C is sent to this process alone, and none of them may read from the terminal.
//!
//! This crate never signals a process outside the groups that it created.

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

/// How a group is ended when this process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Termination {
    /// The signal that is sent first.
    pub signal: Signal,
    /// The time between the signal and SIGKILL, where the program does not end earlier. Rounded up to 0.1 s.
    pub grace_period: Duration,
}

/// The signals that can be sent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGQUIT
    Quit,
    /// SIGTERM
    Term,
}

impl Termination {
    /// For a program that does one task and ends by itself: SIGTERM, and SIGKILL five seconds later.
    pub const TOOL: Termination = Termination { signal: Signal::Term, grace_period: Duration::from_secs(5) };
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Signal::Quit => "QUIT",
            Signal::Term => "TERM",
        }
    }
}

/// A process group with one program, which may start others. Dropping it ends all of them by SIGKILL.
///
/// All methods may be called from any thread. Where another process has killed the watcher, the methods have no effect
/// on the group; the caller can still kill the program by its `Child`.
#[derive(Debug)]
pub struct Group {
    id: u32,
    watcher: Mutex<Child>,
    orders: ChildStdin,
}

impl Group {
    /// Creates an empty group under this process's user.
    ///
    /// # Errors
    /// Where the shell can't be started.
    pub fn new(termination: Termination) -> io::Result<Group> {
        let mut watcher = Command::new(SHELL);
        watcher.env_clear().env("PATH", PATH);
        Group::with_watcher(watcher, termination)
    }

    /// Creates an empty group under another user. `launcher` changes the user and executes the command that follows its
    /// arguments, such as `setpriv --reuid=postgres --`. Its PATH must contain `sleep`.
    ///
    /// # Errors
    /// Where the launcher can't be started.
    pub fn with_launcher(mut launcher: Command, termination: Termination) -> io::Result<Group> {
        launcher.arg(SHELL);
        Group::with_watcher(launcher, termination)
    }

    fn with_watcher(mut watcher: Command, termination: Termination) -> io::Result<Group> {
        let tenths = termination.grace_period.as_millis().div_ceil(100).to_string();
        watcher.args(["-c", WATCH, "watch", termination.signal.name(), &tenths]);
        // The root folder: a working folder could not be unmounted.
        watcher.current_dir("/").process_group(0);
        let mut watcher = watcher.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let orders = watcher.stdin.take().ok_or_else(|| io::Error::other("the watcher has no pipe"))?;
        Ok(Group { id: watcher.id(), watcher: Mutex::new(watcher), orders })
    }

    /// The group's number for [`CommandExt::process_group`], for a command that is not started by [`Group::spawn`].
    pub fn id(&self) -> i32 {
        // The kernel's limit for process numbers is 2^22, so it fits; zero would mean a new group.
        i32::try_from(self.id).unwrap_or(0)
    }

    /// Starts the program in the group. The program is ended also where this process ends during the start: until the
    /// program has joined the group and is executed, it keeps the other end of the pipe open.
    ///
    /// # Errors
    /// Where the program can't be started.
    pub fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        let child = command.process_group(self.id()).spawn()?;
        self.set_program(child.id());
        Ok(child)
    }

    /// Sets the group's program where it was not started by [`Group::spawn`]. Once it has ended, the grace period of
    /// the other processes is over.
    pub fn set_program(&self, program: u32) {
        self.send(&format!("program {program}"));
    }

    /// Starts the program without input, waits for its end, and returns its output. Other processes of the group go on
    /// until the group is dropped.
    ///
    /// # Errors
    /// Where the program can't be started.
    pub fn output(&self, command: &mut Command) -> io::Result<Output> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.spawn(command)?.wait_with_output()
    }

    /// Makes the watcher send SIGKILL to every process of the group. Does not wait for their end.
    pub fn kill(&self) {
        self.send("kill");
    }

    /// Ends the supervision: the processes of the group may outlive this process.
    pub fn release(self) {
        self.send("release");
        self.wait();
    }

    /// Sends an order to the watcher. Without effect where the watcher has ended.
    fn send(&self, order: &str) {
        let _ = (&self.orders).write_all(format!("{order}\n").as_bytes());
    }

    /// Waits for the watcher's end. Until then the kernel does not use its number, the group's, for another process.
    fn wait(&self) {
        let mut watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = watcher.wait();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Without effect after `release`: the watcher has ended.
        self.kill();
        self.wait();
    }
}

/// Runs a command in a group of its own, waits for its end, and ends the processes that it has left.
///
/// # Errors
/// Where the command can't be started.
pub fn output(command: &mut Command) -> io::Result<Output> {
    Group::new(Termination::TOOL)?.output(command)
}
