//! The host's side: starts a sandbox, receives its sockets, learns how it ended, ends it.

use std::fs::File;
use std::io::Write;
use std::net::{Shutdown, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};

use crate::error::{During, Error, Kind, Result};

use super::cgroup::{self, Cgroup};
use super::socket::{Order, Told, receive, send};
use super::spares::Spares;
use super::{Ahead, IN_USER_NAMESPACE, OUTSIDE, Spec};

/// Mounts and namespaces take milliseconds; a machine that swaps may take seconds.
const START_MAX: Duration = Duration::from_secs(20);

const KILL_AFTER: Duration = Duration::from_secs(1);
const LOOK_PERIOD: Duration = Duration::from_micros(500);
const START: &str = "start a sandbox";

/// Starts sandboxes with the program that it is part of.
#[derive(Debug)]
pub struct Launcher {
    maker: Maker,
    spares: OnceLock<Spares>,
}

#[derive(Debug, Clone)]
pub(super) struct Maker {
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
        Launcher { maker: Maker { program }, spares: OnceLock::new() }
    }

    /// From now on so many sandboxes are made ahead, for functions on this machine's programs;
    /// once. Their root is mounted on `mount_at`, an existing folder.
    pub fn keep_spares(&self, most: usize, mount_at: &Path) {
        let ahead = Ahead { mount_at: mount_at.to_owned(), base: None };
        self.spares.get_or_init(|| Spares::keep(self.maker.clone(), ahead, most));
    }

    /// Removes what launchers of processes that were killed have left on this machine.
    pub fn sweep() {
        cgroup::sweep();
    }

    /// Blocks until the bootstrap has been started, for some milliseconds. `output` takes all that
    /// the function prints.
    ///
    /// # Errors
    /// [`Kind::FixInput`] where the function has no bootstrap, [`Kind::FixSetup`] where this
    /// machine allows no namespaces: both name the step.
    pub fn launch(&self, spec: &Spec, output: &File) -> Result<Sandbox> {
        if let Some(mut spare) = self.spares.get().and_then(|spares| spares.take(spec.ahead.base.as_deref())) {
            match spare.begin(spec, output) {
                Ok(()) => return Ok(spare),
                // It has died, of whatever.
                Err(error) if error.kind == Kind::Retry => {}
                Err(error) => return Err(error),
            }
        }
        let mut sandbox = self.maker.make(&spec.ahead)?;
        sandbox.begin(spec, output)?;
        Ok(sandbox)
    }
}

impl Maker {
    /// What is made ahead is made by the sandbox itself, after this returns.
    pub fn make(&self, ahead: &Ahead) -> Result<Sandbox> {
        let (host, child_end) = UnixStream::pair().during(Kind::FixSetup, START)?;
        let mut command = Command::new(&self.program);
        command.arg(OUTSIDE);
        if !geteuid().is_root() {
            command.arg(IN_USER_NAMESPACE);
        }
        command.env_clear().stdin(Stdio::from(OwnedFd::from(child_end))).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().during(Kind::FixSetup, START)?;
        // With the host's own number: what a killed host leaves behind can be told.
        let cgroup = Cgroup::make(&format!("{}-{}", std::process::id(), uuid::Uuid::now_v7().simple()));
        let sandbox = Sandbox { child: Mutex::new(child), socket: host, listeners: Vec::new(), results: None, cgroup };
        if let Some(cgroup) = &sandbox.cgroup {
            cgroup.add(sandbox.process()).during(Kind::FixSetup, "bound a sandbox's memory")?;
        }
        // Its process may end before it reads: what it tells later says why.
        let _ = (&sandbox.socket).write_all(b"g").and_then(|()| send(&sandbox.socket, ahead, &[]));
        Ok(sandbox)
    }
}

impl Sandbox {
    fn begin(&mut self, spec: &Spec, output: &File) -> Result<()> {
        let mut spec = spec.clone();
        if let Some(cgroup) = &self.cgroup {
            cgroup.bound(spec.limits).during(Kind::FixSetup, "bound a sandbox's memory")?;
            if cgroup.bounds_processes() {
                // RLIMIT_NPROC counts all that a user runs: the instances of a function would share it.
                spec.limits.processes = u64::from(u32::MAX);
            }
        }
        self.socket.set_read_timeout(Some(START_MAX)).during(Kind::Bug, START)?;
        let order = Order { spec: &spec, watches_memory: self.cgroup.is_none() };
        let _ = send(&self.socket, &order, &[output.as_fd()]);
        match receive::<Told>(&self.socket) {
            Ok((Told::Ready, mut open)) => {
                let expected = spec.ports.len() + usize::from(spec.results_mb.is_some());
                if open.len() != expected {
                    return Err(Error::new(Kind::Bug, format!("{START}: {} open files, not {expected}", open.len())));
                }
                self.results = open.split_off(spec.ports.len()).pop();
                self.listeners = open.into_iter().map(TcpListener::from).collect();
            }
            Ok((Told::Failed { step, error }, _)) => {
                let kind = if step == "find its bootstrap" { Kind::FixInput } else { Kind::FixSetup };
                return Err(Error::new(kind, format!("{START}: {step}")).because(error));
            }
            Ok((Told::Exited { .. } | Told::OutOfMemory, _)) => {
                return Err(Error::new(Kind::Retry, format!("{START}: it ended at once")));
            }
            Err(error) => return Err(Error::new(Kind::Retry, format!("{START}: it said nothing")).because(error)),
        }
        self.socket.set_read_timeout(None).during(Kind::Bug, START)
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
        let told = receive(&self.socket).map(|(told, _)| told);
        let ran_out = self.cgroup.as_ref().is_some_and(Cgroup::ran_out_of_memory);
        match told {
            _ if ran_out => End::OutOfMemory,
            Ok(Told::OutOfMemory) => End::OutOfMemory,
            Ok(Told::Exited { code: Some(code), .. }) => End::Exit(code),
            Ok(Told::Exited { signal: Some(signal), .. }) => End::Signal(signal),
            _ => End::Killed,
        }
    }

    /// False once its processes have ended.
    pub(super) fn is_alive(&self) -> bool {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(child.try_wait(), Ok(None))
    }

    pub fn memory_peak_bytes(&self) -> Option<u64> {
        self.cgroup.as_ref()?.memory_peak_bytes()
    }

    /// Ends every process in it, and waits until they are gone. Blocks for moments.
    pub fn kill(&self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        // The first process inside watches for the end of the host's words, and ends. The kernel
        // ends all others with it, and only then does the child learn of it: its end is everyone's.
        let _ = self.socket.shutdown(Shutdown::Write);
        let began = Instant::now();
        while matches!(child.try_wait(), Ok(None)) && began.elapsed() < KILL_AFTER {
            sleep(LOOK_PERIOD);
        }
        // One that does not hear is killed by its parent's end, which need not wait for it.
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw)
            && matches!(child.try_wait(), Ok(None))
        {
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = child.wait();
    }

    fn process(&self) -> u32 {
        self.child.lock().unwrap_or_else(PoisonError::into_inner).id()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.kill();
    }
}
