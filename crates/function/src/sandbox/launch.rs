//! The host's side: starts a sandbox, receives its sockets, learns how it ended, ends it.

use std::fs::File;
use std::io::Write;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use rustix::process::{Pid, Signal, geteuid, kill_process};

use crate::error::{During, Error, Kind, Result};

use super::cgroup::{self, Cgroup};
use super::socket::{Told, read_line, receive_open, write_line};
use super::{IN_USER_NAMESPACE, OUTSIDE, Spec};

/// Mounts and namespaces take milliseconds; a machine that swaps may take seconds.
const START_MAX: Duration = Duration::from_secs(20);

/// Starts sandboxes with the program that it is part of.
#[derive(Debug)]
pub struct Launcher {
    program: PathBuf,
}

/// How the bootstrap ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Exit(i32),
    Signal(i32),
    OutOfMemory,
    /// The sandbox went with it, or before it: killed from outside.
    Killed,
}

/// A living sandbox. Dropped, it is killed.
#[derive(Debug)]
pub struct Sandbox {
    child: Mutex<Child>,
    socket: UnixStream,
    listeners: Vec<TcpListener>,
    results: Option<OwnedFd>,
    cgroup: Option<Cgroup>,
}

impl Launcher {
    /// `program` asks [`super::door`] first: it is the running one, wherever that stands.
    pub fn new(program: PathBuf) -> Launcher {
        Launcher { program }
    }

    /// Removes what launchers of processes that were killed have left on this machine.
    pub fn sweep() {
        cgroup::sweep();
    }

    /// Blocks until the bootstrap has been started, for some milliseconds. `name` is unique on
    /// this machine; `output` takes all that the function prints.
    ///
    /// # Errors
    /// [`Kind::FixInput`] where the function has no bootstrap, [`Kind::FixSetup`] where this
    /// machine allows no namespaces: both name the step.
    pub fn launch(&self, name: &str, spec: &Spec, output: &File) -> Result<Sandbox> {
        const START: &str = "start a sandbox";
        let (host, child_end) = UnixStream::pair().during(Kind::FixSetup, START)?;
        let output = |what: &str| output.try_clone().during(Kind::FixSetup, format!("{START}: {what}"));
        let mut command = Command::new(&self.program);
        command.arg(OUTSIDE);
        if !geteuid().is_root() {
            command.arg(IN_USER_NAMESPACE);
        }
        command.env_clear().stdin(Stdio::from(OwnedFd::from(child_end)));
        command.stdout(output("its output")?).stderr(output("its errors")?);
        let child = command.spawn().during(Kind::FixSetup, START)?;
        let cgroup = Cgroup::make(name, spec.limits);
        let mut spec = spec.clone();
        if cgroup.as_ref().is_some_and(Cgroup::bounds_processes) {
            // RLIMIT_NPROC counts all that a user runs: the instances of a function would share it.
            spec.limits.processes = u64::from(u32::MAX);
        }
        let mut sandbox =
            Sandbox { child: Mutex::new(child), socket: host, listeners: Vec::new(), results: None, cgroup };
        if let Some(cgroup) = &sandbox.cgroup {
            cgroup.add(sandbox.process()).during(Kind::FixSetup, "bound a sandbox's memory")?;
        }
        sandbox.begin(&spec)?;
        Ok(sandbox)
    }
}

impl Sandbox {
    fn begin(&mut self, spec: &Spec) -> Result<()> {
        const START: &str = "start a sandbox";
        self.socket.set_read_timeout(Some(START_MAX)).during(Kind::Bug, START)?;
        // Its process may end before it reads: what it told says why.
        let sent = self.socket.write_all(b"g").and_then(|()| write_line(&mut self.socket, spec));
        let expected = spec.ports.len() + usize::from(spec.results_mb.is_some());
        match (sent, receive_open(&self.socket)) {
            (Ok(()), Ok(mut open)) if open.len() == expected && expected > 0 => {
                self.results = open.split_off(spec.ports.len()).pop();
                self.listeners = open.into_iter().map(TcpListener::from).collect();
                self.told_ready(None)?;
            }
            (_, first) => self.told_ready(first.ok().map(|_| b'{'))?,
        }
        self.socket.set_read_timeout(None).during(Kind::Bug, START)
    }

    /// Reads the sandbox's word on its start; `first` is a byte of it that is already read.
    fn told_ready(&mut self, first: Option<u8>) -> Result<()> {
        let told: std::io::Result<Told> = match first {
            None => read_line(&mut self.socket),
            Some(byte) => read_rest(&mut self.socket, byte),
        };
        match told {
            Ok(Told::Ready) => Ok(()),
            Ok(Told::Failed { step, error }) => {
                let kind = if step == "find its bootstrap" { Kind::FixInput } else { Kind::FixSetup };
                Err(Error::new(kind, format!("start a sandbox: {step}")).because(error))
            }
            Ok(Told::Exited { .. }) => Err(Error::new(Kind::Retry, "start a sandbox: it ended at once")),
            Err(error) => Err(Error::new(Kind::Retry, "start a sandbox: it said nothing").because(error)),
        }
    }

    /// In the order of [`Spec::ports`]; once.
    pub fn take_listeners(&mut self) -> Vec<TcpListener> {
        std::mem::take(&mut self.listeners)
    }

    /// The folder at `/results`, as long as it is kept; once.
    pub fn take_results(&mut self) -> Option<OwnedFd> {
        self.results.take()
    }

    /// Blocks until the bootstrap has ended.
    pub fn wait(&self) -> End {
        let told = self.socket.try_clone().and_then(|mut socket| read_line(&mut socket));
        let ran_out = self.cgroup.as_ref().is_some_and(Cgroup::ran_out_of_memory);
        match told {
            _ if ran_out => End::OutOfMemory,
            Ok(Told::Exited { code: Some(code), .. }) => End::Exit(code),
            Ok(Told::Exited { signal: Some(signal), .. }) => End::Signal(signal),
            _ => End::Killed,
        }
    }

    pub fn memory_peak_bytes(&self) -> Option<u64> {
        self.cgroup.as_ref()?.memory_peak_bytes()
    }

    /// Ends every process in it, and waits until they are gone.
    pub fn kill(&self) {
        let mut child = self.child.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // The first process inside ends with this one, and all others with the first.
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw)
            && matches!(child.try_wait(), Ok(None))
        {
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = child.wait();
    }

    fn process(&self) -> u32 {
        self.child.lock().unwrap_or_else(std::sync::PoisonError::into_inner).id()
    }

    /// For messages only.
    pub fn socket_number(&self) -> i32 {
        self.socket.as_raw_fd()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.kill();
    }
}

fn read_rest(socket: &mut UnixStream, first: u8) -> std::io::Result<Told> {
    use std::io::Read;
    let mut line = vec![first];
    let mut byte = [0];
    while socket.read_exact(&mut byte).is_ok() && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    Ok(serde_json::from_slice(&line)?)
}
